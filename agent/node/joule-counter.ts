// The most direct sensor of this machine as a count of joules since the agent started: counters unwrapped, powers integrated between readings.
import type { Clock } from '@ofa-fleet/shared/clock.ts';
import { failed, ok, type Failure } from '@ofa-fleet/shared/outcome.ts';
import { stepOverWrap } from '../energy.ts';
import type { JouleCounter } from '../energy-account.ts';
import { discoverMeters, explainNoMeter } from './meters/discover.ts';
import { placeOf, type FollowedSource, type Meter, type MeterHost } from './meters/meter.ts';
import { follow, isPolled, readNow } from './meters/source.ts';

interface Reading {
  readonly atMs: number;
  readonly value: number;
}

/** A sensor whose readings arrive by themselves is silent after so many of its usual gaps. */
const SILENT_GAPS = 5;
/** A program that is started for each reading is started no more often: the device serves beside it. */
const COMMAND_EVERY_MS = 1000;

/** SENSOR_MISSING, with what to do, where there is none. Must be read at least once in a turn of the counter (minutes for RAPL). */
export function openJouleCounter(host: MeterHost, clock: Clock): JouleCounter | Failure {
  const found = discoverMeters(host);
  const meter = found.meters[0];
  if (meter === undefined) return failed('SENSOR_MISSING', explainNoMeter(host, found));
  const { info, source } = meter;
  const read = isPolled(source) ? () => readingOf(clock, readNow(source)) : latestOf(meter, source, clock);
  let total = 0;
  let last: Reading | null = null;
  return {
    sensor: info.sensor,
    readJoules() {
      const now = read();
      if (now === null) return failed('SENSOR_STALE', `${info.sensor} cannot be read (${placeOf(source)})`);
      const before = last;
      last = now;
      if (before === null) return ok(total);
      const seconds = (now.atMs - before.atMs) / 1000;
      const step = stepOf(meter, before.value, now.value, seconds);
      if (step === null) {
        return failed(
          'COUNTER_RESET',
          `${info.sensor} fell from ${before.value} to ${now.value} J, which no wrap explains: what it counted before is lost`,
        );
      }
      total += step;
      return ok(total);
    },
  };
}

function readingOf(clock: Clock, value: number | null): Reading | null {
  return value === null ? null : { atMs: clock.monotonicMs(), value };
}

/** Joules between two readings; null where a counter was reset. */
function stepOf({ info }: Meter, before: number, now: number, seconds: number): number | null {
  if (info.kind === 'power') return ((now + before) / 2) * seconds;
  return now >= before ? now - before : stepOverWrap(before, now, seconds, info.wrapJoules);
}

/** The newest reading of a sensor that is listened to from here on; null before the first, and where it fell silent. */
function latestOf(meter: Meter, source: FollowedSource, clock: Clock): () => Reading | null {
  let latest: Reading | null = null;
  const gentle = source.kind === 'command' ? { ...source, everyMs: Math.max(source.everyMs, COMMAND_EVERY_MS) } : source;
  follow(gentle, (value) => (latest = readingOf(clock, value)));
  const patienceMs = SILENT_GAPS * Math.max(meter.typicalRefreshMs, COMMAND_EVERY_MS);
  return () => (latest === null || clock.monotonicMs() - latest.atMs > patienceMs ? null : latest);
}
