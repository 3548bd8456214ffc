// Manifests that jobs and deployments name, and which of them are live for a device: only those open its blobs.
import type { BlobRef } from '@ofa-fleet/shared/artifact.ts';
import type { Db } from './database.ts';
import { HELD_STATES } from './jobs.ts';

export async function insertManifestOnce(db: Db, ref: BlobRef, now: number): Promise<void> {
  await db
    .insertInto('manifest')
    .values({ manifest_sha256: ref.sha256, bytes: ref.bytes, blocks_sha256: ref.blocksSha256, at: now })
    .onConflict((conflict) => conflict.doNothing())
    .execute();
}

export async function findManifestRef(db: Db, sha256: string): Promise<BlobRef | null> {
  const row = await db.selectFrom('manifest').selectAll().where('manifest_sha256', '=', sha256).executeTakeFirst();
  return row === undefined ? null : { sha256, bytes: row.bytes, blocksSha256: row.blocks_sha256 };
}

/** Of the jobs that the device holds, of what it should serve and of what it serves. */
export async function liveManifests(db: Db, deviceId: string): Promise<readonly string[]> {
  const rows = await db
    .selectFrom('job')
    .select('manifest_sha256')
    .where('device_id', '=', deviceId)
    .where('state', 'in', HELD_STATES)
    .union(
      db
        .selectFrom('deployment')
        .select('manifest_sha256')
        .where('device_id', '=', deviceId)
        .where('state', 'in', ['desired', 'committed']),
    )
    .execute();
  return rows.map(({ manifest_sha256 }) => manifest_sha256);
}
