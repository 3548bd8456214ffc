// Says whether a process that wrote its pid down still runs: a pid alone may have been given to another process since.
import { readFileSync } from 'node:fs';

/** Start time of a process in clock ticks since boot (proc(5), stat, field 22); null where it does not run or the host has no /proc. */
export function processStartTime(pid: number): string | null {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
    // The name in parentheses may hold anything; what follows the last one is regular.
    const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
    // A zombie holds nothing any more.
    return fields[0] === 'Z' ? null : (fields[19] ?? null);
  } catch {
    return null;
  }
}

/** Whether the process with this pid is still the one that had this start time (null: recorded without one). */
export function isAlive(pid: number, startTime: string | null): boolean {
  if (startTime !== null) return processStartTime(pid) === startTime;
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'EPERM';
  }
}
