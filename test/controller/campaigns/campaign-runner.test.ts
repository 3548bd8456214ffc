// The campaigns of a running controller, with a real database; the fleet is a stand-in, since devices are hardware.
import { afterEach, beforeEach, expect, it } from 'vitest';
import { DEFAULT_PLAN } from '@ofa-fleet/shared/measurement.ts';
import { ok } from '@ofa-fleet/shared/outcome.ts';
import {
  createCampaignRunner,
  type CampaignEvent,
  type CampaignRequest,
  type CampaignRunner,
} from '../../../controller/campaigns/campaign-runner.ts';
import { listCampaigns, openJobsOf } from '../../../controller/store/campaigns.ts';
import { openDatabase, type Db } from '../../../controller/store/database.ts';
import { subnetId } from '../../../controller/subnet.ts';
import { value } from '../../helpers/outcome.ts';
import { createStandInFleet, type StandInFleet } from '../../helpers/stand-in-fleet.ts';
import { TINY_SPACE } from '../../helpers/tiny-supernet.ts';

const REQUEST: CampaignRequest = {
  subnets: 4,
  seed: 1,
  algorithm: 'nsga2',
  deviceClasses: null,
  budgetMs: null,
  capMs: null,
  plan: DEFAULT_PLAN,
};
let db: Db;
let fleet: StandInFleet;
let ids = 0;

beforeEach(async () => {
  db = value(await openDatabase(':memory:'));
  fleet = await createStandInFleet(db, ['native'], () => null);
});
afterEach(async () => {
  await fleet.close();
  await db.destroy();
});

/** Its device answers never, so a campaign runs until something ends it. */
function openRunner(weightsHash = 'w'): Promise<CampaignRunner> {
  const controller = {
    db,
    fleet,
    checkpoint: { space: TINY_SPACE, tensors: new Map(), recipe: null, provenance: null },
    weightsHash,
    splits: { validation: 'v', test: 't' },
    prepare: (subnet: Parameters<typeof subnetId>[1]) =>
      Promise.resolve(ok({ manifestSha256: subnetId(TINY_SPACE, subnet).repeat(4), error: 0.5 })),
  };
  return createCampaignRunner(controller, () => `c${ids++}`, () => undefined); // prettier-ignore
}

it('starts one of two campaigns that are asked for at the same time', async () => {
  const runner = await openRunner();
  const [first, second] = await Promise.all([runner.start(REQUEST), runner.start(REQUEST)]);
  expect(first.ok).toBe(true);
  expect(second).toMatchObject({ ok: false, reason: 'BUSY' });
  expect(await listCampaigns(db)).toHaveLength(1);
  await runner.close();
});

it('keeps the time cap of a campaign over a restart of the controller', async () => {
  const before = await openRunner();
  value(await before.start({ ...REQUEST, capMs: 1500 }));
  await before.close();
  expect((await listCampaigns(db))[0]?.endedReason).toBeNull();
  const after = await openRunner();
  const end = await new Promise<CampaignEvent>((resolve) => after.subscribe((event) => event.kind === 'end' && resolve(event)));
  expect(end).toMatchObject({ outcome: { ok: true, value: { reason: 'cap' } } });
  await after.close();
});

it('stops a campaign and leaves none of its jobs with the fleet', async () => {
  const runner = await openRunner();
  const id = value(await runner.start(REQUEST));
  while ((await openJobsOf(db, id)).length === 0) await new Promise((resolve) => setTimeout(resolve, 10));
  const open = await openJobsOf(db, id);
  expect((await runner.stop(id)).ok).toBe(true);
  expect(fleet.canceled).toEqual(expect.arrayContaining([...open]));
  expect(await runner.stop(id)).toMatchObject({ ok: false, reason: 'NOT_FOUND' });
  await runner.close();
});

it('goes on with a campaign that was left open, but not with the weights of another supernet: that one has failed', async () => {
  const runner = await openRunner();
  const id = value(await runner.start(REQUEST));
  await runner.close();
  const again = await openRunner();
  expect((await listCampaigns(db)).map(({ endedReason }) => endedReason)).toEqual([null]);
  expect(await again.start(REQUEST)).toMatchObject({ ok: false, reason: 'BUSY' });
  await again.close();
  const other = await openRunner('others');
  expect((await listCampaigns(db)).find((campaign) => campaign.id === id)?.endedReason).toBe('failed');
  expect((await other.start(REQUEST)).ok).toBe(true);
  await other.close();
});
