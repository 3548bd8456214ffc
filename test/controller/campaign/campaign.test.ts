// The campaign's loop with the real search and a real database; the fleet is a stand-in, since devices are hardware.
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { DEFAULT_PLAN, type Measurement } from '@ofa-fleet/shared/measurement.ts';
import { failed, ok, type Outcome } from '@ofa-fleet/shared/outcome.ts';
import { endForGood, runCampaign, type CampaignEnd, type CampaignProgress, type Prepared } from '../../../controller/campaign.ts';
import { PRESETS, type Space } from '../../../controller/space.ts';
import { createCampaign, loadCampaign, measurementsOf, type Campaign } from '../../../controller/store/campaigns.ts';
import { openDatabase, type Db } from '../../../controller/store/database.ts';
import { subnetId, type Subnet } from '../../../controller/subnet.ts';
import { createStandInFleet, measured, type StandInFleet, type StandInJob } from '../../helpers/stand-in-fleet.ts';

const SPACE = PRESETS['fashion-tiny'] as Space;
const CLASSES = ['native', 'wasm'];
let directory: string;
let db: Db;

beforeEach(async () => {
  directory = mkdtempSync(join(tmpdir(), 'ofa-campaign-'));
  await reopen();
});

afterEach(async () => {
  await db.destroy();
  rmSync(directory, { recursive: true, force: true });
});

async function reopen(): Promise<void> {
  const opened = await openDatabase(join(directory, 'fleet.sqlite'));
  if (!opened.ok) throw new Error(opened.message);
  db = opened.value;
}

async function newCampaign(subnets: number): Promise<string> {
  const settings = { subnets, seed: 7, algorithm: 'nsga2', plan: DEFAULT_PLAN, budgetMs: null, validationSplit: 'validation', testSplit: 'test', space: SPACE } as const; // prettier-ignore
  await createCampaign(db, { id: 'c1', at: 1, settings: { ...settings, deviceClasses: [...CLASSES] }, weightsHash: 'w' });
  return 'c1';
}

const sizeOf = (subnet: Subnet) =>
  subnet.stages.flat().reduce((sum, block) => sum + (block.expand ?? 0) * (block.kernel ?? 0), subnet.resolution);
const latencies = new Map<string, number>();

function prepare(subnet: Subnet): Promise<Outcome<Prepared>> {
  const id = subnetId(SPACE, subnet);
  latencies.set(id, sizeOf(subnet) / 100);
  return Promise.resolve(ok({ manifestSha256: id.repeat(4), error: 1 / sizeOf(subnet) }));
}

const latencyOf = (job: StandInJob) => (latencies.get(job.key.split('/')[2] as string) as number) * (job.deviceClass === 'wasm' ? 5 : 1);
const plainly = (job: StandInJob): Outcome<Measurement> => measured(latencyOf(job));

interface Run {
  readonly end: CampaignEnd;
  readonly fleet: StandInFleet;
  readonly progress: readonly CampaignProgress[];
}

async function run(
  campaignId: string,
  answer: (job: StandInJob) => Outcome<Measurement> | null,
  options: {
    readonly leaveAfterTells?: number;
    readonly endAfterTells?: number;
    readonly prepare?: typeof prepare;
    readonly afterSearch?: (signal: AbortSignal) => Promise<void>;
  } = {},
): Promise<Run> {
  const fleet = await createStandInFleet(db, CLASSES, answer);
  const end = new AbortController();
  const leave = new AbortController();
  const progress: CampaignProgress[] = [];
  const outcome = await runCampaign(
    {
      db,
      fleet,
      prepare: options.prepare ?? prepare,
      clock: { wallMs: () => 0, sleep: () => Promise.resolve() },
      afterSearch: options.afterSearch ?? (() => Promise.resolve()),
      onProgress: (state) => {
        progress.push(state);
        const told = Object.values(state.classes).reduce((sum, { measured: m, censored }) => sum + m + censored, 0);
        if (told === options.leaveAfterTells) leave.abort();
        if (told === options.endAfterTells) end.abort('cap');
      },
    },
    campaignId,
    { end: end.signal, leave: leave.signal },
  );
  await fleet.close();
  if (!outcome.ok) throw new Error(outcome.message);
  return { end: outcome.value, fleet, progress };
}

