// What a deployment costs in joules while it serves: cumulative, idle and active apart, or why there are none. An interval counts as active if
// an inference was answered in it; intervals in which this agent measured a job belong to no deployment and are left out.
import type { Clock } from '@ofa-fleet/shared/clock.ts';
import type { Failure, Outcome } from '@ofa-fleet/shared/outcome.ts';
import type { UpPayload } from '@ofa-fleet/shared/protocol.ts';

/** A sensor's joules since it was opened. */
export interface JouleCounter {
  readonly sensor: string;
  /** SENSOR_STALE where the sensor cannot be read now (a later reading holds these joules too), COUNTER_RESET where joules were lost. */
  readJoules(): Outcome<number>;
}

interface ServedModel {
  readonly rev: number;
  readonly manifestSha256: string | null;
  /** Inferences answered since the agent started. */
  readonly inferences: number;
}

export interface EnergyAccount {
  /** Closes the interval since the last tick. `measured`: a job ran in it. */
  tick(served: ServedModel, measured: boolean): void;
  /** The account of the served revision; null where nothing is served. */
  report(): UpPayload<'energy'> | null;
  /** Inferences were answered since the last report. */
  hasNews(): boolean;
}

/** A sensor that is silent for longer is not waited for: its joules count as lost. */
const LONGEST_SILENCE_MS = 60_000;
const NOTHING = { idleJoules: 0, activeJoules: 0, idleMs: 0, activeMs: 0, inferences: 0 };

/** `runId`: names this start of the agent, within which the counters grow. */
export function createEnergyAccount(counter: JouleCounter | Failure, runId: string, clock: Clock): EnergyAccount {
  const read = (): Outcome<number> => ('sensor' in counter ? counter.readJoules() : counter);
  /** The open interval: since when, from which joules (null: not known), and whether a job was measured in it. */
  let at = clock.monotonicMs();
  let joules = valueOf(read());
  let hadJob = false;
  let served: ServedModel = { rev: 0, manifestSha256: null, inferences: 0 };
  let totals = NOTHING;
  /** Why joules of this revision are missing for good; why they are missing until the sensor can be read again. */
  let lost: Failure | null = null;
  let silent: Failure | null = null;
  let seq = 0;
  let reported = -1;

  return {
    tick(now, measured) {
      const [nowMs, reading] = [clock.monotonicMs(), read()];
      const isNew = now.rev !== served.rev || now.manifestSha256 !== served.manifestSha256;
      hadJob ||= measured;
      silent = reading.ok ? null : reading;
      // the interval stays open: the next reading tells its joules
      if (!isNew && !reading.ok && reading.reason === 'SENSOR_STALE' && nowMs - at < LONGEST_SILENCE_MS) return;
      if (isNew) {
        totals = NOTHING;
        lost = null;
        reported = -1;
      } else if (!hadJob && !(reading.ok && joules === null)) {
        const answered = now.inferences - served.inferences;
        const spent = reading.ok && joules !== null ? reading.value - joules : 0;
        if (!reading.ok) lost ??= reading;
        totals =
          answered > 0
            ? {
                ...totals,
                activeMs: totals.activeMs + nowMs - at,
                activeJoules: totals.activeJoules + spent,
                inferences: totals.inferences + answered,
              }
            : { ...totals, idleMs: totals.idleMs + nowMs - at, idleJoules: totals.idleJoules + spent };
      }
      served = now;
      at = nowMs;
      joules = valueOf(reading);
      hadJob = false;
    },
    hasNews: () => served.manifestSha256 !== null && totals.inferences !== reported,
    report() {
      if (served.manifestSha256 === null) return null;
      reported = totals.inferences;
      const failure = 'sensor' in counter ? (lost ?? silent) : counter;
      return {
        runId,
        rev: served.rev,
        manifestSha256: served.manifestSha256,
        seq: seq++,
        ...totals,
        idleJoules: failure === null ? totals.idleJoules : null,
        activeJoules: failure === null ? totals.activeJoules : null,
        sensor: 'sensor' in counter ? counter.sensor : null,
        failure: failure === null ? null : { reason: failure.reason, message: failure.message },
      };
    },
  };
}

function valueOf(reading: Outcome<number>): number | null {
  return reading.ok ? reading.value : null;
}
