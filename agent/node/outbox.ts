// The agent's durable memory on Node: one SQLite file with synchronous FULL behind every promise that it makes to the controller.
import Database from 'better-sqlite3';
import { z } from 'zod';
import { UP, type JobUpdate } from '@ofa-fleet/shared/protocol.ts';
import { failed, ok, type Outcome } from '@ofa-fleet/shared/outcome.ts';
import type { HeldJob, Outbox, OutboxRow } from '../ports.ts';

/** Results are never dropped; above 80 % of these the agent takes no new work. */
const MAX_ROWS = 10_000;
const MAX_BYTES = 64 * 1024 * 1024;
const NEARLY_FULL = 0.8;

const PRAGMAS: Readonly<Record<string, string | number>> = { journal_mode: 'wal', synchronous: 2, foreign_keys: 1, busy_timeout: 5000 };

const SCHEMA = `
CREATE TABLE IF NOT EXISTS held (
  job_id TEXT PRIMARY KEY, attempt INTEGER NOT NULL, phase TEXT NOT NULL CHECK (phase IN ('running', 'done'))
) STRICT;
CREATE TABLE IF NOT EXISTS outbox (
  seq INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE, job_id TEXT NOT NULL, body TEXT NOT NULL, at INTEGER NOT NULL
) STRICT;
CREATE TABLE IF NOT EXISTS aside (
  id TEXT PRIMARY KEY, job_id TEXT NOT NULL, body TEXT NOT NULL, why TEXT NOT NULL, at INTEGER NOT NULL
) STRICT;
`;

const heldSchema = z.object({ jobId: z.string(), attempt: z.int(), phase: z.enum(['running', 'done']) });

/** Opens (or makes) the agent's database; LOW_DISK or CORRUPT_FILE. */
export function openAgentDatabase(path: string): Outcome<Database.Database> {
  try {
    const db = new Database(path);
    for (const [name, value] of Object.entries(PRAGMAS)) {
      db.pragma(`${name} = ${value}`);
      const got: unknown = db.pragma(name, { simple: true });
      if (got !== value) throw new Error(`${name} is ${String(got)}, not ${value}`);
    }
    db.exec(SCHEMA);
    return ok(db);
  } catch (error) {
    const code = (error as { readonly code?: string }).code;
    if (code === 'SQLITE_FULL') return failed('LOW_DISK', `the disk that holds ${path} is full; free some space and start again`);
    return failed(
      'CORRUPT_FILE',
      `cannot open ${path}: ${String(error)}; move it aside to start anew (results that were not sent yet are in it)`,
    );
  }
}

/** `now`: wall clock in ms. `say`: one line for whoever watches. */
export function createOutbox(db: Database.Database, now: () => number, say: (line: string) => void): Outbox {
  const hold = db.prepare(
    'INSERT INTO held (job_id, attempt, phase) VALUES (?, ?, ?) ON CONFLICT (job_id) DO UPDATE SET attempt = excluded.attempt, phase = excluded.phase',
  );
  const insert = db.prepare('INSERT INTO outbox (id, job_id, body, at) VALUES (?, ?, ?, ?)');
  const put = db.transaction((row: OutboxRow, phase: HeldJob['phase']) => {
    hold.run(row.update.jobId, row.update.attempt, phase);
    insert.run(row.id, row.update.jobId, JSON.stringify(row.update), now());
  });
  const forget = db.transaction((jobId: string) => {
    db.prepare('DELETE FROM outbox WHERE job_id = ?').run(jobId);
    db.prepare('DELETE FROM held WHERE job_id = ?').run(jobId);
  });
  const setAside = db.transaction((id: string, why: string) => {
    const keep = db.prepare(
      'INSERT OR REPLACE INTO aside (id, job_id, body, why, at) SELECT id, job_id, body, ?, at FROM outbox WHERE id = ?',
    );
    if (keep.run(why, id).changes === 0) return;
    // without its end the job is not held: the controller's lease runs out and it goes to someone else, or back here
    db.prepare('DELETE FROM held WHERE job_id = (SELECT job_id FROM outbox WHERE id = ?)').run(id);
    db.prepare('DELETE FROM outbox WHERE id = ?').run(id);
    say(`a result cannot be sent and was set aside (table aside of ${db.name}, id ${id}): ${why}`);
  });
  const first = db.prepare<[number], { id: string; body: string }>('SELECT id, body FROM outbox ORDER BY seq LIMIT ?');
  const acknowledge = db.transaction((id: string): OutboxRow | null => {
    const found = db.prepare<[string], { body: string }>('SELECT body FROM outbox WHERE id = ?').get(id);
    if (found === undefined) return null;
    const row = parseRow({ id, body: found.body });
    db.prepare('DELETE FROM outbox WHERE id = ?').run(id);
    if (row.update.phase !== 'accepted') {
      db.prepare("DELETE FROM held WHERE job_id = ? AND attempt = ? AND phase = 'done'").run(row.update.jobId, row.update.attempt);
    }
    return row;
  });
  const done = Promise.resolve();

  return {
    held: () =>
      Promise.resolve(
        db
          .prepare('SELECT job_id AS jobId, attempt, phase FROM held ORDER BY job_id')
          .all()
          .map((row) => heldSchema.parse(row)),
      ),
    accept(row) {
      put(row, 'running');
      return done;
    },
    finish(row) {
      put(row, 'done');
      return done;
    },
    forget(jobId) {
      forget(jobId);
      return done;
    },
    acknowledge: (id) => Promise.resolve(acknowledge(id)),
    oldest(limit) {
      for (;;) {
        const rows: OutboxRow[] = [];
        const stored = first.all(limit);
        for (const each of stored) {
          try {
            rows.push(parseRow(each));
          } catch (error) {
            setAside(each.id, `it does not fit the protocol: ${String(error)}`);
          }
        }
        if (rows.length === stored.length) return Promise.resolve(rows);
      }
    },
    setAside(id, why) {
      setAside(id, why);
      return done;
    },
    fill() {
      const { rows, bytes, oldestAtMs } = db
        .prepare<[], { rows: number; bytes: number; oldestAtMs: number | null }>(
          'SELECT count(*) AS rows, coalesce(sum(length(body)), 0) AS bytes, min(at) AS oldestAtMs FROM outbox',
        )
        .get() as { rows: number; bytes: number; oldestAtMs: number | null };
      return Promise.resolve({ rows, oldestAtMs, isNearlyFull: rows >= NEARLY_FULL * MAX_ROWS || bytes >= NEARLY_FULL * MAX_BYTES });
    },
  };
}

function parseRow({ id, body }: { readonly id: string; readonly body: string }): OutboxRow {
  const update: JobUpdate = UP['job-update'].schema.parse(JSON.parse(body));
  return { id, update };
}
