// What is known of a device's health; fleet/device-health.ts has the rules.
import { z } from 'zod';
import type { Db } from './database.ts';

const workloadSchema = z.object({
  /** First readings in valid measurements, ms; the baseline is theirs, and is never learnt anew by itself. */
  readingsMs: z.array(z.number()),
  /** Measurements in a row in which the device was off its baseline. */
  shiftedInRow: z.int(),
});

const healthSchema = z.object({
  /** By `ReferenceReadings.workload`. */
  workloads: z.record(z.string(), workloadSchema),
  invalidInRow: z.int(),
  quarantine: z.object({ message: z.string(), since: z.number(), retryAt: z.number() }).nullable(),
});
export type DeviceHealth = Readonly<z.infer<typeof healthSchema>>;

export const HEALTHY: DeviceHealth = { workloads: {}, invalidInRow: 0, quarantine: null };

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
