// The state of a Linux machine around a run: CPU time of others, throttling by cgroup quota, clocks, temperature. Counters are differenced.
import { dirname, join } from 'node:path';
import type { RunConditions } from '@ofa-fleet/shared/measurement.ts';
import type { Conditions } from '../ports.ts';
import { listNames, readNumber, readText, type HostRoots } from './host-files.ts';
import { readTemperatureC } from './temperature.ts';

/** The kernel counts CPU time in ticks of 10 ms on all common builds (USER_HZ = 100). */
const TICK_MS = 10;
/** A frequency counts as visited if the clock spent this share of the timed section there. */
const VISITED_SHARE = 0.05;

interface CpuTime {
  readonly busyMs: number;
  readonly totalMs: number;
}

/** Busy and total CPU time of all cores since boot, from the first line of /proc/stat; time stolen by a hypervisor counts as busy. */
function readCpuTime(procRoot: string): CpuTime | null {
  const line = readText(join(procRoot, 'stat'))?.split('\n')[0];
  if (line?.startsWith('cpu ') !== true) return null;
  const ticks = line.split(/\s+/).slice(1, 9).map(Number);
  const [user = 0, nice = 0, system = 0, idle = 0, iowait = 0, irq = 0, softirq = 0, steal = 0] = ticks;
  const busy = user + nice + system + irq + softirq + steal;
  return { busyMs: busy * TICK_MS, totalMs: (busy + idle + iowait) * TICK_MS };
}

/**
 * Periods in which a quota stopped this process, summed over its cgroup and all above it (a quota may sit on any). Reads cgroup v1
 * (the `cpu` controller) and v2; null where neither shows a cpu.stat.
 */
export function readThrottledPeriods({ procRoot, sysfsRoot }: HostRoots): number | null {
  const lines = readText(join(procRoot, 'self/cgroup'))?.split('\n') ?? [];
  const files = new Set<string>();
  for (const line of lines) {
    const [, controllers = '', path = '/'] = line.split(':');
    const mounts =
      controllers === ''
        ? ['fs/cgroup', 'fs/cgroup/unified']
        : controllers.split(',').includes('cpu')
          ? ['fs/cgroup/cpu', 'fs/cgroup/cpu,cpuacct']
          : [];
    for (const mount of mounts) {
      for (let at = path; ; at = dirname(at)) {
        files.add(join(sysfsRoot, mount, at, 'cpu.stat'));
        if (at === '/' || at === '.') break;
      }
    }
  }
  const counts = [...files].flatMap((file) => {
    const match = /^nr_throttled (\d+)$/m.exec(readText(file) ?? '');
    return match === null ? [] : [Number(match[1])];
  });
  return counts.length === 0 ? null : counts.reduce((sum, count) => sum + count, 0);
}

interface ClockReading {
  readonly policy: string;
  readonly mhz: number;
  /** kHz -> time there, in units of 10 ms. */
  readonly residency: ReadonlyMap<number, number>;
}

/** cpufreq policy of the core that this process ran on last, since the clocks of idle cores say nothing about it. */
function ownPolicy({ sysfsRoot, procRoot }: HostRoots): string | null {
  const stat = readText(join(procRoot, 'self/stat'));
  const core = stat?.slice(stat.lastIndexOf(')') + 2).split(' ')[36];
  const base = join(sysfsRoot, 'devices/system/cpu/cpufreq');
  const policies = listNames(base).filter((name) => name.startsWith('policy'));
  const own = policies.find(
    (name) =>
      readText(join(base, name, 'affected_cpus'))
        ?.split(/\s+/)
        .includes(core ?? '') === true,
  );
  const policy = own ?? policies[0];
  return policy === undefined ? null : join(base, policy);
}

function readClock(roots: HostRoots): ClockReading | null {
  const policy = ownPolicy(roots);
  const khz = policy === null ? null : readNumber(join(policy, 'scaling_cur_freq'));
  if (policy === null || khz === null) return null;
  const lines = readText(join(policy, 'stats/time_in_state'))?.split('\n') ?? [];
  const residency = new Map(lines.map((line) => line.split(' ').map(Number) as [number, number]));
  return { policy, mhz: khz / 1000, residency };
}

/** Lowest clock of the section: by time in each state where both readings are of one policy, else the lower of the ends. */
function clockRange(start: ClockReading | null, end: ClockReading | null): RunConditions['clockMHz'] {
  if (start === null || end === null) return null;
  const spent = [...end.residency].map(([khz, time]) => ({ mhz: khz / 1000, time: time - (start.residency.get(khz) ?? 0) }));
  const total = spent.reduce((sum, { time }) => sum + time, 0);
  const visited =
    start.policy === end.policy && total > 0 ? spent.filter(({ time }) => time / total >= VISITED_SHARE).map(({ mhz }) => mhz) : [];
  return { start: start.mhz, min: Math.min(start.mhz, end.mhz, ...visited), end: end.mhz };
}

export interface ConditionSources extends HostRoots {
  /** CPU time of the measuring process itself, ms. */
  readonly ownCpuMs: () => number;
  /** Garbage collections of this process since its start; null where it cannot tell. */
  readonly garbageCollections: () => number | null;
}

/** Reads everything at the ends of a section only. */
export function createConditions(sources: ConditionSources): Conditions {
  const { procRoot, sysfsRoot, ownCpuMs } = sources;
  const readEnds = () => ({
    cpu: readCpuTime(procRoot),
    ownMs: ownCpuMs(),
    throttled: readThrottledPeriods(sources),
    temperature: readTemperatureC(sysfsRoot),
  });
  let start = readEnds();
  let timedStart = { clock: readClock(sources), collections: sources.garbageCollections() };
  return {
    start() {
      start = readEnds();
    },
    timed() {
      timedStart = { clock: readClock(sources), collections: sources.garbageCollections() };
    },
    end() {
      const collections = sources.garbageCollections();
      const clock = readClock(sources);
      const end = readEnds();
      const elapsed = end.cpu === null || start.cpu === null ? 0 : end.cpu.totalMs - start.cpu.totalMs;
      const foreign = end.cpu === null || start.cpu === null ? 0 : end.cpu.busyMs - start.cpu.busyMs - (end.ownMs - start.ownMs);
      const policy = ownPolicy(sources);
      const loadAverage = readText(join(procRoot, 'loadavg'))?.split(' ')[0];
      const free = /^MemAvailable:\s+(\d+) kB$/m.exec(readText(join(procRoot, 'meminfo')) ?? '');
      return {
        foreignCpuShare: elapsed <= 0 ? null : Math.min(1, Math.max(0, foreign / elapsed)),
        cgroupThrottledPeriods: end.throttled === null || start.throttled === null ? null : end.throttled - start.throttled,
        governor: policy === null ? null : readText(join(policy, 'scaling_governor')),
        clockMHz: clockRange(timedStart.clock, clock),
        temperatureC: start.temperature === null || end.temperature === null ? null : { start: start.temperature, end: end.temperature },
        loadAverage: loadAverage === undefined ? null : Number(loadAverage),
        freeMemoryBytes: free === null ? null : Number(free[1]) * 1024,
        garbageCollections: collections === null || timedStart.collections === null ? null : collections - timedStart.collections,
      };
    },
  };
}