async function load(): Promise<Campaign> {
  const loaded = await loadCampaign(db, 'c1');
  if (!loaded.ok) throw new Error(loaded.message);
  return loaded.value;
}

describe('a campaign', () => {
  it('measures as many distinct subnets as wanted, each once on every class, and tells the search each result', async () => {
    const { end, fleet, progress } = await run(await newCampaign(12), plainly);
    expect(end).toMatchObject({ reason: 'complete', complete: 12 });
    const campaign = await load();
    expect(campaign.endedReason).toBe('complete');
    expect(new Set(campaign.asks.map((ask) => ask.subnetId)).size).toBe(campaign.asks.length);
    expect(new Set(fleet.jobs.map((job) => job.key)).size).toBe(fleet.jobs.length);
    expect(campaign.tells.length).toBeGreaterThanOrEqual(24);
    expect(progress[progress.length - 1]?.complete).toBe(12);
    const told = campaign.tells.find((tell) => tell.deviceClass === 'wasm')?.outcome;
    expect(told?.ok === true && told.value.latency.ci?.method).toContain('order statistics');
  });

  it('asks for the next subnet while earlier ones are still being measured, so that no device waits', async () => {
    await run(await newCampaign(10), plainly);
    const { asks } = await load();
    expect(asks[1]?.toldBefore).toBe(0);
    expect(asks.slice(4).every((ask) => ask.toldBefore > 0)).toBe(true);
    expect(asks.slice(4).some((ask) => ask.toldBefore < 2 * ask.n)).toBe(true);
  });

  it('goes on where it was left, without asking, measuring or counting anything twice', async () => {
    const id = await newCampaign(10);
    const first = await run(id, plainly, { leaveAfterTells: 7 });
    expect(first.end.reason).toBe('left');
    const before = await load();
    expect(before.endedReason).toBeNull();
    await db.destroy();
    await reopen();
    const second = await run(id, plainly);
    expect(second.end).toMatchObject({ reason: 'complete', complete: 10 });
    const after = await load();
    expect(after.asks.slice(0, before.asks.length)).toEqual(before.asks);
    expect(after.tells.slice(0, before.tells.length)).toEqual(before.tells);
    const keys = [...first.fleet.jobs, ...second.fleet.jobs].map((job) => job.key);
    expect(new Set(keys).size).toBe(keys.length);
    expect((await measurementsOf(db, id)).length).toBe(keys.length);
  });

  it('takes results that landed while the controller was away', async () => {
    const id = await newCampaign(6);
    let open = 0;
    const held = await run(id, (job) => (open++ < 4 ? plainly(job) : null), { leaveAfterTells: 4 });
    const waiting = held.fleet.jobs.slice(4);
    expect(waiting.length).toBeGreaterThan(0);
    for (const job of waiting) {
      const row = { job_id: `job-${job.key.replaceAll('/', '-')}`, attempt: 1, device_id: `device-${job.deviceClass}`, outcome_json: JSON.stringify(plainly(job)), result_hash: 'x', late: 1 as const, at: 99 }; // prettier-ignore
      await db.insertInto('job_result').values(row).execute();
    }
    const second = await run(id, plainly);
    expect(second.end).toMatchObject({ reason: 'complete', complete: 6 });
    const keysOfSecond = second.fleet.jobs.map((job) => job.key);
    for (const job of waiting) expect(keysOfSecond).not.toContain(job.key);
  });

  it('measures a suspect or invalid result again, and believes the first valid one alone', async () => {
    const { end, fleet, progress } = await run(await newCampaign(4), (job) => {
      const attempt = Number(job.key.split('/')[4]);
      if (job.deviceClass === 'wasm') return plainly(job);
      return attempt === 1 ? measured(99, 'invalid') : attempt === 2 ? measured(88, 'suspect') : plainly(job);
    });
    expect(end.complete).toBe(4);
    expect(progress[progress.length - 1]?.repeated).toBeGreaterThanOrEqual(8);
    expect(progress.some(({ note }) => note?.includes('Others used 9 %') === true)).toBe(true);
    for (const { deviceClass, outcome } of (await load()).tells) {
      expect(outcome.ok && outcome.value.state).toBe('valid');
      if (deviceClass === 'native') expect(outcome.ok && outcome.value.latency.value).toBeLessThan(80);
    }
    const native = fleet.jobs.filter((job) => job.deviceClass === 'native').map((job) => job.key.split('/')[4]);
    expect(native.filter((attempt) => attempt === '3').length).toBeGreaterThanOrEqual(4);
  });

  it('asks again for what expired in the queue of a class that was away, and tells nothing of it', async () => {
    const { end } = await run(await newCampaign(3), (job) => {
      const attempt = Number(job.key.split('/')[4]);
      return job.deviceClass === 'wasm' && attempt < 5 ? failed('EXPIRED', 'No device took it within 24 h.') : plainly(job);
    });
    expect(end).toMatchObject({ reason: 'complete', complete: 3 });
    expect((await load()).tells.every(({ outcome }) => outcome.ok)).toBe(true);
  });

  it('gives up within a bound what expires every time', async () => {
    const { end, fleet } = await run(await newCampaign(1), (job) =>
      job.deviceClass === 'wasm' ? failed('EXPIRED', 'No device took it within 24 h.') : plainly(job),
    );
    expect(end).toMatchObject({ reason: 'exhausted', complete: 0 });
    expect(Math.max(...fleet.jobs.map(({ key }) => Number(key.split('/')[4])))).toBe(8);
  });

  it('keeps what stays suspect with an interval over all its tries, and censors what stays invalid', async () => {
    const first = new Map<string, string>();
    await run(await newCampaign(3), (job) => {
      const [, , id = '', deviceClass, attempt] = job.key.split('/');
      if (deviceClass === 'wasm') return plainly(job);
      if (!first.has(id)) first.set(id, first.size === 0 ? 'invalid' : 'suspect');
      return first.get(id) === 'invalid' ? measured(9, 'invalid') : measured(10 + Number(attempt), 'suspect');
    });
    const campaign = await load();
    const native = campaign.tells.filter((tell) => tell.deviceClass === 'native').map((tell) => tell.outcome);
    const censored = native.filter((outcome) => !outcome.ok);
    expect(censored).toHaveLength(1);
    expect(censored[0]).toMatchObject({ reason: 'NEIGHBOUR_LOAD' });
    for (const outcome of native) {
      if (!outcome.ok) continue;
      expect(outcome.value).toMatchObject({ state: 'suspect', latency: { ci: { method: 'hull of 3 suspect measurements' } } });
      expect(outcome.value.latency.value).toBeCloseTo(12, 1);
      expect(outcome.value.latency.ci?.lo).toBeLessThan(11);
      expect(outcome.value.latency.ci?.hi).toBeGreaterThan(13);
      expect(outcome.value.jobIds).toHaveLength(3);
    }
    // the censored one does not count, so another was asked in its place
    expect(campaign.asks.length).toBeGreaterThan(3);
  });

  it('ends honestly at its cap: says how many, and takes back what is still in the queue', async () => {
    const id = await newCampaign(30);
    const { end, fleet } = await run(id, plainly, { endAfterTells: 9 });
    expect(end.reason).toBe('cap');
    expect(end.message).toBe(`The time cap came after ${end.complete} of 30 subnets.`);
    expect(fleet.canceled.length).toBeGreaterThan(0);
    expect((await load()).endedReason).toBe('cap');
  });

  it('takes back the jobs that an earlier run of the controller left in the queue when another campaign takes its place', async () => {
    const id = await newCampaign(30);
    const away = await run(id, (job) => (job.deviceClass === 'wasm' ? null : plainly(job)), { leaveAfterTells: 3 });
    const waiting = away.fleet.jobs.filter(({ deviceClass }) => deviceClass === 'wasm').map(({ key }) => `job-${key.replaceAll('/', '-')}`);
    const fleet = await createStandInFleet(db, CLASSES, () => null);
    await endForGood({ db, fleet }, id, 'stopped');
    expect(fleet.canceled).toEqual(expect.arrayContaining(waiting));
    expect((await load()).endedReason).toBe('stopped');
    await fleet.close();
  });

  it('is not at its end before what belongs to it is done, which the next run goes on with where it was left', async () => {
    const id = await newCampaign(3);
    const seen: unknown[] = [];
    const left = await run(id, plainly, {
      leaveAfterTells: 6,
      afterSearch: async (signal) => void seen.push(signal.aborted, (await load()).endedReason),
    });
    expect(left.end.reason).toBe('left');
    expect((await load()).endedReason).toBeNull();
    const { end } = await run(id, plainly, { afterSearch: async (signal) => void seen.push(signal.aborted, (await load()).endedReason) });
    expect(end).toMatchObject({ reason: 'complete', complete: 3 });
    expect(seen.slice(-2)).toEqual([false, null]);
    expect((await load()).endedReason).toBe('complete');
  });

  it('ends within a bound where no subnet can be measured at all', async () => {
    const { end } = await run(await newCampaign(5), () => failed('UNSUPPORTED_OP', 'no such operator'));
    expect(end.reason).toBe('exhausted');
    expect(end.complete).toBe(0);
    expect((await load()).asks).toHaveLength(15);
  });

  it('does not grow the queue of a class that works while another is away', async () => {
    const id = await newCampaign(30);
    const { fleet } = await run(id, (job) => (job.deviceClass === 'wasm' ? null : plainly(job)), { endAfterTells: 8 });
    expect(fleet.jobs.filter((job) => job.deviceClass === 'wasm')).toHaveLength(8);
  });

  it.each([
    ['LOW_DISK', '3 MB free, 20 needed.'],
    ['CRASHED', 'The evaluation thread ended with code 1.'],
  ] as const)(
    'stops with a fault of the controller (%s) without blaming subnets, and goes on when it is mended',
    async (reason, message) => {
      const id = await newCampaign(5);
      let prepared = 0;
      const breaking = (subnet: Subnet) => (prepared++ < 2 ? prepare(subnet) : Promise.resolve(failed(reason, message)));
      await expect(run(id, plainly, { prepare: breaking })).rejects.toThrow(
        /could not go on: .* of 5 subnets .* start the same command again/,
      );
      const left = await load();
      expect(left.endedReason).toBeNull();
      expect(left.tells.every(({ outcome }) => outcome.ok)).toBe(true);
      expect((await run(id, plainly)).end).toMatchObject({ reason: 'complete', complete: 5 });
    },
  );

  it('censors a subnet that cannot be materialised on every class, and goes on', async () => {
    let first = true;
    const { end } = await run(await newCampaign(4), plainly, {
      prepare: (subnet) => {
        if (!first) return prepare(subnet);
        first = false;
        return Promise.resolve(failed('OUTPUT_MISMATCH', 'differs by 0.2'));
      },
    });
    expect(end).toMatchObject({ reason: 'complete', complete: 4 });
    expect((await load()).tells.filter(({ outcome }) => !outcome.ok)).toHaveLength(2);
  });

  it('refuses to resume where the search would ask otherwise than it did', async () => {
    const id = await newCampaign(6);
    await run(id, plainly, { leaveAfterTells: 5 });
    const { settings } = await load();
    await db
      .updateTable('campaign')
      .set({ settings_json: JSON.stringify({ ...settings, seed: 8 }) })
      .execute();
    await expect(run(id, plainly)).rejects.toThrow(/Campaign c1 cannot go on.*Start a new campaign/);
  });
});
