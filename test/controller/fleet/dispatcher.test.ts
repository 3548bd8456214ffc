// The dispatcher on a real database, in virtual time, against a reference model: devices whose messages are lost, doubled, late, and a controller
// that restarts. What the model says of a job (state, attempt, verdict) must be what the table says.
import fc from 'fast-check';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { DEFAULT_PLAN } from '../../../shared/measurement.ts';
import { failed, ok } from '../../../shared/outcome.ts';
import type { JobUpdate, Verdict } from '../../../shared/protocol.ts';
import { createDispatcher, type Dispatcher } from '../../../controller/fleet/dispatcher.ts';
import { DEFAULT_LIMITS, type DispatchLimits } from '../../../controller/fleet/job-steps.ts';
import type { JobEnd } from '../../../controller/fleet/fleet.ts';
import { openDatabase, type Db } from '../../../controller/store/database.ts';
import { insertManifestOnce } from '../../../controller/store/manifests.ts';
import { deviceInfo } from '../../helpers/devices.ts';
import { measurementOf } from '../../helpers/measurements.ts';
import { value } from '../../helpers/outcome.ts';

const LIMITS: DispatchLimits = { ...DEFAULT_LIMITS, maxAttempts: 3, maxDeliveryMisses: 4, notAfterMs: 3_600_000 };
const LEASE_MS = 90_000;
const DEADLINE_MS = 600_000;
const DEVICES = ['dev-a', 'dev-b'] as const;
const manifestOf = (n: number) => ({ sha256: String(n).padStart(64, '0'), bytes: 10, blocksSha256: null });
const result = (ms: number) => ok(measurementOf(ms));

async function openTables(): Promise<Db> {
  const db = value(await openDatabase(':memory:'));
  for (const device_id of DEVICES) {
    await db.insertInto('device').values({ device_id, name: device_id, device_class: 'c', info_json: JSON.stringify(deviceInfo('c')), fleet: 'main', shard: '00', password_hash: '', enrolled_at: 0 }).execute(); // prettier-ignore
  }
  for (let n = 0; n < 4; n++) await insertManifestOnce(db, manifestOf(n), 0);
  return db;
}

const asker = (device: string, boot = 'boot') => ({ deviceId: device, deviceClass: 'c', bootId: boot });

