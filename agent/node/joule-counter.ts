// The most direct sensor of this machine as a count of joules since the agent started: counters unwrapped, powers integrated between readings.
import type { Clock } from '@ofa-fleet/shared/clock.ts';
import { failed, type Failure } from '@ofa-fleet/shared/outcome.ts';
import type { JouleCounter } from '../energy-account.ts';
import { readNumber } from './host-files.ts';
import { discoverMeters, explainNoMeter } from './meters/discover.ts';

/** SENSOR_MISSING, with what to do, where there is none. Must be read at least once in a turn of the counter (minutes for RAPL). */
export function openJouleCounter(sysfsRoot: string, clock: Clock): JouleCounter | Failure {
  const found = discoverMeters(sysfsRoot);
  const meter = found.meters[0];
  if (meter === undefined) return failed('SENSOR_MISSING', explainNoMeter(sysfsRoot, found));
  const { info, paths, scale } = meter;
  let total = 0;
  let before: { readonly atMs: number; readonly values: readonly number[] } | null = null;
  return {
    sensor: info.sensor,
    readJoules() {
      const raw = paths.map(readNumber);
      if (raw.some((value) => value === null)) return null;
      const last = before;
      const now = { atMs: clock.monotonicMs(), values: raw.map((value) => (value ?? NaN) * scale) };
      before = now;
      if (last === null) return total;
      const seconds = (now.atMs - last.atMs) / 1000;
      const joules = now.values.reduce((sum, value, i) => {
        const earlier = last.values[i] as number;
        if (info.kind === 'power') return sum + ((value + earlier) / 2) * seconds;
        return sum + (value >= earlier ? value - earlier : value - earlier + (info.wrapJoules ?? NaN));
      }, 0);
      // a counter that fell without a known range was reset: what it counted since its last reading is lost
      if (!Number.isFinite(joules)) return null;
      total += joules;
      return total;
    },
  };
}
