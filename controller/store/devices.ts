// Devices, the claims by which they came, and when they were last heard.
import type { DeviceInfo } from '@ofa-fleet/shared/device.ts';
import type { Db } from './database.ts';
import type { ClaimTable, DeviceTable, PresenceTable } from './schema.ts';

export async function insertClaim(
  db: Db,
  claim: Pick<ClaimTable, 'claim_id' | 'secret_hash' | 'name' | 'created_at' | 'expires_at'>,
): Promise<void> {
  await db
    .insertInto('claim')
    .values({ ...claim, used_at: null, device_id: null })
    .execute();
}

export async function findClaim(db: Db, claimId: string): Promise<ClaimTable | null> {
  return (await db.selectFrom('claim').selectAll().where('claim_id', '=', claimId).executeTakeFirst()) ?? null;
}

/** Both or neither: a used claim always has its device. */
export async function insertEnrolled(db: Db, device: DeviceTable, claimId: string): Promise<void> {
  await db.transaction().execute(async (tx) => {
    await tx.insertInto('device').values(device).execute();
    await tx
      .updateTable('claim')
      .set({ used_at: device.enrolled_at, device_id: device.device_id })
      .where('claim_id', '=', claimId)
      .execute();
  });
}

export async function findDevice(db: Db, deviceId: string): Promise<DeviceTable | null> {
  return (await db.selectFrom('device').selectAll().where('device_id', '=', deviceId).executeTakeFirst()) ?? null;
}

export async function listDevices(db: Db): Promise<readonly DeviceTable[]> {
  return db.selectFrom('device').selectAll().orderBy('enrolled_at').orderBy('device_id').execute();
}

export async function countDevices(db: Db): Promise<number> {
  const row = await db
    .selectFrom('device')
    .select((eb) => eb.fn.countAll<number>().as('n'))
    .executeTakeFirstOrThrow();
  return row.n;
}

/** What the device says of itself now: its runtime or its class may have changed since it enrolled. */
export async function updateDeviceInfo(db: Db, deviceId: string, deviceClass: string, info: DeviceInfo): Promise<void> {
  await db
    .updateTable('device')
    .set({ device_class: deviceClass, info_json: JSON.stringify(info) })
    .where('device_id', '=', deviceId)
    .execute();
}

export async function savePresence(db: Db, presence: PresenceTable): Promise<void> {
  await db
    .insertInto('presence')
    .values(presence)
    .onConflict((conflict) => conflict.column('device_id').doUpdateSet(presence))
    .execute();
}

export async function listPresence(db: Db): Promise<readonly PresenceTable[]> {
  return db.selectFrom('presence').selectAll().execute();
}