describe('a job', () => {
  let db: Db;
  let dispatcher: Dispatcher;
  let jobId = '';
  let now = 0;

  beforeEach(async () => {
    db = await openTables();
    now = 1_000_000;
    dispatcher = await createDispatcher(db, now - 10_000_000, LIMITS);
    ({ jobId } = await dispatcher.enqueue({ key: 'k', deviceClass: 'c', manifest: manifestOf(0), plan: DEFAULT_PLAN }, now));
  });
  afterEach(() => db.destroy());

  const grantTo = async (device: string) => {
    const grant = await dispatcher.next(asker(device), now);
    return grant.none ? null : grant.grant.attempt;
  };
  const say = async (device: string, update: JobUpdate, boot = 'boot') =>
    (await dispatcher.update(asker(device, boot), update, now)).verdict;
  const row = () => db.selectFrom('job').selectAll().where('job_id', '=', jobId).executeTakeFirstOrThrow();

  it('is granted with the baseline of the device that gets it, once three of its measurements have made one', async () => {
    const workload = 'convolutions-2 on onnxruntime-node 1.30.0, 1 thread(s)';
    for (let n = 0; n < 3; n++) {
      const grant = await dispatcher.next(asker('dev-a'), now);
      if (grant.none) throw new Error('no grant');
      expect(grant.grant.plan.referenceBaselines).toEqual({});
      const reference = { workload, baseline: null, blocks: [{ afterRuns: 0, medianMs: 2, relativeHalfWidth: 0.01 }], moved: null };
      const outcome = ok({ ...measurementOf(5), reference });
      await say('dev-a', { phase: 'result', jobId: grant.grant.jobId, attempt: grant.grant.attempt, outcome });
      await dispatcher.enqueue({ key: `k${n}`, deviceClass: 'c', manifest: manifestOf(0), plan: DEFAULT_PLAN }, now);
    }
    const own = await dispatcher.next(asker('dev-a'), now);
    expect(own.none ? null : own.grant.plan.referenceBaselines[workload]?.medianMs).toBe(2);
    await dispatcher.enqueue({ key: 'other', deviceClass: 'c', manifest: manifestOf(0), plan: DEFAULT_PLAN }, now);
    const others = await dispatcher.next(asker('dev-b'), now);
    expect(others.none ? null : others.grant.plan.referenceBaselines).toEqual({});
  });

  it('is not granted to a device whose last three measurements were invalid, but to it again ten minutes later', async () => {
    for (let n = 0; n < 3; n++) {
      const attempt = (await grantTo('dev-a')) as number;
      const held = (await row()).job_id;
      await say('dev-a', { phase: 'result', jobId: held, attempt, outcome: ok(measurementOf(5, 'invalid')) });
      ({ jobId } = await dispatcher.enqueue({ key: `k${n}`, deviceClass: 'c', manifest: manifestOf(0), plan: DEFAULT_PLAN }, now));
    }
    expect(await dispatcher.next(asker('dev-a'), now)).toEqual({ none: true, retryAfterMs: 600_000 });
    expect(await grantTo('dev-b')).toBe(1);
    await dispatcher.cancel(jobId, now);
    await dispatcher.enqueue({ key: 'later', deviceClass: 'c', manifest: manifestOf(0), plan: DEFAULT_PLAN }, now);
    now += 600_000;
    expect((await dispatcher.next(asker('dev-a'), now)).none).toBe(false);
  });

  it('is granted again under the same attempt to the device that lost its grant, and to nobody else', async () => {
    expect([await grantTo('dev-a'), await grantTo('dev-a'), await grantTo('dev-b')]).toEqual([1, 1, null]);
  });

  it('adopts a measurement that comes after its lease, as long as no later attempt was granted', async () => {
    await grantTo('dev-a');
    await say('dev-a', { phase: 'accepted', jobId, attempt: 1 });
    now += LEASE_MS;
    await dispatcher.tick(now);
    expect((await row()).state).toBe('QUEUED');
    expect(await say('dev-a', { phase: 'result', jobId, attempt: 1, outcome: result(1) })).toBe('accepted-late');
    expect(await dispatcher.end(jobId)).toMatchObject({ deviceId: 'dev-a', outcome: { ok: true } });
  });

  it('keeps a measurement of a lapsed attempt as evidence once a later attempt was granted', async () => {
    await grantTo('dev-a');
    await say('dev-a', { phase: 'accepted', jobId, attempt: 1 });
    now += LEASE_MS;
    await dispatcher.tick(now);
    expect(await grantTo('dev-b')).toBe(2);
    expect(await say('dev-a', { phase: 'result', jobId, attempt: 1, outcome: result(1) })).toBe('stale');
    expect(await db.selectFrom('job_evidence').select('verdict').execute()).toEqual([{ verdict: 'stale' }]);
    expect(await say('dev-b', { phase: 'result', jobId, attempt: 2, outcome: result(2) })).toBe('accepted');
  });

  it('answers a doubled result with duplicate, another one under the same attempt with conflict, and that of a stranger with stale', async () => {
    await grantTo('dev-a');
    expect(await say('dev-b', { phase: 'result', jobId, attempt: 1, outcome: result(9) })).toBe('stale');
    expect(await say('dev-a', { phase: 'result', jobId, attempt: 1, outcome: result(1) })).toBe('accepted');
    expect(await say('dev-a', { phase: 'result', jobId, attempt: 1, outcome: result(1) })).toBe('duplicate');
    expect(await say('dev-a', { phase: 'result', jobId, attempt: 1, outcome: result(2) })).toBe('conflict');
  });

  it('waits as long as a device that is not ready asks, without counting the attempt', async () => {
    await grantTo('dev-a');
    await say('dev-a', { phase: 'reject', jobId, attempt: 1, reason: 'TOO_HOT', message: '91 °C', retryAfterMs: 60_000 });
    expect(await grantTo('dev-a')).toBeNull();
    now += 60_000;
    expect(await grantTo('dev-a')).toBe(2);
    expect((await row()).counted_attempts).toBe(0);
  });

  it("that this kind of device cannot do is rejected for good, with the device's reason", async () => {
    await grantTo('dev-a');
    await say('dev-a', { phase: 'reject', jobId, attempt: 1, reason: 'UNSUPPORTED_OP', message: 'no such operator', retryAfterMs: null });
    expect(await dispatcher.end(jobId)).toMatchObject({ outcome: failed('UNSUPPORTED_OP', 'no such operator') });
  });

  it('whose model kills the agent twice in one boot fails, and its class is never sent that model again', async () => {
    for (const attempt of [1, 2]) {
      expect(await grantTo('dev-a')).toBe(attempt);
      await say('dev-a', { phase: 'interrupted', jobId, attempt });
    }
    expect(await dispatcher.end(jobId)).toMatchObject({ outcome: { ok: false, reason: 'CRASHES_AGENT' } });
    const again = await dispatcher.enqueue({ key: 'again', deviceClass: 'c', manifest: manifestOf(0), plan: DEFAULT_PLAN }, now);
    expect(again.ended).toMatchObject([{ outcome: { ok: false, reason: 'CRASHES_AGENT' } }]);
    const other = await dispatcher.enqueue({ key: 'other', deviceClass: 'c', manifest: manifestOf(1), plan: DEFAULT_PLAN }, now);
    expect(other.ended).toEqual([]);
  });

  it('is forgiven a death of the agent under another boot, but not a third', async () => {
    const patient = await createDispatcher(db, 0, { ...LIMITS, maxAttempts: 9 });
    for (const [i, boot] of ['b1', 'b2', 'b3'].entries()) {
      await patient.next(asker('dev-a', boot), now);
      await patient.update(asker('dev-a', boot), { phase: 'interrupted', jobId, attempt: i + 1 }, now);
      expect((await row()).state).toBe(i < 2 ? 'QUEUED' : 'FAILED');
    }
  });

  it('fails after so many attempts, expires after so long a wait', async () => {
    for (let attempt = 1; attempt <= LIMITS.maxAttempts; attempt++) {
      await grantTo('dev-a');
      await say('dev-a', { phase: 'accepted', jobId, attempt });
      now += LEASE_MS;
      await dispatcher.tick(now);
    }
    expect(await dispatcher.end(jobId)).toMatchObject({ outcome: { ok: false, reason: 'EXHAUSTED' } });
    const { jobId: waiting } = await dispatcher.enqueue(
      { key: 'w', deviceClass: 'nobody', manifest: manifestOf(1), plan: DEFAULT_PLAN },
      now,
    );
    await dispatcher.tick(now + LIMITS.notAfterMs);
    expect(await dispatcher.end(waiting)).toMatchObject({ outcome: { ok: false, reason: 'EXPIRED' } });
  });

  it('is called off on its device once its deadline has passed, not when only its lease has', async () => {
    await grantTo('dev-a');
    await say('dev-a', { phase: 'accepted', jobId, attempt: 1 });
    expect((await dispatcher.tick(now + LEASE_MS)).cancels).toEqual([]);
    await grantTo('dev-a');
    await say('dev-a', { phase: 'accepted', jobId, attempt: 2 });
    expect((await dispatcher.tick(now + DEADLINE_MS)).cancels).toEqual([{ deviceId: 'dev-a', jobId, attempt: 2 }]);
  });

  it('keeps its lease through a restart of the controller, as the device could not speak meanwhile', async () => {
    await grantTo('dev-a');
    await say('dev-a', { phase: 'accepted', jobId, attempt: 1 });
    now += 10 * LEASE_MS;
    const restarted = await createDispatcher(db, now, LIMITS);
    await restarted.tick(now + LEASE_MS - 1);
    expect((await row()).state).toBe('RUNNING');
    await restarted.tick(now + LEASE_MS);
    expect((await row()).state).toBe('QUEUED');
  });

  it('tells a device that comes back what to do with what it holds', async () => {
    await grantTo('dev-a');
    const held = (attempt: number, phase: 'granted' | 'running' | 'done') => dispatcher.review('dev-a', [{ jobId, attempt, phase }]);
    expect(await held(1, 'running')).toMatchObject([{ action: 'keep' }]);
    expect(await held(1, 'done')).toMatchObject([{ action: 'resend' }]);
    await dispatcher.cancel(jobId, now);
    expect(await held(1, 'running')).toMatchObject([{ action: 'drop' }]);
  });
});

