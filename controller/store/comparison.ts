// What stands beside a campaign's own choice: random subnets measured for the comparison alone, and checks of the models as deployed.
import { z } from 'zod';
import { failed, ok, type Outcome } from '@ofa-fleet/shared/outcome.ts';
import { canonicalJson, type Space } from '../space.ts';
import { parseSubnet, type Subnet } from '../subnet.ts';
import type { Db } from './database.ts';

export interface Baseline {
  readonly deviceClass: string;
  readonly subnetId: string;
  readonly subnet: Subnet;
}

/** The first one drawn for a class stays: a restart must not draw until it likes the result. */
export async function addBaseline(db: Db, campaignId: string, { deviceClass, subnetId, subnet }: Baseline): Promise<void> {
  const row = { campaign_id: campaignId, device_class: deviceClass, subnet_id: subnetId, subnet_json: canonicalJson(subnet) };
  await db
    .insertInto('baseline')
    .values(row)
    .onConflict((conflict) => conflict.columns(['campaign_id', 'device_class']).doNothing())
    .execute();
}

export async function baselinesOf(db: Db, campaignId: string, space: Space): Promise<Outcome<readonly Baseline[]>> {
  const baselines: Baseline[] = [];
  for (const row of await db.selectFrom('baseline').selectAll().where('campaign_id', '=', campaignId).orderBy('device_class').execute()) {
    const subnet = parseSubnet(space, JSON.parse(row.subnet_json), `the baseline of ${row.device_class} in campaign ${campaignId}`);
    if (!subnet.ok) return failed('CORRUPT_FILE', subnet.message);
    baselines.push({ deviceClass: row.device_class, subnetId: row.subnet_id, subnet: subnet.value });
  }
  return ok(baselines);
}

export interface ServedCheck {
  readonly deviceId: string;
  readonly deviceClass: string;
  readonly subnetId: string;
  readonly carrier: 'http' | 'mqtt';
  readonly images: number;
  /** Images on which the device's class (argmax) is the controller's own. */
  readonly agreeing: number;
  /** The device's own time of each run, and the time until the answer was here; in order. */
  readonly runMs: readonly number[];
  readonly roundTripMs: readonly number[];
}

export async function addServedCheck(db: Db, campaignId: string, check: ServedCheck, at: number): Promise<void> {
  const { deviceId, deviceClass, subnetId, carrier, images, agreeing, runMs, roundTripMs } = check;
  await db
    .insertInto('served_check')
    .values({
      campaign_id: campaignId,
      device_id: deviceId,
      device_class: deviceClass,
      subnet_id: subnetId,
      carrier,
      images,
      agreeing,
      run_ms_json: JSON.stringify(runMs),
      round_trip_ms_json: JSON.stringify(roundTripMs),
      at,
    })
    .execute();
}

/** In the order in which they were made; a device checked again by the same way is there twice, and the last one counts. */
export async function servedChecksOf(db: Db, campaignId: string): Promise<readonly ServedCheck[]> {
  const times = z.array(z.number());
  const rows = await db.selectFrom('served_check').selectAll().where('campaign_id', '=', campaignId).orderBy('id').execute();
  const checks = rows.map((row): ServedCheck => ({
    deviceId: row.device_id,
    deviceClass: row.device_class,
    subnetId: row.subnet_id,
    carrier: z.enum(['http', 'mqtt']).parse(row.carrier),
    images: row.images,
    agreeing: row.agreeing,
    runMs: times.parse(JSON.parse(row.run_ms_json)),
    roundTripMs: times.parse(JSON.parse(row.round_trip_ms_json)),
  }));
  return [...new Map(checks.map((check) => [`${check.deviceId} ${check.carrier}`, check])).values()];
}
