// The most direct sensor of this machine as a count of joules since the agent started: counters unwrapped, powers integrated between readings.
import type { Clock } from '@ofa-fleet/shared/clock.ts';
import { failed, ok, type Failure } from '@ofa-fleet/shared/outcome.ts';
import { stepOverWrap } from '../energy.ts';
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
      if (raw.some((value) => value === null)) return failed('SENSOR_STALE', `${info.sensor} cannot be read (${paths.join(', ')})`);
      const last = before;
      const now = { atMs: clock.monotonicMs(), values: raw.map((value) => (value ?? NaN) * scale) };
      before = now;
      if (last === null) return ok(total);
      const seconds = (now.atMs - last.atMs) / 1000;
      const steps = now.values.map((value, i) => {
        const earlier = last.values[i] as number;
        if (info.kind === 'power') return ((value + earlier) / 2) * seconds;
        return value >= earlier ? value - earlier : stepOverWrap(earlier, value, seconds, info.wrapJoules);
      });
      if (steps.includes(null)) {
        return failed(
          'COUNTER_RESET',
          `${info.sensor} fell from ${last.values.join(', ')} to ${now.values.join(', ')} J, which no wrap explains: what it counted before is lost`,
        );
      }
      total += steps.reduce<number>((sum, step) => sum + (step ?? 0), 0);
      return ok(total);
    },
  };
}
