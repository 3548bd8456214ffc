// The row that says which model is deployed, in the agent's own database (whose connection commits with synchronous=FULL).
import type { Database } from 'better-sqlite3';
import { z } from 'zod';
import { manifestSchema, sha256Schema } from '@ofa-fleet/shared/artifact.ts';
import type { SlotStore } from '../ports.ts';

const slotSchema = z.object({ rev: z.int().min(0), manifestSha256: sha256Schema, manifest: manifestSchema });
const rowSchema = z.object({ current: slotSchema.nullable(), committed: z.boolean(), previous: slotSchema.nullable() });

export function createSlotStore(db: Database): SlotStore {
  db.exec('CREATE TABLE IF NOT EXISTS slot (id INTEGER PRIMARY KEY CHECK (id = 1), state TEXT NOT NULL)');
  return {
    read: () => {
      const row = db.prepare<[], { state: string }>('SELECT state FROM slot WHERE id = 1').get();
      return row === undefined ? { current: null, committed: false, previous: null } : rowSchema.parse(JSON.parse(row.state));
    },
    write: (state) => {
      db.prepare('INSERT INTO slot (id, state) VALUES (1, ?) ON CONFLICT (id) DO UPDATE SET state = excluded.state').run(
        JSON.stringify(state),
      );
    },
  };
}
