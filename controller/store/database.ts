// Opens the controller's database so that what it acknowledges survives a power cut: WAL with synchronous FULL, asserted, not assumed.
import { mkdirSync } from 'node:fs';
import { dirname } from 'node:path';
import Database from 'better-sqlite3';
import { Kysely, SqliteDialect } from 'kysely';
import { Migrator } from 'kysely/migration';
import { failed, ok, type Outcome } from '@ofa-fleet/shared/outcome.ts';
import { MIGRATIONS, type Schema } from './schema.ts';

export type Db = Kysely<Schema>;

/** What must hold for a commit to be durable; `synchronous` 2 is FULL. */
const PRAGMAS: Readonly<Record<string, string | number>> = { journal_mode: 'wal', synchronous: 2, foreign_keys: 1, busy_timeout: 5000 };

/** What stands in the way, by the code of the file system or of SQLite; anything else is wrong with the file itself. */
const FULL = /^(ENOSPC|EDQUOT|SQLITE_FULL)/;
const LOCKED = /^SQLITE_(BUSY|LOCKED)/;
const NO_ACCESS = /^(E(ACCES|PERM|ROFS|NOTDIR|EXIST|ISDIR|NOENT)|SQLITE_(CANTOPEN|READONLY|PERM))/;

/**
 * Opens (creating it and bringing its schema up to date) the database at `path`, on a local disk. `:memory:` is allowed for tests and then
 * keeps its own journal mode. Fails with CORRUPT_FILE, LOW_DISK, BUSY or, where the path cannot be read and written, INVALID_INPUT.
 */
export async function openDatabase(path: string): Promise<Outcome<Db>> {
  let sqlite: Database.Database | null = null;
  try {
    if (path !== ':memory:') mkdirSync(dirname(path), { recursive: true });
    sqlite = new Database(path);
    for (const [name, value] of Object.entries(PRAGMAS)) sqlite.pragma(`${name} = ${value}`);
    assertPragmas(sqlite, path);
  } catch (error) {
    sqlite?.close();
    return openFailure(path, error);
  }
  const db: Db = new Kysely<Schema>({ dialect: new SqliteDialect({ database: sqlite }) });
  const migrated = await new Migrator({ db, provider: { getMigrations: () => Promise.resolve({ ...MIGRATIONS }) } }).migrateToLatest();
  if (migrated.error !== undefined) {
    await db.destroy();
    return openFailure(path, migrated.error);
  }
  return ok(db);
}

function assertPragmas(sqlite: Database.Database, path: string): void {
  for (const [name, wanted] of Object.entries(PRAGMAS)) {
    if (path === ':memory:' && name === 'journal_mode') continue;
    const got: unknown = sqlite.pragma(name, { simple: true });
    if (got !== wanted) throw new Error(`${name} is ${String(got)}, not ${wanted}`);
  }
}

function openFailure(path: string, error: unknown): Outcome<Db> {
  const message = error instanceof Error ? error.message : String(error);
  const code = error instanceof Error && 'code' in error ? String(error.code) : '';
  if (FULL.test(code)) return failed('LOW_DISK', `the disk that holds ${path} is full; free some space and start again`);
  if (LOCKED.test(code)) return failed('BUSY', `another program holds the database ${path} (${message}); end it and start again`);
  if (NO_ACCESS.test(code)) {
    return failed(
      'INVALID_INPUT',
      `cannot open the database ${path}: ${message} (${code}); this user must be able to read and write it and its folder, or choose another folder`,
    );
  }
  return failed(
    'CORRUPT_FILE',
    `cannot open the database ${path}: ${message}; it must be a SQLite file of this program on a local disk, move it aside to start anew`,
  );
}
