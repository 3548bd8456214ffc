// The controller's database as it is opened: durable, migrated, and honest about a file that is none.
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import Database from 'better-sqlite3';
import { sql } from 'kysely';
import { afterAll, describe, expect, it } from 'vitest';
import { openDatabase } from '../../../controller/store/database.ts';
import { insertDeadLetter } from '../../../controller/store/dead-letters.ts';
import { value } from '../../helpers/outcome.ts';

const dir = mkdtempSync(join(tmpdir(), 'ofa-store-'));
afterAll(() => rmSync(dir, { recursive: true, force: true }));

describe('the database', () => {
  it('opens with WAL, synchronous FULL and foreign keys, also the second time', async () => {
    for (let i = 0; i < 2; i++) {
      const db = value(await openDatabase(join(dir, 'a.db')));
      const pragma = async (name: string) =>
        Object.values((await sql<Record<string, unknown>>`PRAGMA ${sql.raw(name)}`.execute(db)).rows[0] ?? {})[0];
      expect([await pragma('journal_mode'), await pragma('synchronous'), await pragma('foreign_keys')]).toEqual(['wal', 2, 1]);
      await db.destroy();
    }
  });

  it('refuses a file that is no database, naming it', async () => {
    const path = join(dir, 'b.db');
    writeFileSync(path, 'this is no database, but long enough to look like one '.repeat(40));
    const opened = await openDatabase(path);
    expect(opened).toMatchObject({ ok: false, reason: 'CORRUPT_FILE' });
    if (!opened.ok) expect(opened.message).toContain(path);
  });

  it('calls a path that cannot be opened by its name, and does not call the file corrupt', async () => {
    const file = join(dir, 'file');
    writeFileSync(file, '');
    for (const path of [join(file, 'below.db'), dir]) {
      const opened = await openDatabase(path);
      expect(opened).toMatchObject({ ok: false, reason: 'INVALID_INPUT' });
      if (!opened.ok) expect(opened.message).toContain(path);
    }
  });

  it('says that another program holds the file, after waiting for it', async () => {
    const path = join(dir, 'held.db');
    const holder = new Database(path);
    holder.exec('CREATE TABLE t (a); BEGIN EXCLUSIVE');
    expect(await openDatabase(path)).toMatchObject({ ok: false, reason: 'BUSY' });
    holder.close();
  }, 30_000);

  it('does not let a row of accuracy or of a result be changed', async () => {
    const db = value(await openDatabase(':memory:'));
    await db.insertInto('accuracy').values({ subnet_id: 's', weights_hash: 'w', split: 'test', correct: 1, total: 2, predictions: null, at: 0 }).execute(); // prettier-ignore
    await expect(db.updateTable('accuracy').set({ correct: 2 }).execute()).rejects.toThrow(/written once/);
    await db.destroy();
  });

  it('keeps the newest hundred refused messages of a device, each cut to 4 KiB', async () => {
    const db = value(await openDatabase(':memory:'));
    for (let i = 0; i < 103; i++) {
      await insertDeadLetter(db, { at: i, device_id: 'd', topic: 't', reason: 'r', sha256: '', body: new Uint8Array(5000) });
    }
    await insertDeadLetter(db, { at: 0, device_id: 'other', topic: 't', reason: 'r', sha256: '', body: new Uint8Array(1) });
    const rows = await db.selectFrom('dead_letter').select(['at', 'body']).where('device_id', '=', 'd').orderBy('id').execute();
    expect([rows.length, rows[0]?.at, rows[0]?.body.length]).toEqual([100, 3, 4096]);
    expect(await db.selectFrom('dead_letter').select('id').where('device_id', '=', 'other').execute()).toHaveLength(1);
    await db.destroy();
  });
});
