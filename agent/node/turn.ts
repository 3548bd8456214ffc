// Whoever times models on this host takes turns; a command that has to wait says so.
import { acquireHostLock, type HostLock } from '@ofa-fleet/shared/node/host-lock.ts';

/** A wait that is not worth a word. */
const QUIET_WAIT_MS = 1000;

/** Rejects where the signal aborts. */
export async function takeTurn(path: string, signal: AbortSignal): Promise<HostLock> {
  const told = setTimeout(() => {
    process.stderr.write(`Waiting for another measurement on this machine to end (lock ${path}); Ctrl-C stops.\n`);
  }, QUIET_WAIT_MS);
  return acquireHostLock({ path, signal }).finally(() => clearTimeout(told));
}
