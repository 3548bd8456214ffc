// Who else runs on a Linux machine: CPU time of all cores and of each process, differenced over a moment.
import { basename, join } from 'node:path';
import type { Neighbours } from '../doctor-facts.ts';
import { readCpuTime, type CpuTime } from './conditions.ts';
import { listNames, readText } from './host-files.ts';

interface ProcessTime {
  readonly name: string;
  readonly ms: number;
}

interface Activity {
  readonly cpu: CpuTime;
  readonly cores: number;
  readonly processes: ReadonlyMap<number, ProcessTime>;
}

/** The kernel counts in ticks of 10 ms on all common builds (USER_HZ = 100). */
const TICK_MS = 10;
/** A process below this share of a core is not worth a name. */
const NAMED_SHARE = 0.02;
const NAMED = 3;

/** proc(5): the name stands in parentheses and may hold anything; user and system ticks are fields 14 and 15. */
function readProcess(procRoot: string, pid: string): ProcessTime | null {
  const stat = readText(join(procRoot, pid, 'stat'));
  if (stat === null) return null;
  const end = stat.lastIndexOf(')');
  const fields = stat.slice(end + 2).split(' ');
  const ms = (Number(fields[11]) + Number(fields[12])) * TICK_MS;
  if (!Number.isFinite(ms)) return null;
  // The kernel's name is cut at 15 letters, and is that of a thread in some runtimes; arguments may hold secrets, so the program's name alone.
  const program = readText(join(procRoot, pid, 'cmdline'))?.split('\0')[0] ?? '';
  return { name: program === '' ? stat.slice(stat.indexOf('(') + 1, end) : basename(program), ms };
}

/** Null where there is no /proc/stat. */
export function readActivity(procRoot: string): Activity | null {
  const cpu = readCpuTime(procRoot);
  if (cpu === null) return null;
  const processes = listNames(procRoot)
    .filter((name) => /^\d+$/.test(name))
    .flatMap((pid) => {
      const found = readProcess(procRoot, pid);
      return found === null ? [] : [[Number(pid), found] as const];
    });
  const cores = readText(join(procRoot, 'stat'))?.match(/^cpu\d/gm)?.length ?? 0;
  return { cpu, cores: Math.max(1, cores), processes: new Map(processes) };
}

/** Shares between two readings; null where nothing was read or no tick has passed. `ownPid` is left out. */
export function watchNeighbours(before: Activity | null, after: Activity | null, ownPid: number | null): Neighbours | null {
  if (before === null || after === null || after.cpu.totalMs <= before.cpu.totalMs) return null;
  const elapsedMs = after.cpu.totalMs - before.cpu.totalMs;
  const stolenMs = after.cpu.stolenMs - before.cpu.stolenMs;
  const spent = [...after.processes].map(([pid, { name, ms }]) => ({ pid, name, ms: ms - (before.processes.get(pid)?.ms ?? ms) }));
  const ownMs = spent.find(({ pid }) => pid === ownPid)?.ms ?? 0;
  return {
    foreignShare: Math.min(1, Math.max(0, (after.cpu.busyMs - before.cpu.busyMs - stolenMs - ownMs) / elapsedMs)),
    stealShare: Math.max(0, stolenMs / elapsedMs),
    busiest: spent
      .filter(({ pid }) => pid !== ownPid)
      .map(({ pid, name, ms }) => ({ pid, name, coreShare: (ms * after.cores) / elapsedMs }))
      .filter(({ coreShare }) => coreShare >= NAMED_SHARE)
      .sort((a, b) => b.coreShare - a.coreShare)
      .slice(0, NAMED),
  };
}
