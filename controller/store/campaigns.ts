// Campaigns as rows: what was asked, what was told, and every measurement behind it. Asks and tells are only ever added; reading them back in
// their recorded interleaving is how a campaign resumes.
import { z } from 'zod';
import { measurementSchema, planSchema, type Measurement } from '@ofa-fleet/shared/measurement.ts';
import { failed, ok, type Outcome } from '@ofa-fleet/shared/outcome.ts';
import { canonicalJson, parseSpace, spaceId, type Space } from '../space.ts';
import { parseSubnet, type Subnet } from '../subnet.ts';
import type { Db } from './database.ts';
import { failureSchema, toldSchema, type Told } from './told.ts';

const settingsSchema = z.object({
  subnets: z.int().min(1),
  seed: z.int().min(0),
  algorithm: z.enum(['nsga2', 'random']),
  deviceClasses: z.array(z.string()).min(1),
  plan: planSchema,
  /** Latency that a chosen subnet has to keep, by class; null: the median of what the class measured. */
  budgetMs: z.number().positive().nullable(),
  /** Ends the search after so long; null or absent: never. Counted anew when a restarted controller goes on. */
  capMs: z.number().positive().nullish(),
  /** Names of the image sets, as the accuracy rows carry them: what the search sees, and what is kept apart until the end. */
  validationSplit: z.string(),
  testSplit: z.string(),
  /** The whole space, so that the campaign can be read without the checkpoint. */
  space: z.unknown(),
});
export type CampaignSettings = Readonly<Omit<z.infer<typeof settingsSchema>, 'space'>> & { readonly space: Space };

/** `cap`: the time was over; `stopped`: by the user; `exhausted`: nothing new to ask or too many failures; `failed`: the controller could not. */
export type EndedReason = 'complete' | 'cap' | 'stopped' | 'exhausted' | 'failed';
const endedReasonSchema = z.enum(['complete', 'cap', 'stopped', 'exhausted', 'failed']);

export interface AskRow {
  readonly n: number;
  readonly subnetId: string;
  readonly subnet: Subnet;
  readonly toldBefore: number;
}

export interface TellRow extends Told {
  readonly subnetId: string;
  readonly deviceClass: string;
}

export interface Campaign {
  readonly id: string;
  readonly createdAt: number;
  readonly settings: CampaignSettings;
  readonly weightsHash: string;
  /** null while it is not at its end, running or to be resumed. */
  readonly endedReason: EndedReason | null;
  readonly asks: readonly AskRow[];
  /** In the order in which the search was told. */
  readonly tells: readonly TellRow[];
}

/** `search`: one ask on one class; `repeat`: the same in another process; `energy`: joules of a member of the front; `baseline`: a subnet that only the comparison needs. */
type Purpose = 'search' | 'repeat' | 'energy' | 'baseline';

export interface MeasurementName {
  readonly campaignId: string;
  readonly purpose: Purpose;
  readonly subnetId: string;
  readonly deviceClass: string;
  /** 1, 2, …: a doubtful measurement is made again under the next number. */
  readonly attempt: number;
}

/** The key under which the fleet knows a measurement: asking twice gives the same job, across restarts too. */
export function measurementKey({ campaignId, purpose, subnetId, deviceClass, attempt }: MeasurementName): string {
  return [campaignId, purpose, subnetId, deviceClass, attempt].join('/');
}

export async function createCampaign(
  db: Db,
  campaign: { id: string; at: number; settings: CampaignSettings; weightsHash: string },
): Promise<void> {
  const { id, at, settings, weightsHash } = campaign;
  await db
    .insertInto('campaign')
    .values({
      id,
      created_at: at,
      settings_json: JSON.stringify(settings),
      space_id: spaceId(settings.space),
      weights_hash: weightsHash,
      state: 'running',
      ended_reason: null,
    })
    .execute();
}

export async function endCampaign(db: Db, id: string, reason: EndedReason): Promise<void> {
  await db
    .updateTable('campaign')
    .set({ state: 'ended', ended_reason: reason })
    .where('id', '=', id)
    .where('state', '=', 'running')
    .execute();
}

/** Jobs of the campaign that are not at their end, whatever they measure. */
export async function openJobsOf(db: Db, campaignId: string): Promise<readonly string[]> {
  const rows = await jobsOf(db, campaignId).select('job.job_id').where('state', 'in', ['QUEUED', 'LEASED', 'RUNNING']).execute();
  return rows.map(({ job_id: jobId }) => jobId);
}

/** By the key that `measurementKey` gives. */
function jobsOf(db: Db, campaignId: string) {
  return db.selectFrom('job').where('job.dedupe_key', '>=', `${campaignId}/`).where('job.dedupe_key', '<', `${campaignId}0`); // '0' follows '/' in ASCII
}

export async function addAsk(db: Db, campaignId: string, ask: AskRow): Promise<void> {
  const { n, subnetId, subnet, toldBefore } = ask;
  const row = { campaign_id: campaignId, n, subnet_id: subnetId, subnet_json: canonicalJson(subnet), told_before: toldBefore };
  await db.insertInto('ask').values(row).execute();
}

