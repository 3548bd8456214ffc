// What each event does to a job, within one transaction that the dispatcher opens: finish, requeue, count, adopt. See dispatcher.ts.
import type { Measurement } from '@ofa-fleet/shared/measurement.ts';
import { failed, type Failure, type Outcome } from '@ofa-fleet/shared/outcome.ts';
import type { JobUpdate, Verdict } from '@ofa-fleet/shared/protocol.ts';
import { sha256Hex } from '@ofa-fleet/shared/node/hash.ts';
import type { Db } from '../store/database.ts';
import {
  changeJob,
  findAttempt,
  findEvidence,
  findResult,
  insertEvidence,
  insertResult,
  interruptedBoots,
  isTerminal,
  quarantine,
  setAttempt,
  type Job,
} from '../store/jobs.ts';
import type { AttemptOutcome, JobState } from '../store/schema.ts';
import { findHealth, saveHealth } from '../store/device-health.ts';
import { afterMeasurement } from './device-health.ts';
import type { JobEnd } from './fleet.ts';

export interface DispatchLimits {
  /** A grant that is neither accepted nor shows a sign of life goes back to the queue. */
  readonly grantMs: number;
  readonly minLeaseMs: number;
  readonly minDeadlineMs: number;
  readonly notAfterMs: number;
  readonly maxAttempts: number;
  readonly maxDeliveryMisses: number;
  /** Longest wait that a device may ask for before it is offered the job again. */
  readonly maxRetryAfterMs: number;
  /** When to ask again where no work is. */
  readonly idleRetryMs: number;
  readonly retentionMs: number;
}

export const DEFAULT_LIMITS: DispatchLimits = {
  grantMs: 60_000,
  minLeaseMs: 60_000,
  minDeadlineMs: 600_000,
  notAfterMs: 86_400_000,
  maxAttempts: 5,
  maxDeliveryMisses: 20,
  maxRetryAfterMs: 3_600_000,
  idleRetryMs: 30_000,
  retentionMs: 90 * 86_400_000,
};

/** Attempts that died with the agent: of one boot (agent died, board did not), of any. Then the model is held to be the cause. */
const CRASHES_IN_ONE_BOOT = 2;
const CRASHES_IN_ALL = 3;

export interface Asker {
  readonly deviceId: string;
  readonly deviceClass: string;
  readonly bootId: string;
}

/** What follows a commit. */
export interface Effects {
  readonly ended: readonly JobEnd[];
  /** Attempts to call off. */
  readonly cancels: readonly { readonly deviceId: string; readonly jobId: string; readonly attempt: number }[];
  /** Classes in which a job became free. */
  readonly freed: readonly string[];
}
export const NOTHING: Effects = { ended: [], cancels: [], freed: [] };

export interface Ruling extends Effects {
  readonly verdict: Verdict;
  readonly version: number;
}

/** Into a terminal state. `failure` is null where job_result tells the end. */
export async function finish(
  tx: Db,
  job: Job,
  state: JobState,
  attemptOutcome: AttemptOutcome | null,
  now: number,
  failure: Failure | null,
): Promise<Job> {
  if (attemptOutcome !== null) await setAttempt(tx, job, attemptOutcome, now);
  return changeJob(tx, job, {
    state,
    lease_until: null,
    deadline_at: null,
    ended_at: now,
    end_reason: failure?.reason ?? null,
    end_message: failure?.message ?? null,
  });
}

async function requeue(
  tx: Db,
  job: Job,
  attemptOutcome: AttemptOutcome,
  now: number,
  changes: { counted_attempts?: number; delivery_misses?: number; not_before?: number } = {},
): Promise<Job> {
  await setAttempt(tx, job, attemptOutcome, now);
  return changeJob(tx, job, { state: 'QUEUED', device_id: null, lease_until: null, deadline_at: null, ...changes });
}

export const endOf = (job: Job, outcome: Outcome<Measurement>): JobEnd => ({ jobId: job.job_id, deviceId: job.device_id, outcome });

/** A verdict and the version it left the row at. */
export function ruling(verdict: Verdict, version: number, effects: Partial<Effects> = {}): Ruling {
  return { ...NOTHING, ...effects, verdict, version };
}

/** An attempt that counts has come to nothing: again, unless it was the last. */
export async function countAttempt(
  tx: Db,
  limits: DispatchLimits,
  job: Job,
  attemptOutcome: AttemptOutcome,
  now: number,
): Promise<Effects> {
  const counted = job.counted_attempts + 1;
  if (counted < limits.maxAttempts) {
    await requeue(tx, job, attemptOutcome, now, { counted_attempts: counted });
    return { ...NOTHING, freed: [job.device_class] };
  }
  const failure = failed(
    'EXHAUSTED',
    `${counted} attempts came to nothing, the limit is ${limits.maxAttempts}; the last ended ${attemptOutcome}`,
  );
  await finish(tx, job, 'FAILED', attemptOutcome, now, failure);
  return { ...NOTHING, ended: [endOf(job, failure)] };
}

