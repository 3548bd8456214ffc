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
  const { info, path, scale } = meter;
  let total = 0;
  let before: { readonly atMs: number; readonly value: number } | null = null;
  return {
    sensor: info.sensor,
    readJoules() {
      const raw = readNumber(path);
      if (raw === null) return null;
      const now = { atMs: clock.monotonicMs(), value: raw * scale };
      if (before !== null) {
        const step = now.value - before.value;
        const joules =
          info.kind === 'power'
            ? ((now.value + before.value) / 2) * ((now.atMs - before.atMs) / 1000)
            : step >= 0
              ? step
              : step + (info.wrapJoules ?? NaN);
        // a counter that fell without a known range was reset: what it counted since its last reading is lost
        if (!Number.isFinite(joules)) {
          before = now;
          return null;
        }
        total += joules;
      }
      before = now;
      return total;
    },
  };
}