/** What the model holds true of a job. Written without looking at the tables: states and numbers alone. */
interface ModelJob {
  state: 'QUEUED' | 'LEASED' | 'RUNNING' | 'SUCCEEDED' | 'FAILED' | 'CANCELED' | 'EXPIRED';
  attempt: number;
  holder: string | null;
  leaseUntil: number;
  deadline: number;
  notAfter: number;
  counted: number;
  misses: number;
  ends: number;
  /** Per attempt: who had it, how it ended, which values were taken or kept for it. */
  attempts: Map<number, { device: string; end: 'open' | 'lapsed' | 'interrupted' | 'done'; values: number[] }>;
}

type Step =
  | { readonly do: 'next' | 'restart' }
  | { readonly do: 'accepted' | 'interrupted' | 'cancel'; readonly back: number }
  | { readonly do: 'result'; readonly back: number; readonly value: number }
  | { readonly do: 'pass'; readonly ms: number };

const step: fc.Arbitrary<{ readonly device: string; readonly job: number; readonly step: Step }> = fc.record({
  device: fc.constantFrom(...DEVICES),
  job: fc.nat(1),
  step: fc.oneof(
    { weight: 4, arbitrary: fc.constant<Step>({ do: 'next' }) },
    { weight: 1, arbitrary: fc.constant<Step>({ do: 'restart' }) },
    // `back`: which attempt the (late, doubled) message speaks of
    {
      weight: 5,
      arbitrary: fc.record({ do: fc.constantFrom('accepted' as const, 'interrupted' as const), back: fc.constantFrom(0, 0, 0, 1, 2) }),
    },
    { weight: 1, arbitrary: fc.record({ do: fc.constant('cancel' as const), back: fc.constant(0) }) },
    {
      weight: 4,
      arbitrary: fc.record({
        do: fc.constant('result' as const),
        back: fc.constantFrom(0, 0, 0, 1, 2),
        value: fc.integer({ min: 1, max: 2 }),
      }),
    },
    { weight: 4, arbitrary: fc.record({ do: fc.constant('pass' as const), ms: fc.constantFrom(1000, 59_999, 60_000, 90_000, 600_000) }) },
  ),
});

