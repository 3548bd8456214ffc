// What is known of a device's health, as the rules in fleet/device-health.ts keep it.
import { healthSchema, HEALTHY, type DeviceHealth } from '../fleet/device-health.ts';
import type { Db } from './database.ts';

export async function findHealth(db: Db, deviceId: string): Promise<DeviceHealth> {
  const row = await db.selectFrom('device_health').select('health_json').where('device_id', '=', deviceId).executeTakeFirst();
  return row === undefined ? HEALTHY : healthSchema.parse(JSON.parse(row.health_json));
}

export async function saveHealth(db: Db, deviceId: string, health: DeviceHealth): Promise<void> {
  const row = { device_id: deviceId, health_json: JSON.stringify(health) };
  await db
    .insertInto('device_health')
    .values(row)
    .onConflict((conflict) => conflict.column('device_id').doUpdateSet(row))
    .execute();
}

/** By device id; devices that never measured are not in it. */
export async function listHealth(db: Db): Promise<ReadonlyMap<string, DeviceHealth>> {
  const rows = await db.selectFrom('device_health').selectAll().execute();
  return new Map(rows.map(({ device_id, health_json }) => [device_id, healthSchema.parse(JSON.parse(health_json))]));
}
