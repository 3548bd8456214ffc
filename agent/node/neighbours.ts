// Who else runs on a Linux machine: CPU time of all cores and of each process, differenced over a moment.
import { basename, join } from 'node:path';
import type { Neighbours } from '../doctor-facts.ts';
import { listNames, readText } from './host-files.ts';

interface ProcessTicks {
  readonly name: string;
  readonly ticks: number;
}

interface Ticks {
  readonly busy: number;
  readonly steal: number;
  readonly total: number;
  readonly cores: number;
  readonly processes: ReadonlyMap<number, ProcessTicks>;
}

/** A process below this share of a core is not worth a name. */
const NAMED_SHARE = 0.02;
const NAMED = 3;

/** proc(5): the name stands in parentheses and may hold anything; user and system ticks are fields 14 and 15. */
function readProcess(procRoot: string, pid: string): ProcessTicks | null {
  const stat = readText(join(procRoot, pid, 'stat'));
  if (stat === null) return null;
  const end = stat.lastIndexOf(')');
  const fields = stat.slice(end + 2).split(' ');
  const ticks = Number(fields[11]) + Number(fields[12]);
  if (!Number.isFinite(ticks)) return null;
  // The kernel's name is cut at 15 letters, and is that of a thread in some runtimes; arguments may hold secrets, so the program's name alone.
  const program = readText(join(procRoot, pid, 'cmdline'))?.split('\0')[0] ?? '';
  return { name: program === '' ? stat.slice(stat.indexOf('(') + 1, end) : basename(program), ticks };
}

/** Null where there is no /proc/stat. */
export function readTicks(procRoot: string): Ticks | null {
  const lines = readText(join(procRoot, 'stat'))?.split('\n') ?? [];
  if (lines[0]?.startsWith('cpu ') !== true) return null;
  const [user = 0, nice = 0, system = 0, idle = 0, iowait = 0, irq = 0, softirq = 0, steal = 0] = lines[0]
    .split(/\s+/)
    .slice(1)
    .map(Number);
  const busy = user + nice + system + irq + softirq;
  const processes = listNames(procRoot)
    .filter((name) => /^\d+$/.test(name))
    .flatMap((pid) => {
      const found = readProcess(procRoot, pid);
      return found === null ? [] : [[Number(pid), found] as const];
    });
  return {
    busy,
    steal,
    total: busy + steal + idle + iowait,
    cores: lines.filter((line) => /^cpu\d/.test(line)).length,
    processes: new Map(processes),
  };
}

/** Shares between two readings; null where nothing was read or no tick has passed. `ownPid` is left out. */
export function watchNeighbours(before: Ticks | null, after: Ticks | null, ownPid: number | null): Neighbours | null {
  if (before === null || after === null || after.total <= before.total) return null;
  const elapsed = after.total - before.total;
  const perCore = elapsed / Math.max(1, after.cores);
  const spent = [...after.processes].map(([pid, { name, ticks }]) => ({
    pid,
    name,
    ticks: ticks - (before.processes.get(pid)?.ticks ?? ticks),
  }));
  const own = spent.find(({ pid }) => pid === ownPid)?.ticks ?? 0;
  return {
    foreignShare: Math.min(1, Math.max(0, (after.busy - before.busy - own) / elapsed)),
    stealShare: Math.max(0, (after.steal - before.steal) / elapsed),
    busiest: spent
      .filter(({ pid }) => pid !== ownPid)
      .map(({ pid, name, ticks }) => ({ pid, name, coreShare: ticks / perCore }))
      .filter(({ coreShare }) => coreShare >= NAMED_SHARE)
      .sort((a, b) => b.coreShare - a.coreShare)
      .slice(0, NAMED),
  };
}
