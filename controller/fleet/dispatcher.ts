// Who may do what to a job, and when: states, leases, attempts as fences, verdicts on results. The job table is the only truth; each step is
// one transaction, and what must be said or told follows the commit. Time is an argument.
//
// Invariants: a job has at most one counted result; only its current attempt may change it, but for a finished measurement whose attempt has
// lapsed while nobody else was granted it, which is adopted; every state but the terminal ones has an exit by timer.
import type { BlobRef } from '@ofa-fleet/shared/artifact.ts';
import { uuidV7 } from '@ofa-fleet/shared/ids.ts';
import { planSchema, type Plan } from '@ofa-fleet/shared/measurement.ts';
import { failed, type Reason } from '@ofa-fleet/shared/outcome.ts';
import { outcomeSchema, type DownPayload, type Grant, type Held, type JobUpdate } from '@ofa-fleet/shared/protocol.ts';
import type { Db } from '../store/database.ts';
import {
  changeJob,
  expiredQueued,
  findAttempt,
  findJob,
  findResult,
  firstQueued,
  heldBy,
  insertAttempt,
  insertJobOnce,
  isHeld,
  isQuarantined,
  isTerminal,
  longestHeldLeaseMs,
  nextNotBefore,
  overdueHeld,
  purgeJobs,
  renewLease,
  type Job,
} from '../store/jobs.ts';
import { findHealth, type DeviceHealth } from '../store/device-health.ts';
import { findManifestRef } from '../store/manifests.ts';
import { baselinesOf, waitMs } from './device-health.ts';
import type { JobEnd } from './fleet.ts';
import {
  countAttempt,
  DEFAULT_LIMITS,
  endOf,
  finish,
  missDelivery,
  NOTHING,
  onInterrupted,
  onProgress,
  onReject,
  onResult,
  ruling,
  saidBefore,
  type Asker,
  type DispatchLimits,
  type Effects,
  type Ruling,
} from './job-steps.ts';

const PURGE_EVERY_MS = 3_600_000;

export interface Dispatcher {
  /** The job under this key, made if it is new. A class that the manifest has crashed gets a job that has already failed. */
  enqueue(
    job: { readonly key: string; readonly deviceClass: string; readonly manifest: BlobRef; readonly plan: Plan },
    now: number,
  ): Promise<Effects & { readonly jobId: string }>;
  /** Held work first, under the same attempt: a grant that got lost is repaired without a new one. */
  next(asker: Asker, now: number): Promise<DownPayload<'job-grant'>>;
  update(asker: Asker, update: JobUpdate, now: number): Promise<Ruling>;
  renew(deviceId: string, held: readonly { readonly jobId: string; readonly attempt: number }[], now: number): Promise<void>;
  /** What a device that comes back should do with what it holds. */
  review(deviceId: string, held: readonly Held[]): Promise<DownPayload<'welcome'>['held']>;
  cancel(jobId: string, now: number): Promise<Effects>;
  /** Everything that is due by time. */
  tick(now: number): Promise<Effects>;
  end(jobId: string): Promise<JobEnd | null>;
}

