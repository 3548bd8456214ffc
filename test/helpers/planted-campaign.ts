// A finished campaign in a real database: the real loop and search over stand-in devices, so that reports have something to say.
import { DEFAULT_PLAN, type Measurement } from '@ofa-fleet/shared/measurement.ts';
import { ok, type Outcome } from '@ofa-fleet/shared/outcome.ts';
import { runCampaign, type Prepared } from '../../controller/campaign.ts';
import { PRESETS, type Space } from '../../controller/space.ts';
import { addAccuracy, addArtifact } from '../../controller/store/artifacts.ts';
import { createCampaign } from '../../controller/store/campaigns.ts';
import { openDatabase, type Db } from '../../controller/store/database.ts';
import { subnetId, type Subnet } from '../../controller/subnet.ts';
import { createStandInFleet, measured, type StandInJob } from './stand-in-fleet.ts';

export const SPACE = PRESETS['fashion-tiny'] as Space;
export const CLASSES = ['native', 'wasm'];
const WEIGHTS = 'w'.repeat(64);
const VALIDATION = 'validation-2500-aa';
const TEST = 'test-2500-bb';

/** Larger nets are slower and better; on `wasm` wide kernels cost more, so that the fronts differ. */
function costOf(subnet: Subnet, deviceClass: string): number {
  const blocks = subnet.stages.flat();
  const kernelPower = deviceClass === 'wasm' ? 2 : 1;
  return 0.2 + blocks.reduce((sum, block) => sum + (block.expand ?? 0) * (block.kernel ?? 0) ** kernelPower, 0) / 500;
}

export interface PlantedOptions {
  readonly subnets: number;
  readonly budgetMs?: number | null;
  readonly answer?: (job: StandInJob, latencyMs: number) => Outcome<Measurement>;
}

/** The database is in memory. */
export async function plantCampaign(options: PlantedOptions): Promise<{ readonly db: Db; readonly campaignId: string }> {
  const opened = await openDatabase(':memory:');
  if (!opened.ok) throw new Error(opened.message);
  const db = opened.value;
  const settings = { subnets: options.subnets, seed: 3, algorithm: 'nsga2' as const, deviceClasses: [...CLASSES], plan: DEFAULT_PLAN, budgetMs: options.budgetMs ?? null, validationSplit: VALIDATION, testSplit: TEST, space: SPACE }; // prettier-ignore
  const campaignId = 'planted';
  await createCampaign(db, { id: campaignId, at: 1, settings, weightsHash: WEIGHTS });
  const subnets = new Map<string, Subnet>();
  const fleet = await createStandInFleet(db, CLASSES, (job) => {
    const subnet = subnets.get(job.key.split('/')[2] as string) as Subnet;
    const latencyMs = costOf(subnet, job.deviceClass);
    return options.answer === undefined ? measured(latencyMs) : options.answer(job, latencyMs);
  });
  const prepare = async (subnet: Subnet): Promise<Outcome<Prepared>> => {
    const id = subnetId(SPACE, subnet);
    subnets.set(id, subnet);
    return ok({ manifestSha256: id.repeat(4), error: await plantAccuracies(db, subnet) });
  };
  const end = await runCampaign(
    { db, fleet, prepare, clock: { wallMs: () => 2, sleep: () => Promise.resolve() }, onProgress: () => {} },
    campaignId,
    {
      end: new AbortController().signal,
      leave: new AbortController().signal,
    },
  );
  await fleet.close();
  if (!end.ok) throw new Error(end.message);
  return { db, campaignId };
}

/** Artifact, validation and test rows of a subnet; returns the validation error. */
export async function plantAccuracies(db: Db, subnet: Subnet): Promise<number> {
  const id = subnetId(SPACE, subnet);
  const wrong = Math.round(200 + 400 / costOf(subnet, 'native'));
  await addArtifact(db, { subnetId: id, weightsHash: WEIGHTS, manifestSha256: id.repeat(4), macs: costOf(subnet, 'native') * 1e6, parameters: 12_345, at: 1 }); // prettier-ignore
  for (const split of [VALIDATION, TEST]) {
    const predictions = new Uint8Array(2500).fill(3);
    await addAccuracy(db, { subnetId: id, weightsHash: WEIGHTS, split, correct: 2500 - wrong, total: 2500, predictions, at: 1 });
  }
  return wrong / 2500;
}
