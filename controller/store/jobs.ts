// Queries on the job table and its attempts, results and evidence. What may happen to a job is decided in fleet/dispatcher.ts; here is how it
// is read and written. Every change is a compare-and-set on `version`.
import { sql, type Selectable, type Updateable } from 'kysely';
import type { Db } from './database.ts';
import type { AttemptOutcome, JobAttemptTable, JobEvidenceTable, JobResultTable, JobState, JobTable } from './schema.ts';

export type Job = Selectable<JobTable>;

export const HELD_STATES = ['LEASED', 'RUNNING'] as const satisfies readonly JobState[];

export function isHeld(state: JobState): boolean {
  return state === 'LEASED' || state === 'RUNNING';
}

export function isTerminal(state: JobState): boolean {
  return state !== 'QUEUED' && !isHeld(state);
}

export async function findJob(db: Db, jobId: string): Promise<Job | null> {
  return (await db.selectFrom('job').selectAll().where('job_id', '=', jobId).executeTakeFirst()) ?? null;
}

/** The job under this key: the one that was there, or `job` as given. */
export async function insertJobOnce(db: Db, job: JobTable): Promise<Job> {
  await db
    .insertInto('job')
    .values(job)
    .onConflict((conflict) => conflict.column('dedupe_key').doNothing())
    .execute();
  return db.selectFrom('job').selectAll().where('dedupe_key', '=', job.dedupe_key).executeTakeFirstOrThrow();
}

/** Throws where the row has changed since it was read: within one transaction that is a bug. */
export async function changeJob(db: Db, job: Job, changes: Omit<Updateable<JobTable>, 'version'>): Promise<Job> {
  const changed = await db
    .updateTable('job')
    .set({ ...changes, version: job.version + 1 })
    .where('job_id', '=', job.job_id)
    .where('attempt', '=', job.attempt)
    .where('version', '=', job.version)
    .returningAll()
    .executeTakeFirst();
  if (changed === undefined) throw new Error(`job ${job.job_id} is no longer at version ${job.version}`);
  return changed;
}

/** Jobs that a device holds, oldest first. */
export async function heldBy(db: Db, deviceId: string): Promise<readonly Job[]> {
  return db
    .selectFrom('job')
    .selectAll()
    .where('device_id', '=', deviceId)
    .where('state', 'in', HELD_STATES)
    .orderBy('created_at')
    .orderBy('job_id')
    .execute();
}

/** The oldest job of the class that may start now. */
export async function firstQueued(db: Db, deviceClass: string, now: number): Promise<Job | null> {
  const row = await db
    .selectFrom('job')
    .selectAll()
    .where('device_class', '=', deviceClass)
    .where('state', '=', 'QUEUED')
    .where('not_before', '<=', now)
    .where('not_after', '>', now)
    .orderBy('created_at')
    .orderBy('job_id')
    .limit(1)
    .executeTakeFirst();
  return row ?? null;
}

/** When the next job of the class that has to wait may start; null where none waits. */
export async function nextNotBefore(db: Db, deviceClass: string, now: number): Promise<number | null> {
  const row = await db
    .selectFrom('job')
    .select((eb) => eb.fn.min('not_before').as('at'))
    .where('device_class', '=', deviceClass)
    .where('state', '=', 'QUEUED')
    .where('not_before', '>', now)
    .executeTakeFirst();
  return row?.at ?? null;
}

/** Held jobs whose lease or deadline has passed. */
export async function overdueHeld(db: Db, now: number): Promise<readonly Job[]> {
  return db
    .selectFrom('job')
    .selectAll()
    .where('state', 'in', HELD_STATES)
    .where((eb) => eb.or([eb('lease_until', '<=', now), eb('deadline_at', '<=', now)]))
    .orderBy('job_id')
    .execute();
}

export async function expiredQueued(db: Db, now: number): Promise<readonly Job[]> {
  return db.selectFrom('job').selectAll().where('state', '=', 'QUEUED').where('not_after', '<=', now).orderBy('job_id').execute();
}

export async function longestHeldLeaseMs(db: Db): Promise<number> {
  const row = await db
    .selectFrom('job')
    .select((eb) => eb.fn.max('lease_ms').as('ms'))
    .where('state', 'in', HELD_STATES)
    .executeTakeFirst();
  return row?.ms ?? 0;
}

