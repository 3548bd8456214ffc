// Two measurements on one host disturb each other, so all who measure here take turns by this lock, first come first served. It is an
// exclusive SQLite transaction on one file: Node has no flock, and the kernel frees it when the holder dies, kill -9 included.
import { mkdirSync } from 'node:fs';
import { tmpdir, userInfo } from 'node:os';
import { dirname, join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import Database from 'better-sqlite3';
import { isAlive, processStartTime } from './process-identity.ts';

export interface HostLock {
  readonly waitedMs: number;
  release(): void;
}

const POLL_MS = 25;
const QUEUE_BUSY_MS = 2000;

/** One lock for all who measure under this user on this host. */
export function defaultHostLockPath(): string {
  return join(tmpdir(), `ofa-fleet-${userInfo().username}`, 'host.lock');
}

interface Ticket {
  readonly number: number;
  readonly pid: number;
  readonly startTime: string | null;
}

/** The queue: a second small file, since the locked one can be read by nobody but its holder. */
function openQueue(path: string): Database.Database {
  const queue = new Database(`${path}.queue`, { timeout: QUEUE_BUSY_MS });
  queue.pragma('journal_mode = DELETE');
  queue.pragma('synchronous = OFF'); // must survive a crash of a process, not of the host
  queue.exec('CREATE TABLE IF NOT EXISTS ticket (number INTEGER PRIMARY KEY AUTOINCREMENT, pid INTEGER NOT NULL, startTime TEXT)');
  return queue;
}

/** The ticket whose turn it is, once those of dead processes are removed. */
function firstTicket(queue: Database.Database): number | undefined {
  const tickets = queue.prepare<[], Ticket>('SELECT number, pid, startTime FROM ticket ORDER BY number').all();
  for (const ticket of tickets) {
    if (isAlive(ticket.pid, ticket.startTime)) return ticket.number;
    queue.prepare('DELETE FROM ticket WHERE number = ?').run(ticket.number);
  }
  return undefined;
}

function tryLock(path: string): Database.Database | null {
  const lock = new Database(path, { timeout: 0 });
  try {
    lock.pragma('journal_mode = DELETE');
    lock.exec('BEGIN EXCLUSIVE');
    return lock;
  } catch (error) {
    lock.close();
    if ((error as { code?: string }).code?.startsWith('SQLITE_BUSY') === true) return null;
    throw error;
  }
}

/**
 * Waits for this process's turn and takes the lock. Rejects with the signal's reason when it aborts; throws where the file cannot be made.
 * Not reentrant: whoever holds it and asks again waits for itself.
 */
export async function acquireHostLock({ path, signal }: { readonly path: string; readonly signal: AbortSignal }): Promise<HostLock> {
  signal.throwIfAborted();
  mkdirSync(dirname(path), { recursive: true, mode: 0o700 });
  const began = performance.now();
  const queue = openQueue(path);
  let number: number | bigint | null = null;
  const leave = () => {
    if (number !== null) queue.prepare('DELETE FROM ticket WHERE number = ?').run(number);
    queue.close();
  };
  try {
    number = queue
      .prepare('INSERT INTO ticket (pid, startTime) VALUES (?, ?)')
      .run(process.pid, processStartTime(process.pid)).lastInsertRowid;
    for (;;) {
      const lock = firstTicket(queue) === number ? tryLock(path) : null;
      if (lock !== null) {
        let held = true;
        return {
          waitedMs: performance.now() - began,
          release: () => {
            if (!held) return;
            held = false;
            // The lock first: whoever is next in the queue can then take it at once.
            lock.exec('ROLLBACK');
            lock.close();
            leave();
          },
        };
      }
      await sleep(POLL_MS, undefined, { signal });
    }
  } catch (error) {
    leave();
    throw signal.aborted ? signal.reason : error;
  }
}
