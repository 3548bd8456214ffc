// The state of a Linux machine around a run: CPU time of others, throttling of every kind, clocks, temperature, battery. Counters are
// differenced over the run; what only a look during the run can tell is looked at by a thread of its own.
import { dirname, join } from 'node:path';
import type { FirmwareEvent, RunConditions } from '@ofa-fleet/shared/measurement.ts';
import type { Conditions } from '../ports.ts';
import { readBatteryState } from './battery-state.ts';
import { listNames, readNumber, readText, type HostRoots } from './host-files.ts';
import { readTemperatureC } from './temperature.ts';
import {
  liveEvents,
  pastEvents,
  readCooling,
  readFirmwareBits,
  readSupplyAlarms,
  readThermalThrottles,
  readVoltageAlarm,
  type Cooling,
} from './throttle.ts';
import { startThrottleWatch, type ThrottleWatch } from './throttle-watch.ts';

/** The kernel counts CPU time in ticks of 10 ms on all common builds (USER_HZ = 100). */
const TICK_MS = 10;
/** A frequency counts as visited if the clock spent this share of the timed section there. */
const VISITED_SHARE = 0.05;

export interface CpuTime {
  readonly busyMs: number;
  readonly stolenMs: number;
  readonly totalMs: number;
}

/** Busy and total CPU time of all cores since boot, from the first line of /proc/stat; time stolen by a hypervisor counts as busy. */
export function readCpuTime(procRoot: string): CpuTime | null {
  const line = readText(join(procRoot, 'stat'))?.split('\n')[0];
  if (line?.startsWith('cpu ') !== true) return null;
  const ticks = line.split(/\s+/).slice(1, 9).map(Number);
  const [user = 0, nice = 0, system = 0, idle = 0, iowait = 0, irq = 0, softirq = 0, steal = 0] = ticks;
  const busy = user + nice + system + irq + softirq + steal;
  return { busyMs: busy * TICK_MS, stolenMs: steal * TICK_MS, totalMs: (busy + idle + iowait) * TICK_MS };
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
    // seen from within a namespace a path may lead out of it: what is mounted there is all that can be read
    const own = path.startsWith('/') && !path.split('/').includes('..') ? path : '/';
    for (const mount of mounts) {
      for (let at = own; ; at = dirname(at)) {
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
  const residency = new Map(
    lines.flatMap((line): readonly (readonly [number, number])[] => {
      const [khz = NaN, time = NaN] = line.split(/\s+/).map(Number);
      return Number.isFinite(khz) && Number.isFinite(time) ? [[khz, time]] : [];
    }),
  );
  return { policy, mhz: khz / 1000, residency };
}

/** Clocks of the section: by time in each state where both readings are of one policy, else by its ends alone. */
function clockRange(start: ClockReading | null, end: ClockReading | null): RunConditions['clockMHz'] {
  if (start === null || end === null) return null;
  const ends = { start: start.mhz, end: end.mhz };
  const extremes = (visited: readonly number[]) => ({
    min: Math.min(start.mhz, end.mhz, ...visited),
    max: visited.length === 0 ? Math.max(start.mhz, end.mhz) : Math.max(...visited),
  });
  const spent = [...end.residency]
    .map(([khz, time]) => ({ mhz: khz / 1000, time: time - (start.residency.get(khz) ?? 0) }))
    .filter(({ time }) => time > 0)
    .sort((a, b) => a.mhz - b.mhz);
  const total = spent.reduce((sum, { time }) => sum + time, 0);
  if (start.policy !== end.policy || total === 0) return { ...ends, ...extremes([]), median: null };
  const visited = spent.filter(({ time }) => time / total >= VISITED_SHARE).map(({ mhz }) => mhz);
  let passed = 0;
  const middle = spent.find(({ time }) => (passed += time) >= total / 2);
  return { ...ends, ...extremes(visited), median: middle?.mhz ?? null };
}

/** A flag that was clear and is set, or that was seen as "now" at any look, is an event; one that was set before proves nothing. */
function firmwareEvents(start: number | null, end: number | null, live: number): RunConditions['firmwareEvents'] {
  if (start === null || end === null) return null;
  const before = pastEvents(start);
  const seen = new Set<FirmwareEvent>([...liveEvents(live | start | end), ...pastEvents(end).filter((event) => !before.includes(event))]);
  return { seen: [...seen], unproven: before.filter((event) => !seen.has(event)) };
}

/** The voltage alarm of boards that show no flags, in the same words. */
function voltageEvents(alarms: readonly (boolean | null)[]): RunConditions['firmwareEvents'] {
  if (alarms.every((alarm) => alarm === null)) return null;
  return { seen: alarms.includes(true) ? ['under-voltage'] : [], unproven: [] };
}

type Alarms = ReturnType<typeof readSupplyAlarms>;

function alarmsBetween(start: Alarms, end: Alarms): RunConditions['supplyAlarms'] {
  if (start === null || end === null) return null;
  return end.map(({ input, kind, events }) => {
    const before = start.find((alarm) => alarm.input === input)?.events ?? 0;
    return { input, kind, events: events >= before ? events - before : events }; // one that fell began anew
  });
}

/** The strongest state of each device at any look. */
function strongest(looks: readonly (readonly Cooling[] | null)[]): RunConditions['cooling'] {
  const shown = looks.filter((look) => look !== null);
  if (shown.length === 0) return null;
  const states = new Map<string, number>();
  for (const { device, state } of shown.flat()) states.set(device, Math.max(state, states.get(device) ?? 0));
  return [...states].map(([device, state]) => ({ device, state }));
}

const difference = (start: number | null, end: number | null) => (start === null || end === null ? null : end - start);

function temperatures(start: number | null, end: number | null, others: readonly (number | null)[]): RunConditions['temperatureC'] {
  if (start === null || end === null) return null;
  return { start, max: Math.max(start, end, ...others.filter((value) => value !== null)), end };
}

export interface ConditionSources extends HostRoots {
  /** CPU time of the measuring process itself, ms. */
  readonly ownCpuMs: () => number;
  /** Garbage collections of this process since its start; null where it cannot tell. */
  readonly garbageCollections: () => number | null;
}

/** Reads everything at the ends of a section, and some between warm-up and timed runs. */
export function createConditions(sources: ConditionSources): Conditions {
  const { procRoot, sysfsRoot, ownCpuMs } = sources;
  const watch: ThrottleWatch | null = startThrottleWatch(sysfsRoot);
  const readEnds = () => ({
    cpu: readCpuTime(procRoot),
    ownMs: ownCpuMs(),
    throttled: readThrottledPeriods(sources),
    temperature: readTemperatureC(sysfsRoot),
    firmware: watch === null ? null : readFirmwareBits(watch.file),
    alarms: readSupplyAlarms(sysfsRoot),
    thermal: readThermalThrottles(sysfsRoot),
    battery: readBatteryState(sysfsRoot),
  });
  const readTimed = () => ({ clock: readClock(sources), collections: sources.garbageCollections() });
  const readState = () => ({
    temperature: readTemperatureC(sysfsRoot),
    cooling: readCooling(sysfsRoot),
    lowVoltage: readVoltageAlarm(sysfsRoot),
  });
  let start = readEnds();
  let stateBefore = readState();
  let timedStart = readTimed();
  return {
    start() {
      watch?.reset();
      start = readEnds();
    },
    timed() {
      stateBefore = readState();
      timedStart = readTimed(); // last, so that reading the rest is no part of its time
    },
    end() {
      const timedEnd = readTimed();
      const stateAfter = readState();
      const end = readEnds();
      const seen = watch?.seen() ?? { bits: 0, hottestC: null };
      watch?.stop();
      const elapsed = end.cpu === null || start.cpu === null ? 0 : end.cpu.totalMs - start.cpu.totalMs;
      const foreign = end.cpu === null || start.cpu === null ? 0 : end.cpu.busyMs - start.cpu.busyMs - (end.ownMs - start.ownMs);
      const stolen = end.cpu === null || start.cpu === null ? 0 : end.cpu.stolenMs - start.cpu.stolenMs;
      const share = (ms: number) => (elapsed <= 0 ? null : Math.min(1, Math.max(0, ms / elapsed)));
      const policy = ownPolicy(sources);
      const loadAverage = readText(join(procRoot, 'loadavg'))?.split(' ')[0];
      const free = /^MemAvailable:\s+(\d+) kB$/m.exec(readText(join(procRoot, 'meminfo')) ?? '');
      return {
        foreignCpuShare: share(foreign),
        stolenCpuShare: share(stolen),
        cgroupThrottledPeriods: difference(start.throttled, end.throttled),
        governor: policy === null ? null : readText(join(policy, 'scaling_governor')),
        affinity: /^Cpus_allowed_list:\s+(\S+)$/m.exec(readText(join(procRoot, 'self/status')) ?? '')?.[1] ?? null,
        clockMHz: clockRange(timedStart.clock, timedEnd.clock),
        temperatureC: temperatures(start.temperature, end.temperature, [stateBefore.temperature, stateAfter.temperature, seen.hottestC]),
        firmwareEvents:
          watch === null
            ? voltageEvents([stateBefore.lowVoltage, stateAfter.lowVoltage])
            : firmwareEvents(start.firmware, end.firmware, seen.bits),
        supplyAlarms: alarmsBetween(start.alarms, end.alarms),
        thermalThrottles: difference(start.thermal, end.thermal),
        cooling: strongest([stateBefore.cooling, stateAfter.cooling]),
        battery:
          start.battery === null || end.battery === null
            ? null
            : { startStatus: start.battery.status, endStatus: end.battery.status, percent: end.battery.percent },
        loadAverage: loadAverage === undefined ? null : Number(loadAverage),
        freeMemoryBytes: free === null ? null : Number(free[1]) * 1024,
        garbageCollections: difference(timedStart.collections, timedEnd.collections),
      };
    },
  };
}