/** `startedAt`: no lease lapses before the longest one in the table (60 s at least) has passed since, as devices could not reach us. */
export async function createDispatcher(db: Db, startedAt: number, limits: DispatchLimits = DEFAULT_LIMITS): Promise<Dispatcher> {
  const graceUntil = startedAt + Math.max(await longestHeldLeaseMs(db), limits.grantMs);

  let purgedAt = -Infinity;

  async function grantOf(job: Job, health: DeviceHealth): Promise<Grant> {
    const manifest = await findManifestRef(db, job.manifest_sha256);
    if (manifest === null) throw new Error(`job ${job.job_id} names the manifest ${job.manifest_sha256}, which is not in the table`);
    const plan = planSchema.parse(JSON.parse(job.plan_json));
    return {
      jobId: job.job_id,
      attempt: job.attempt,
      version: job.version,
      kind: 'measure',
      leaseMs: job.lease_ms,
      deadlineMs: job.deadline_ms,
      manifest,
      plan: { ...plan, referenceBaselines: baselinesOf(health) },
    };
  }

  return {
    async enqueue({ key, deviceClass, manifest, plan }, now) {
      const crashes = await isQuarantined(db, deviceClass, manifest.sha256);
      const jobId = uuidV7(now);
      const job = await insertJobOnce(db, {
        job_id: jobId,
        dedupe_key: key,
        device_class: deviceClass,
        manifest_sha256: manifest.sha256,
        plan_json: JSON.stringify(plan),
        state: crashes ? 'FAILED' : 'QUEUED',
        attempt: 0,
        version: 0,
        device_id: null,
        lease_ms: Math.max(limits.minLeaseMs, 3 * plan.capMs),
        deadline_ms: Math.max(limits.minDeadlineMs, 10 * plan.capMs),
        lease_until: null,
        deadline_at: null,
        not_before: now,
        not_after: now + limits.notAfterMs,
        counted_attempts: 0,
        delivery_misses: 0,
        created_at: now,
        ended_at: crashes ? now : null,
        end_reason: crashes ? 'CRASHES_AGENT' : null,
        end_message: crashes ? `this model crashed an agent of the class ${deviceClass} before; it is not sent there again` : null,
      });
      const isNew = job.job_id === jobId;
      const end = isNew && crashes ? await endOfJob(jobId) : null;
      return { ...NOTHING, jobId: job.job_id, ended: end === null ? [] : [end], freed: isNew && !crashes ? [deviceClass] : [] };
    },

    async next(asker, now) {
      const health = await findHealth(db, asker.deviceId);
      const wait = waitMs(health, now);
      if (wait > 0 && (await heldBy(db, asker.deviceId)).length === 0)
        return { none: true, retryAfterMs: Math.min(limits.maxRetryAfterMs, wait) };
      const granted = await db.transaction().execute(async (tx): Promise<Job | null> => {
        const held = (await heldBy(tx, asker.deviceId))[0];
        if (held !== undefined) {
          if (held.state === 'RUNNING') return held;
          return changeJob(tx, held, { lease_until: Math.min(held.deadline_at ?? now, now + limits.grantMs) });
        }
        const job = await firstQueued(tx, asker.deviceClass, now);
        if (job === null) return null;
        const leased = await changeJob(tx, job, {
          state: 'LEASED',
          attempt: job.attempt + 1,
          device_id: asker.deviceId,
          lease_until: now + limits.grantMs,
          deadline_at: now + job.deadline_ms,
        });
        await insertAttempt(tx, {
          job_id: job.job_id,
          attempt: leased.attempt,
          device_id: asker.deviceId,
          boot_id: asker.bootId,
          granted_at: now,
          ended_at: null,
          outcome: 'GRANTED',
        });
        return leased;
      });
      if (granted !== null) return { none: false, grant: await grantOf(granted, health) };
      const notBefore = await nextNotBefore(db, asker.deviceClass, now);
      return { none: true, retryAfterMs: Math.min(limits.idleRetryMs, notBefore === null ? Infinity : notBefore - now) };
    },

    update(asker, update, now) {
      return db.transaction().execute(async (tx): Promise<Ruling> => {
        const job = await findJob(tx, update.jobId);
        // a job of another controller, or purged: nothing here waits for it
        if (job === null) return ruling('stale', 0);
        if (update.phase === 'result') return onResult(tx, job, asker, update.attempt, update.outcome, now);
        const current = update.attempt === job.attempt && job.device_id === asker.deviceId && isHeld(job.state);
        if (!current) {
          const record = await findAttempt(tx, update.jobId, update.attempt);
          const said = record?.device_id === asker.deviceId && saidBefore(update, record.outcome);
          return ruling(said ? 'duplicate' : 'stale', job.version);
        }
        switch (update.phase) {
          case 'interrupted':
            return onInterrupted(tx, limits, job, asker, now);
          case 'reject':
            return onReject(tx, limits, job, update, now);
          case 'fetching':
          case 'accepted':
          case 'quiet':
            return onProgress(tx, limits, job, update, now);
        }
      });
    },

    async renew(deviceId, held, now) {
      for (const { jobId, attempt } of held) await renewLease(db, { jobId, attempt, deviceId }, now);
    },

    review(deviceId, held) {
      return Promise.all(
        held.map(async ({ jobId, attempt, phase }) => {
          if (phase === 'done') return { jobId, attempt, action: 'resend' as const };
          const job = await findJob(db, jobId);
          const record = await findAttempt(db, jobId, attempt);
          // a lapsed attempt that nobody else was granted may still be finished: its result will be adopted
          const useful =
            job !== null && job.attempt === attempt && !isTerminal(job.state) && record?.device_id === deviceId && record.ended_at === null;
          const adoptable =
            job?.state === 'QUEUED' && job.attempt === attempt && (record?.outcome === 'LAPSED' || record?.outcome === 'TIMED_OUT');
          return { jobId, attempt, action: useful || (adoptable && phase === 'running') ? ('keep' as const) : ('drop' as const) };
        }),
      );
    },

    cancel(jobId, now) {
      return db.transaction().execute(async (tx): Promise<Effects> => {
        const job = await findJob(tx, jobId);
        if (job === null || isTerminal(job.state)) return NOTHING;
        const failure = failed('CANCELED', 'the job was called off by the controller');
        await finish(tx, job, 'CANCELED', isHeld(job.state) ? 'CANCELED' : null, now, failure);
        const cancels = job.device_id === null ? [] : [{ deviceId: job.device_id, jobId, attempt: job.attempt }];
        return { ...NOTHING, ended: [endOf(job, failure)], cancels };
      });
    },

    tick(now) {
      return db.transaction().execute(async (tx): Promise<Effects> => {
        const all: Effects[] = [];
        for (const job of now < graceUntil ? [] : await overdueHeld(tx, now)) {
          if (job.state === 'LEASED') {
            all.push(await missDelivery(tx, limits, job, now));
            continue;
          }
          all.push(await countAttempt(tx, limits, job, 'TIMED_OUT', now));
          const isUseless = (job.deadline_at ?? 0) <= now && job.device_id !== null;
          if (isUseless)
            all.push({ ...NOTHING, cancels: [{ deviceId: job.device_id as string, jobId: job.job_id, attempt: job.attempt }] });
        }
        for (const job of await expiredQueued(tx, now)) {
          const failure = failed(
            'EXPIRED',
            `no device of the class ${job.device_class} finished the job within ${Math.round((job.not_after - job.created_at) / 1000)} s`,
          );
          await finish(tx, job, 'EXPIRED', null, now, failure);
          all.push({ ...NOTHING, ended: [endOf(job, failure)] });
        }
        if (now - purgedAt >= PURGE_EVERY_MS) {
          await purgeJobs(tx, now - limits.retentionMs);
          purgedAt = now;
        }
        return { ended: all.flatMap((e) => e.ended), cancels: all.flatMap((e) => e.cancels), freed: all.flatMap((e) => e.freed) };
      });
    },

    end: endOfJob,
  };

  async function endOfJob(jobId: string): Promise<JobEnd | null> {
    const job = await findJob(db, jobId);
    if (job === null || !isTerminal(job.state)) return null;
    const result = await findResult(db, jobId);
    if (result !== null) return { jobId, deviceId: result.device_id, outcome: outcomeSchema.parse(JSON.parse(result.outcome_json)) };
    return endOf(job, failed(job.end_reason as Reason, job.end_message ?? ''));
  }
}
