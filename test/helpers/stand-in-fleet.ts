// Stands in for devices (hardware) behind the Fleet interface: answers each job with a planned outcome, through the real job tables, so that
// a "restarted" controller finds what ended while it was away. Broker, agents and their faults are tested with the real fleet elsewhere.
import type { Measurement } from '@ofa-fleet/shared/measurement.ts';
import { failed, ok, type Outcome } from '@ofa-fleet/shared/outcome.ts';
import type { Fleet, JobEnd } from '../../controller/fleet/fleet.ts';
import type { Db } from '../../controller/store/database.ts';
import { measurementOf } from './measurements.ts';

export interface StandInJob {
  readonly key: string;
  readonly deviceClass: string;
  readonly manifestSha256: string;
  /** How many jobs were answered before this one. */
  readonly order: number;
}

export interface StandInFleet extends Fleet {
  /** Every new job, in order. */
  readonly jobs: readonly StandInJob[];
  readonly canceled: readonly string[];
}

/** `answer` null leaves a job in the queue for ever, as a device that is away does. */
export async function createStandInFleet(
  db: Db,
  deviceClasses: readonly string[],
  answer: (job: StandInJob) => Outcome<Measurement> | null,
): Promise<StandInFleet> {
  const listeners = new Set<(end: JobEnd) => void>();
  const jobs: StandInJob[] = [];
  const canceled: string[] = [];
  const scheduled = new Map<string, NodeJS.Timeout>();
  const running = new Set<Promise<void>>();
  for (const name of deviceClasses) {
    const values = { device_id: `device-${name}`, name, device_class: name, info_json: '{}', fleet: 'f', shard: '00', password_hash: '', enrolled_at: 0 }; // prettier-ignore
    await db.insertInto('device').values(values).onConflict((conflict) => conflict.doNothing()).execute(); // prettier-ignore
  }

  const jobEnd = async (jobId: string): Promise<JobEnd | null> => {
    const row = await db.selectFrom('job_result').selectAll().where('job_id', '=', jobId).executeTakeFirst();
    return row === undefined ? null : { jobId, deviceId: row.device_id, outcome: JSON.parse(row.outcome_json) as Outcome<Measurement> };
  };

  const run = async (jobId: string, job: StandInJob): Promise<void> => {
    const outcome = answer(job);
    if (outcome === null) return;
    const result = { job_id: jobId, attempt: 1, device_id: `device-${job.deviceClass}`, outcome_json: JSON.stringify(outcome), result_hash: jobId, late: 0 as const, at: job.order }; // prettier-ignore
    await db.insertInto('job_result').values(result).execute();
    for (const listener of listeners) listener({ jobId, deviceId: result.device_id, outcome });
  };

  const schedule = (jobId: string, job: StandInJob) => {
    const begin = () => {
      const done = run(jobId, job).finally(() => running.delete(done));
      running.add(done);
    };
    scheduled.set(jobId, setTimeout(begin, 1 + (scheduled.size % 3)));
  };

  return {
    brokerUrl: 'mqtt://127.0.0.1:1',
    jobs,
    canceled,
    createToken: () => Promise.resolve('token'),
    devices: () =>
      Promise.resolve(
        deviceClasses.map((name) => ({ deviceId: `device-${name}`, name, deviceClass: name, info: null, presence: 'online' as const, activeManifestSha256: null, serveUrl: null, quarantine: null })), // prettier-ignore
      ),
    async enqueue({ key, deviceClass, manifestSha256, plan }) {
      const known = await db.selectFrom('job').select('job_id').where('dedupe_key', '=', key).executeTakeFirst();
      if (known !== undefined) {
        // left over from before a restart: its device still has it
        if (!scheduled.has(known.job_id) && (await jobEnd(known.job_id)) === null) schedule(known.job_id, { key, deviceClass, manifestSha256, order: -1 }); // prettier-ignore
        return known.job_id;
      }
      const jobId = `job-${key.replaceAll('/', '-')}`;
      await db.insertInto('manifest').values({ manifest_sha256: manifestSha256, bytes: 1, blocks_sha256: null, at: 0 }).onConflict((conflict) => conflict.doNothing()).execute(); // prettier-ignore
      const row = { job_id: jobId, dedupe_key: key, device_class: deviceClass, manifest_sha256: manifestSha256, plan_json: JSON.stringify(plan), state: 'QUEUED' as const, attempt: 0, version: 0, device_id: null, lease_ms: 1, deadline_ms: 1, lease_until: null, deadline_at: null, not_before: 0, not_after: 0, counted_attempts: 0, delivery_misses: 0, created_at: 0, ended_at: null, end_reason: null, end_message: null }; // prettier-ignore
      await db.insertInto('job').values(row).execute();
      const job = { key, deviceClass, manifestSha256, order: jobs.length };
      jobs.push(job);
      schedule(jobId, job);
      return jobId;
    },
    cancel(jobId) {
      canceled.push(jobId);
      return Promise.resolve();
    },
    jobEnd,
    onJobEnd(listener) {
      listeners.add(listener);
      return () => listeners.delete(listener);
    },
    onDevices: () => () => {},
    deploy: () => Promise.resolve(failed('UNREACHABLE', 'the stand-in deploys nothing')),
    infer: () => Promise.resolve(failed('UNREACHABLE', 'the stand-in infers nothing')),
    async close() {
      for (const timer of scheduled.values()) clearTimeout(timer);
      await Promise.all(running);
    },
  };
}

/** A measurement with this median. */
export function measured(latencyMs: number, state: 'valid' | 'suspect' | 'invalid' = 'valid'): Outcome<Measurement> {
  return ok(measurementOf(latencyMs, state));
}
