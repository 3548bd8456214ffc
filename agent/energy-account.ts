// What a deployment costs in joules while it serves: cumulative, idle and active apart, or why there are none. An interval counts as active if
// an inference was answered in it; intervals in which this agent measured a job belong to no deployment and are left out.
import type { Clock } from '@ofa-fleet/shared/clock.ts';
import type { Failure } from '@ofa-fleet/shared/outcome.ts';
import type { UpPayload } from '@ofa-fleet/shared/protocol.ts';

/** A sensor's joules since it was opened. */
export interface JouleCounter {
  readonly sensor: string;
  /** Null where the sensor cannot be read now. */
  readJoules(): number | null;
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

/** `runId`: names this start of the agent, within which the counters grow. */
export function createEnergyAccount(counter: JouleCounter | Failure, runId: string, clock: Clock): EnergyAccount {
  const readJoules = () => ('sensor' in counter ? counter.readJoules() : null);
  let at = clock.monotonicMs();
  let joules = readJoules();
  let served: ServedModel = { rev: 0, manifestSha256: null, inferences: 0 };
  let totals = { idleJoules: 0, activeJoules: 0, idleMs: 0, activeMs: 0, inferences: 0 };
  /** Intervals without a reading: their joules are unknown, so the sums are too small. */
  let unread = 0;
  let seq = 0;
  let reported = -1;

  return {
    tick(now, measured) {
      const [nowMs, nowJoules] = [clock.monotonicMs(), readJoules()];
      const answered = now.inferences - served.inferences;
      if (now.rev !== served.rev || now.manifestSha256 !== served.manifestSha256) {
        totals = { idleJoules: 0, activeJoules: 0, idleMs: 0, activeMs: 0, inferences: 0 };
        unread = 0;
        reported = -1;
      } else if (!measured) {
        const spent = nowJoules === null || joules === null ? null : nowJoules - joules;
        if (spent === null) unread++;
        const [ms, sum] = answered > 0 ? (['activeMs', 'activeJoules'] as const) : (['idleMs', 'idleJoules'] as const);
        totals[ms] += nowMs - at;
        totals[sum] += spent ?? 0;
        totals.inferences += answered;
      }
      served = now;
      at = nowMs;
      joules = nowJoules;
    },
    hasNews: () => served.manifestSha256 !== null && totals.inferences !== reported,
    report() {
      if (served.manifestSha256 === null) return null;
      reported = totals.inferences;
      const failure: Failure | null =
        'sensor' in counter
          ? unread === 0
            ? null
            : {
                ok: false,
                reason: 'SENSOR_STALE',
                message: `${counter.sensor} could not be read ${unread} times, so its joules would be too few`,
              }
          : counter;
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