/** A sign of life: written only once less than half the lease is left. */
export async function renewLease(db: Db, held: { jobId: string; attempt: number; deviceId: string }, now: number): Promise<void> {
  await db
    .updateTable('job')
    .set((eb) => ({ lease_until: eb.fn<number>('min', [eb('lease_ms', '+', now), 'deadline_at']) }))
    .where('job_id', '=', held.jobId)
    .where('attempt', '=', held.attempt)
    .where('device_id', '=', held.deviceId)
    .where('state', '=', 'RUNNING')
    .where((eb) => eb(eb('lease_until', '-', now), '<', eb('lease_ms', '/', 2)))
    .execute();
}

export async function insertAttempt(db: Db, attempt: JobAttemptTable): Promise<void> {
  await db.insertInto('job_attempt').values(attempt).execute();
}

export async function findAttempt(db: Db, jobId: string, attempt: number): Promise<JobAttemptTable | null> {
  return (
    (await db.selectFrom('job_attempt').selectAll().where('job_id', '=', jobId).where('attempt', '=', attempt).executeTakeFirst()) ?? null
  );
}

export async function setAttempt(db: Db, job: Job, outcome: AttemptOutcome, endedAt: number | null): Promise<void> {
  await db
    .updateTable('job_attempt')
    .set({ outcome, ended_at: endedAt })
    .where('job_id', '=', job.job_id)
    .where('attempt', '=', job.attempt)
    .execute();
}

/** Attempts of this job that died with the agent of `deviceId`, by boot. */
export async function interruptedBoots(db: Db, jobId: string, deviceId: string): Promise<readonly string[]> {
  const rows = await db
    .selectFrom('job_attempt')
    .select('boot_id')
    .where('job_id', '=', jobId)
    .where('device_id', '=', deviceId)
    .where('outcome', '=', 'INTERRUPTED')
    .execute();
  return rows.map(({ boot_id }) => boot_id);
}

export async function insertResult(db: Db, result: JobResultTable): Promise<void> {
  await db.insertInto('job_result').values(result).execute();
}

export async function findResult(db: Db, jobId: string): Promise<JobResultTable | null> {
  return (await db.selectFrom('job_result').selectAll().where('job_id', '=', jobId).executeTakeFirst()) ?? null;
}

export async function insertEvidence(db: Db, evidence: JobEvidenceTable): Promise<void> {
  await db
    .insertInto('job_evidence')
    .values(evidence)
    .onConflict((conflict) => conflict.doNothing())
    .execute();
}

export async function findEvidence(db: Db, jobId: string, attempt: number): Promise<readonly JobEvidenceTable[]> {
  return db.selectFrom('job_evidence').selectAll().where('job_id', '=', jobId).where('attempt', '=', attempt).execute();
}

export async function quarantine(db: Db, deviceClass: string, manifestSha256: string, now: number): Promise<void> {
  await db
    .insertInto('quarantine')
    .values({ device_class: deviceClass, manifest_sha256: manifestSha256, at: now })
    .onConflict((conflict) => conflict.doNothing())
    .execute();
}

export async function isQuarantined(db: Db, deviceClass: string, manifestSha256: string): Promise<boolean> {
  const row = await db
    .selectFrom('quarantine')
    .select('at')
    .where('device_class', '=', deviceClass)
    .where('manifest_sha256', '=', manifestSha256)
    .executeTakeFirst();
  return row !== undefined;
}

/**
 * Terminal jobs that ended before `before` and belong to no campaign, with what came of them. A campaign's jobs carry its id before the first
 * `/` of their key, and all of them stand in its report: those that the search was told of, doubtful tries, baselines and energy.
 */
export async function purgeJobs(db: Db, before: number): Promise<void> {
  const campaignId = sql<string>`substr(dedupe_key, 1, instr(dedupe_key, '/') - 1)`;
  await db.deleteFrom('job').where('ended_at', '<', before).where(campaignId, 'not in', db.selectFrom('campaign').select('id')).execute();
  await db.deleteFrom('job_evidence').where('job_id', 'not in', db.selectFrom('job').select('job_id')).execute();
}
