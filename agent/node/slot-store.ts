// The row that says which model is deployed, in the agent's own database (whose connection commits with synchronous=FULL).
import type { Database } from 'better-sqlite3';
import { z } from 'zod';
import { manifestSchema, sha256Schema } from '@ofa-fleet/shared/artifact.ts';
import { REASONS } from '@ofa-fleet/shared/outcome.ts';
import type { SlotStore } from '../ports.ts';

const slotSchema = z.object({ rev: z.int().min(0), manifestSha256: sha256Schema, manifest: manifestSchema });
const failedSchema = z.object({ rev: z.int().min(0), reason: z.enum(REASONS), message: z.string() });
const rowSchema = z.object({
  current: slotSchema.nullable(),
  committed: z.boolean(),
  previous: slotSchema.nullable(),
  failed: failedSchema.nullable().default(null),
});

/** Kept by identity: revisions are counted for a device by its controller, so a device that enrols anew begins anew. */
export function createSlotStore(db: Database, deviceId: string): SlotStore {
  db.exec('CREATE TABLE IF NOT EXISTS slot (device_id TEXT PRIMARY KEY, state TEXT NOT NULL)');
  return {
    read: () => {
      const row = db.prepare<[string], { state: string }>('SELECT state FROM slot WHERE device_id = ?').get(deviceId);
      return row === undefined ? { current: null, committed: false, previous: null, failed: null } : rowSchema.parse(JSON.parse(row.state));
    },
    write: (state) => {
      db.prepare('INSERT INTO slot (device_id, state) VALUES (?, ?) ON CONFLICT (device_id) DO UPDATE SET state = excluded.state').run(
        deviceId,
        JSON.stringify(state),
      );
    },
  };
}
