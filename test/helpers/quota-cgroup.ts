// A CPU quota that is really there: a cgroup of its own, by either version of the interface.
import { existsSync, mkdirSync, rmdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';

const CGROUP = '/sys/fs/cgroup';
const PERIOD_US = 100_000;
const QUOTA_US = 50_000;

/** A cgroup of version 1 or 2 with half a core; null where this user or container may not make one. */
export function quotaCgroup(): { readonly confine: (pid: number) => void; readonly remove: () => Promise<void> } | null {
  const isV2 = existsSync(join(CGROUP, 'cgroup.controllers'));
  const dir = join(CGROUP, ...(isV2 ? [] : ['cpu']), `ofa-lesion-${process.pid}`);
  try {
    mkdirSync(dir);
    if (isV2) writeFileSync(join(dir, 'cpu.max'), `${QUOTA_US} ${PERIOD_US}`);
    else {
      writeFileSync(join(dir, 'cpu.cfs_period_us'), String(PERIOD_US));
      writeFileSync(join(dir, 'cpu.cfs_quota_us'), String(QUOTA_US));
    }
  } catch {
    return null;
  }
  return {
    confine: (pid) => writeFileSync(join(dir, 'cgroup.procs'), String(pid)),
    async remove() {
      for (let tries = 0; tries < 50; tries++) {
        try {
          rmdirSync(dir);
          return;
        } catch {
          await sleep(100); // the kernel still counts the processes that have just ended
        }
      }
    },
  };
}