describe('the dispatcher and its reference model', () => {
  it('agree on state, attempt, verdict and end of every job, whatever is lost, doubled, late or restarted', async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(step, { minLength: 5, maxLength: 40 }), async (steps) => {
        const db = await openTables();
        let now = 10_000_000;
        let grace = now;
        let dispatcher = await createDispatcher(db, 0, LIMITS);
        const ids: string[] = [];
        const jobs: ModelJob[] = [];
        const ends: JobEnd[] = [];
        for (const n of [0, 1]) {
          ids.push(
            (await dispatcher.enqueue({ key: `k${n}`, deviceClass: 'c', manifest: manifestOf(n), plan: DEFAULT_PLAN }, now + n)).jobId,
          );
          jobs.push({ state: 'QUEUED', attempt: 0, holder: null, leaseUntil: 0, deadline: 0, notAfter: now + n + LIMITS.notAfterMs, counted: 0, misses: 0, ends: 0, attempts: new Map() }); // prettier-ignore
        }
        now += 10;
        const held = (job: ModelJob) => job.state === 'LEASED' || job.state === 'RUNNING';
        const end = (job: ModelJob, state: ModelJob['state']) => Object.assign(job, { state, ends: job.ends + 1 });
        const again = (job: ModelJob, how: 'lapsed' | 'interrupted', counts: boolean) => {
          (job.attempts.get(job.attempt) as { end: string }).end = how;
          if (counts) job.counted++;
          else job.misses++;
          if (job.counted >= LIMITS.maxAttempts || job.misses >= LIMITS.maxDeliveryMisses) end(job, 'FAILED');
          else Object.assign(job, { state: 'QUEUED', holder: null });
        };

        function modelUpdate(
          job: ModelJob,
          device: string,
          what: Step & { do: 'accepted' | 'interrupted' | 'result' },
          attempt: number,
        ): Verdict {
          const record = job.attempts.get(attempt);
          const mine = record?.device === device;
          if (what.do === 'result') {
            if (record === undefined || !mine) return 'stale';
            if (record.values.includes(what.value)) return 'duplicate';
            record.values.push(what.value);
            if (record.values.length > 1) return 'conflict';
            const current = attempt === job.attempt;
            if (current && held(job)) {
              record.end = 'done';
              end(job, 'SUCCEEDED');
              return 'accepted';
            }
            if (current && job.state === 'QUEUED' && record.end === 'lapsed' && now < job.notAfter) {
              record.end = 'done';
              end(job, 'SUCCEEDED');
              return 'accepted-late';
            }
            return 'stale';
          }
          if (attempt !== job.attempt || job.holder !== device || !held(job)) {
            const said = mine && (what.do === 'interrupted' ? record.end === 'interrupted' : record.end === 'done');
            return said ? 'duplicate' : 'stale';
          }
          if (what.do === 'accepted') {
            if (job.state === 'RUNNING') return 'duplicate';
            job.state = 'RUNNING';
            job.leaseUntil = Math.min(job.deadline, now + LEASE_MS);
            return 'accepted';
          }
          const deaths = [...job.attempts.values()].filter((a) => a.device === device && a.end === 'interrupted').length + 1;
          if (deaths >= 2) {
            (record as { end: string }).end = 'interrupted';
            end(job, 'FAILED');
          } else again(job, 'interrupted', true);
          return 'accepted';
        }

        for (const { device, job: n, step: what } of steps) {
          const [job, jobId] = [jobs[n] as ModelJob, ids[n] as string];
          if (what.do === 'next') {
            const grant = await dispatcher.next(asker(device), now);
            const mine = jobs.find((j) => held(j) && j.holder === device);
            const free = jobs.find((j) => j.state === 'QUEUED' && now < j.notAfter);
            const expected = mine ?? free;
            if (expected === undefined) expect(grant.none).toBe(true);
            else {
              if (mine === undefined) {
                Object.assign(expected, { state: 'LEASED', attempt: expected.attempt + 1, holder: device, deadline: now + DEADLINE_MS });
                expected.attempts.set(expected.attempt, { device, end: 'open', values: [] });
              }
              if (expected.state === 'LEASED') expected.leaseUntil = Math.min(expected.deadline, now + LIMITS.grantMs);
              expect(grant).toMatchObject({ none: false, grant: { jobId: ids[jobs.indexOf(expected)], attempt: expected.attempt } });
            }
          } else if (what.do === 'restart') {
            dispatcher = await createDispatcher(db, now, LIMITS);
            grace = now + Math.max(LIMITS.grantMs, ...jobs.filter(held).map(() => LEASE_MS));
          } else if (what.do === 'cancel') {
            ends.push(...(await dispatcher.cancel(jobId, now)).ended);
            if (job.ends === 0) end(job, 'CANCELED');
          } else if ('ms' in what) {
            now += what.ms;
            ends.push(...(await dispatcher.tick(now)).ended);
            for (const j of jobs) {
              if (held(j) && now >= grace && (j.leaseUntil <= now || j.deadline <= now)) again(j, 'lapsed', j.state === 'RUNNING');
              if (j.state === 'QUEUED' && j.notAfter <= now) end(j, 'EXPIRED');
            }
          } else {
            const { back } = what as Extract<Step, { back: number }>;
            const attempt = Math.max(1, job.attempt - back);
            const update: JobUpdate =
              what.do === 'result' ? { phase: 'result', jobId, attempt, outcome: result(what.value) } : { phase: what.do, jobId, attempt };
            const ruling = await dispatcher.update(asker(device), update, now);
            ends.push(...ruling.ended);
            expect(ruling.verdict).toBe(modelUpdate(job, device, what as Step & { do: 'accepted' | 'interrupted' | 'result' }, attempt));
          }
          const rows = await db.selectFrom('job').select(['job_id', 'state', 'attempt']).orderBy('created_at').execute();
          expect(rows).toEqual(jobs.map(({ state, attempt }, i) => ({ job_id: ids[i], state, attempt })));
        }
        for (const [i, id] of ids.entries()) expect(ends.filter(({ jobId }) => jobId === id)).toHaveLength((jobs[i] as ModelJob).ends);
        expect(Math.max(...jobs.map(({ ends: n }) => n))).toBeLessThanOrEqual(1);
        await db.destroy();
      }),
      { numRuns: 150 },
    );
  }, 60_000);
});