export async function onInterrupted(tx: Db, limits: DispatchLimits, job: Job, asker: Asker, now: number): Promise<Ruling> {
  const attempt = await findAttempt(tx, job.job_id, job.attempt);
  const boots = [...(await interruptedBoots(tx, job.job_id, asker.deviceId)), attempt?.boot_id ?? asker.bootId];
  const inThisBoot = boots.filter((boot) => boot === boots.at(-1)).length;
  if (inThisBoot >= CRASHES_IN_ONE_BOOT || boots.length >= CRASHES_IN_ALL) {
    const failure = failed(
      'CRASHES_AGENT',
      `the agent ${asker.deviceId} died ${boots.length} times while it ran this model; the class ${job.device_class} is not sent it again`,
    );
    await quarantine(tx, job.device_class, job.manifest_sha256, now);
    const done = await finish(tx, job, 'FAILED', 'INTERRUPTED', now, failure);
    return ruling('accepted', done.version, { ended: [endOf(job, failure)] });
  }
  const effects = await countAttempt(tx, limits, job, 'INTERRUPTED', now);
  return ruling('accepted', job.version + 1, effects);
}

export async function onReject(
  tx: Db,
  limits: DispatchLimits,
  job: Job,
  update: Extract<JobUpdate, { phase: 'reject' }>,
  now: number,
): Promise<Ruling> {
  const { reason, message, retryAfterMs } = update;
  if (retryAfterMs === null) {
    const failure = failed(reason, message);
    const done = await finish(tx, job, 'REJECTED', 'REJECTED', now, failure);
    return ruling('accepted', done.version, { ended: [endOf(job, failure)] });
  }
  const done = await requeue(tx, job, 'REJECTED', now, { not_before: now + Math.min(retryAfterMs, limits.maxRetryAfterMs) });
  return ruling('accepted', done.version);
}

/** See the table of verdicts in protocol.ts: at most one result of a job counts, the others are kept as evidence. */
export async function onResult(
  tx: Db,
  job: Job,
  asker: Asker,
  attempt: number,
  outcome: Outcome<Measurement>,
  now: number,
): Promise<Ruling> {
  const record = await findAttempt(tx, job.job_id, attempt);
  // nobody reports the work of another
  if (record?.device_id !== asker.deviceId) return ruling('stale', job.version);
  const outcomeJson = JSON.stringify(outcome);
  const hash = sha256Hex(outcomeJson);
  const row = { job_id: job.job_id, attempt, device_id: asker.deviceId, outcome_json: outcomeJson, result_hash: hash, at: now };
  const counted = await findResult(tx, job.job_id);
  const stored = [...(counted?.attempt === attempt ? [counted] : []), ...(await findEvidence(tx, job.job_id, attempt))];
  if (stored.some(({ result_hash }) => result_hash === hash)) return ruling('duplicate', job.version);
  if (stored.length > 0) {
    await insertEvidence(tx, { ...row, verdict: 'conflict' });
    return ruling('conflict', job.version);
  }
  const current = attempt === job.attempt && !isTerminal(job.state);
  const lapsed = record.outcome === 'LAPSED' || record.outcome === 'TIMED_OUT';
  if (!current || (job.state === 'QUEUED' && (!lapsed || job.not_after <= now))) {
    await insertEvidence(tx, { ...row, verdict: 'stale' });
    return ruling('stale', job.version);
  }
  const late = job.state === 'QUEUED';
  await insertResult(tx, { ...row, late: late ? 1 : 0 });
  if (outcome.ok) await saveHealth(tx, asker.deviceId, afterMeasurement(await findHealth(tx, asker.deviceId), outcome.value, now));
  const done = await finish(tx, job, outcome.ok ? 'SUCCEEDED' : 'FAILED', 'RESULT', now, null);
  return ruling(late ? 'accepted-late' : 'accepted', done.version, { ended: [{ jobId: job.job_id, deviceId: asker.deviceId, outcome }] });
}

/** `fetching`, `accepted`, `quiet`: the attempt lives. */
export async function onProgress(
  tx: Db,
  limits: DispatchLimits,
  job: Job,
  update: Extract<JobUpdate, { phase: 'fetching' | 'accepted' | 'quiet' }>,
  now: number,
): Promise<Ruling> {
  const deadline = job.deadline_at ?? now;
  const until = (ms: number) => Math.min(deadline, Math.max(job.lease_until ?? now, now + ms));
  if (update.phase === 'accepted') {
    if (job.state === 'RUNNING') return ruling('duplicate', job.version);
    await setAttempt(tx, job, 'RUNNING', null);
    const running = await changeJob(tx, job, { state: 'RUNNING', lease_until: until(job.lease_ms) });
    return ruling('accepted', running.version);
  }
  const ms = update.phase === 'quiet' ? update.quietMs + job.lease_ms : limits.grantMs;
  const alive = await changeJob(tx, job, { lease_until: until(ms) });
  return ruling('accepted', alive.version);
}

/** A grant that never arrived: no failure of the job, so with a limit of its own. */
export async function missDelivery(tx: Db, limits: DispatchLimits, job: Job, now: number): Promise<Effects> {
  const misses = job.delivery_misses + 1;
  if (misses < limits.maxDeliveryMisses) {
    await requeue(tx, job, 'LAPSED', now, { delivery_misses: misses });
    return { ...NOTHING, freed: [job.device_class] };
  }
  const failure = failed('EXHAUSTED', `the job was granted ${misses} times and never accepted, the limit is ${limits.maxDeliveryMisses}`);
  await finish(tx, job, 'FAILED', 'LAPSED', now, failure);
  return { ...NOTHING, ended: [endOf(job, failure)] };
}

/** Whether an attempt that has ended so has already taken this update. */
export function saidBefore(update: JobUpdate, outcome: AttemptOutcome): boolean {
  if (update.phase === 'interrupted') return outcome === 'INTERRUPTED';
  if (update.phase === 'reject') return outcome === 'REJECTED';
  return update.phase === 'accepted' && outcome === 'RESULT';
}
