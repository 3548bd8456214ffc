// The folder in which a device keeps who it is, its models and its unsent results. One agent at a time: two would share an identity.
import { chmodSync, mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import Database from 'better-sqlite3';
import { z } from 'zod';
import { failed, ok, type Outcome } from '@ofa-fleet/shared/outcome.ts';

const identitySchema = z.object({
  url: z.string(),
  /** The token's public half, by which this identity was given. */
  claimId: z.string(),
  password: z.string(),
  /** Null while enrolling: asked, not yet answered. */
  device: z.object({ deviceId: z.string(), fleet: z.string(), shard: z.string() }).nullable(),
});
export type Identity = Readonly<z.infer<typeof identitySchema>>;

/** Who this device is; and who it is about to become, which replaces the first only once the controller agrees. */
type IdentityFile = 'identity.json' | 'enrolling.json';

export interface StateDir {
  readonly path: (name: string) => string;
  /** Null where there is none yet. CORRUPT_FILE where it cannot be read. */
  readIdentity(name: IdentityFile): Outcome<Identity | null>;
  /** Readable by this user alone; whole or not at all. */
  writeIdentity(name: IdentityFile, identity: Identity): void;
  removeIdentity(name: IdentityFile): void;
  /** Lets another agent have the folder. */
  unlock(): void;
}

/** Takes the folder, making it if need be; BUSY, naming the process, where another agent has it. Kill -9 frees it. */
export function openStateDir(dir: string): Outcome<StateDir> {
  try {
    mkdirSync(dir, { recursive: true, mode: 0o700 });
  } catch (error) {
    return failed('INVALID_INPUT', `cannot make the state folder ${dir}: ${(error as Error).message}; choose another with --state`);
  }
  const path = (name: string) => join(dir, name);
  const lock = lockFile(path('lock.db'));
  if (lock === null) {
    return failed(
      'BUSY',
      `another agent (process ${readPid(path('agent.pid'))}) uses the state folder ${dir}; stop it, or give this one its own with --state`,
    );
  }
  writeFileSync(path('agent.pid'), String(process.pid));
  return ok({
    path,
    readIdentity(name) {
      let text: string;
      try {
        text = readFileSync(path(name), 'utf8');
      } catch (error) {
        if ((error as NodeJS.ErrnoException).code === 'ENOENT') return ok(null);
        throw error;
      }
      try {
        return ok(identitySchema.parse(JSON.parse(text)));
      } catch {
        return failed('CORRUPT_FILE', `${path(name)} is damaged; remove it and join with a new token`);
      }
    },
    writeIdentity(name, identity) {
      const temporary = `${path(name)}.tmp`;
      rmSync(temporary, { force: true });
      writeFileSync(temporary, JSON.stringify(identity), { mode: 0o600, flush: true });
      chmodSync(temporary, 0o600);
      renameSync(temporary, path(name));
    },
    removeIdentity: (name) => rmSync(path(name), { force: true }),
    unlock() {
      rmSync(path('agent.pid'), { force: true });
      lock.exec('ROLLBACK');
      lock.close();
    },
  });
}

/** An exclusive transaction that the kernel ends when this process does; null where another process has it. */
function lockFile(path: string): Database.Database | null {
  const db = new Database(path, { timeout: 0 });
  try {
    db.exec('BEGIN EXCLUSIVE');
    return db;
  } catch (error) {
    db.close();
    if ((error as { readonly code?: string }).code?.startsWith('SQLITE_BUSY') === true) return null;
    throw error;
  }
}

function readPid(path: string): string {
  try {
    return readFileSync(path, 'utf8').trim();
  } catch {
    return 'unknown';
  }
}
