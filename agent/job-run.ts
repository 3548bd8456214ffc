// One granted job from fetch to result: fetch, accept (committed), announce the silence, measure, commit the result. What goes wrong is told as
// data: reject where this device cannot, result where the model was tried.
import type { Clock } from '@ofa-fleet/shared/clock.ts';
import type { Measurement, Plan } from '@ofa-fleet/shared/measurement.ts';
import { failed, type Failure, type Outcome, type Reason } from '@ofa-fleet/shared/outcome.ts';
import { UP, type Grant, type JobUpdate } from '@ofa-fleet/shared/protocol.ts';
import type { Delivery } from './delivery.ts';
import { LONGEST_ENERGY_MS } from './energy-run.ts';
import type { Gates } from './gates.ts';
import type { BlobShelf, Measurer, Outbox } from './ports.ts';
import type { Transfer } from './transfer.ts';

export interface JobHost {
  readonly outbox: Outbox;
  readonly delivery: Delivery;
  readonly transfer: Transfer;
  readonly models: BlobShelf;
  readonly measurer: Measurer;
  readonly gates: Pick<Gates, 'checkAgain'>;
  readonly clock: Clock;
  readonly newId: () => string;
  /** Sent once, not kept: a sign of life. Never rejects. */
  readonly tell: (update: JobUpdate) => Promise<unknown>;
  /** While true nothing else of the agent may speak, log or write. */
  readonly setQuiet: (quiet: boolean) => void;
}

/** Why a running job is stopped: the controller wants it no more, or this agent ends. */
export type StopReason = 'dropped' | 'stopping';

/** Not now, but later: the attempt does not count. */
const NOT_READY: ReadonlySet<Reason> = new Set(['LOW_DISK', 'BUSY', 'UNREACHABLE']);
/** Not on this device, ever. */
const CANNOT: ReadonlySet<Reason> = new Set([
  'INCOMPATIBLE',
  'UNSUPPORTED_OP',
  'OUT_OF_MEMORY',
  'RUNTIME_MISSING',
  'UNKNOWN_BLOB',
  'NOT_AUTHORISED',
  'HASH_MISMATCH',
]);
const RETRY_AFTER_MS = 60_000;
/** The controller is asked to expect silence a little longer than the plan's cap and the energy windows: loading and first runs come before. */
const QUIET_SLACK_MS = 15_000;
/** What was said before should be through before the clock starts. */
const SETTLE_MS = 1000;
const FETCHING_EVERY_MS = 15_000;
/** Raw samples that stay where a whole result would not fit one message. */
const FEW_SAMPLES = 200;

export async function runJob(grant: Grant, host: JobHost, stop: AbortSignal): Promise<void> {
  const { outbox, delivery, transfer, models, clock } = host;
  const job = { jobId: grant.jobId, attempt: grant.attempt };
  const deadline = new AbortController();
  const finished = new AbortController();
  void clock.sleep(grant.deadlineMs, finished.signal).then(() => deadline.abort());
  const signal = AbortSignal.any([stop, deadline.signal]);

  const end = async (update: JobUpdate) => {
    await outbox.finish({ id: host.newId(), update });
    delivery.kick();
  };
  const reject = ({ reason, message }: Failure, retryAfterMs: number | null) =>
    end({ phase: 'reject', ...job, reason, message: failed(reason, message).message, retryAfterMs });
  /** Nothing is to be said of a job that the controller gave up; one that this agent gives up goes back uncounted. */
  const stopped = async () => {
    if (stop.reason === 'stopping')
      await reject({ ok: false, reason: 'INTERRUPTED', message: 'the agent was stopped while it had the job' }, 0);
    else await outbox.forget(job.jobId);
  };

  try {
    let toldAt = -Infinity;
    const manifest = await transfer.fetch(grant.manifest, signal, (bytes) => {
      if (clock.monotonicMs() - toldAt < FETCHING_EVERY_MS) return;
      toldAt = clock.monotonicMs();
      void host.tell({ phase: 'fetching', ...job, bytes });
    });
    if (signal.aborted) {
      await stopped();
      return;
    }
    if (!manifest.ok) {
      await reject(manifest, CANNOT.has(manifest.reason) ? null : RETRY_AFTER_MS);
      return;
    }

    // the fetch may have taken minutes, in which a device gets hot or its battery empty
    const obstacle = host.gates.checkAgain();
    if (obstacle !== null) {
      await reject(obstacle, obstacle.retryAfterMs);
      return;
    }

    await outbox.accept({ id: host.newId(), update: { phase: 'accepted', ...job } });
    delivery.kick();
    await host.tell({ phase: 'quiet', ...job, quietMs: quietMs(grant.plan) });
    await delivery.drained(SETTLE_MS);
    if (signal.aborted) {
      await stopped();
      return;
    }

    host.setQuiet(true);
    const source = { kind: 'blobs', manifestSha256: grant.manifest.sha256, manifest: manifest.value, blobsDir: models.dir } as const;
    const outcome = await host.measurer.measure(source, grant.plan, signal);
    if (signal.aborted) {
      await stopped();
      return;
    }
    if (!outcome.ok && CANNOT.has(outcome.reason)) {
      await reject(outcome, null);
      return;
    }
    if (!outcome.ok && NOT_READY.has(outcome.reason)) {
      await reject(outcome, RETRY_AFTER_MS);
      return;
    }
    await end({ phase: 'result', ...job, outcome: outcome.ok ? fitting(outcome) : failed(outcome.reason, outcome.message) });
  } finally {
    host.setQuiet(false);
    finished.abort();
  }
}

/** How long this agent says nothing while it measures by `plan`. */
export function quietMs({ capMs, energyRelativeHalfWidth }: Plan): number {
  return capMs + QUIET_SLACK_MS + (energyRelativeHalfWidth === null ? 0 : LONGEST_ENERGY_MS);
}

/** A result whose samples would not fit keeps fewer of them: all figures were taken from all samples. */
function fitting(outcome: Outcome<Measurement>): Outcome<Measurement> {
  const room = UP['job-update'].maxBytes - 2048;
  if (!outcome.ok || new TextEncoder().encode(JSON.stringify(outcome)).length <= room) return outcome;
  return { ok: true, value: { ...outcome.value, samplesMs: outcome.value.samplesMs.slice(0, FEW_SAMPLES) } };
}