/** Adds the next tell; its number is the order that a replay repeats. */
export async function addTell(db: Db, campaignId: string, tell: TellRow & { readonly at: number }): Promise<void> {
  await db
    .insertInto('tell')
    .values((eb) => ({
      campaign_id: campaignId,
      seq: eb.selectFrom('tell').select((inner) => inner.fn.countAll<number>().as('seq')).where('campaign_id', '=', campaignId), // prettier-ignore
      subnet_id: tell.subnetId,
      device_class: tell.deviceClass,
      job_id: tell.jobId,
      outcome_json: JSON.stringify(tell.outcome),
      at: tell.at,
    }))
    .execute();
}

export interface CampaignSummary {
  readonly id: string;
  readonly createdAt: number;
  readonly endedReason: EndedReason | null;
  readonly asks: number;
  readonly tells: number;
}

/** Newest first. */
export async function listCampaigns(db: Db): Promise<readonly CampaignSummary[]> {
  const rows = await db
    .selectFrom('campaign')
    .select((eb) => [
      'id',
      'created_at',
      'ended_reason',
      eb.selectFrom('ask').select(eb.fn.countAll<number>().as('n')).whereRef('campaign_id', '=', 'campaign.id').as('asks'),
      eb.selectFrom('tell').select(eb.fn.countAll<number>().as('n')).whereRef('campaign_id', '=', 'campaign.id').as('tells'),
    ])
    .orderBy('created_at', 'desc')
    .orderBy('id', 'desc')
    .execute();
  return rows.map((row) => ({
    id: row.id,
    createdAt: row.created_at,
    endedReason: endedReasonSchema.nullable().parse(row.ended_reason),
    asks: row.asks ?? 0,
    tells: row.tells ?? 0,
  }));
}

/** The whole campaign. NOT_FOUND where there is none of this id; CORRUPT_FILE where a row cannot be read. */
export async function loadCampaign(db: Db, id: string): Promise<Outcome<Campaign>> {
  const row = await db.selectFrom('campaign').selectAll().where('id', '=', id).executeTakeFirst();
  if (row === undefined)
    return failed('NOT_FOUND', `There is no campaign ${id} in this database; \`ofa-fleet report\` without --campaign takes the newest.`);
  const unreadable = (what: string, why: string) => failed('CORRUPT_FILE', `Campaign ${id} cannot be read: ${what}: ${why}`);
  const settings = settingsSchema.safeParse(json(row.settings_json));
  if (!settings.success) return unreadable('settings', settings.error.message);
  const space = parseSpace(settings.data.space, `the space of campaign ${id}`);
  if (!space.ok) return space;
  const asks: AskRow[] = [];
  for (const ask of await db.selectFrom('ask').selectAll().where('campaign_id', '=', id).orderBy('n').execute()) {
    const subnet = parseSubnet(space.value, json(ask.subnet_json), `ask ${ask.n} of campaign ${id}`);
    if (!subnet.ok) return subnet;
    asks.push({ n: ask.n, subnetId: ask.subnet_id, subnet: subnet.value, toldBefore: ask.told_before });
  }
  const tells: TellRow[] = [];
  for (const tell of await db.selectFrom('tell').selectAll().where('campaign_id', '=', id).orderBy('seq').execute()) {
    const outcome = toldSchema.safeParse(json(tell.outcome_json));
    if (!outcome.success) return unreadable(`tell ${tell.seq}`, outcome.error.message);
    tells.push({ subnetId: tell.subnet_id, deviceClass: tell.device_class, jobId: tell.job_id, outcome: outcome.data });
  }
  const endedReason = endedReasonSchema.nullable().safeParse(row.ended_reason);
  if (!endedReason.success) return unreadable('ended_reason', endedReason.error.message);
  return ok({
    id,
    createdAt: row.created_at,
    settings: { ...settings.data, space: space.value },
    weightsHash: row.weights_hash,
    endedReason: endedReason.data,
    asks,
    tells,
  });
}

export interface CampaignMeasurement extends MeasurementName {
  readonly jobId: string;
  readonly deviceId: string;
  readonly at: number;
  readonly measurement: Measurement;
}

/** Every measurement that devices made for the campaign, doubtful and repeated ones too, in the order in which they came. */
export async function measurementsOf(db: Db, campaignId: string): Promise<readonly CampaignMeasurement[]> {
  const rows = await jobsOf(db, campaignId)
    .innerJoin('job_result', 'job_result.job_id', 'job.job_id')
    .select(['job.job_id', 'job.dedupe_key', 'job_result.device_id', 'job_result.outcome_json', 'job_result.at'])
    .orderBy('job_result.at')
    .orderBy('job.job_id')
    .execute();
  return rows.flatMap((row) => {
    const [, purpose, subnetId, deviceClass, attempt] = row.dedupe_key.split('/') as [string, Purpose, string, string, string];
    const outcome = resultSchema.parse(json(row.outcome_json));
    if (!outcome.ok) return [];
    const name = { campaignId, purpose, subnetId, deviceClass, attempt: Number(attempt) };
    return [{ ...name, jobId: row.job_id, deviceId: row.device_id, at: row.at, measurement: outcome.value }];
  });
}

const resultSchema = z.union([z.object({ ok: z.literal(true), value: measurementSchema }), failureSchema]);

function json(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}
