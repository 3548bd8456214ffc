// Reads what the doctor judges: small files of /sys and /proc, and on this machine itself two programs that boards bring. Changes nothing.
import { execFile } from 'node:child_process';
import { existsSync } from 'node:fs';
import { dirname, join } from 'node:path';
import type { ClockPolicy, DoctorFacts, Supply } from '../doctor-facts.ts';
import { readThrottledPeriods } from './conditions.ts';
import { listNames, readNumber, readText, type HostRoots } from './host-files.ts';
import { readTicks, watchNeighbours } from './neighbours.ts';
import { DEFAULT_MAX_TEMPERATURE_C, readTemperatureC } from './temperature.ts';

export interface DoctorHost extends HostRoots {
  /** Folders of programs; none where another machine's tree is read. */
  readonly programDirs: readonly string[];
  readonly threads: number;
  readonly spinning: boolean | null;
  /** This program's own process; null where another machine's tree is read. */
  readonly ownPid: number | null;
  /** Lets the moment pass over which neighbours are watched. */
  readonly watch: () => Promise<void>;
}

const PROGRAM_LIMIT_MS = 5000;
const KIBIBYTE = 1024;

/** `0-3,6` -> [0, 1, 2, 3, 6], as the kernel writes lists; also with spaces between, as cpufreq does. */
export function parseCoreList(text: string): readonly number[] {
  return text
    .split(/[\s,]+/)
    .filter((part) => /^\d+(-\d+)?$/.test(part))
    .flatMap((part) => {
      const [from = 0, to = from] = part.split('-').map(Number);
      return Array.from({ length: Math.max(0, Math.min(to - from + 1, 4096)) }, (_, i) => from + i);
    });
}

const megahertz = (khz: number | null) => (khz === null ? null : khz / 1000);

function readPolicies(sysfsRoot: string): readonly ClockPolicy[] {
  const base = join(sysfsRoot, 'devices/system/cpu/cpufreq');
  return listNames(base)
    .filter((name) => /^policy\d+$/.test(name))
    .map((name) => {
      const file = (leaf: string) => join(base, name, leaf);
      return {
        name,
        cores: parseCoreList(readText(file('affected_cpus')) ?? ''),
        governor: readText(file('scaling_governor')),
        governors: readText(file('scaling_available_governors'))?.split(/\s+/) ?? [],
        minMHz: megahertz(readNumber(file('scaling_min_freq'))),
        maxMHz: megahertz(readNumber(file('scaling_max_freq'))),
        hardwareMaxMHz: megahertz(readNumber(file('cpuinfo_max_freq'))),
        nowMHz: megahertz(readNumber(file('scaling_cur_freq'))),
      };
    });
}

/** Standard output of a program in one of `dirs`; null where it is not there or fails. */
function ask(dirs: readonly string[], program: string, args: readonly string[]): Promise<string | null> {
  const path = dirs.map((dir) => join(dir, program)).find((file) => existsSync(file));
  if (path === undefined) return Promise.resolve(null);
  return new Promise((resolve) => {
    execFile(path, args, { timeout: PROGRAM_LIMIT_MS, killSignal: 'SIGKILL' }, (error, stdout) => resolve(error === null ? stdout : null));
  });
}

/** Raspberry Pi: the kernel's file (hex without 0x), else the firmware's own program (`throttled=0x…`). */
async function readThrottledBits({ sysfsRoot, programDirs }: DoctorHost): Promise<number | null> {
  const shown = readText(join(sysfsRoot, 'devices/platform/soc/soc:firmware/get_throttled'));
  const text = shown ?? /^throttled=(\S+)/m.exec((await ask(programDirs, 'vcgencmd', ['get_throttled'])) ?? '')?.[1] ?? '';
  return /^(0x)?[0-9a-f]+$/i.test(text) ? Number.parseInt(text, 16) : null;
}

/** `NV Power Mode: 15W`, then a line with its number. */
async function readPowerMode({ programDirs }: DoctorHost): Promise<string | null> {
  return /^NV Power Mode:\s*(\S.*?)\s*$/m.exec((await ask(programDirs, 'nvpmodel', ['-q'])) ?? '')?.[1] ?? null;
}

function readOverCurrent(sysfsRoot: string): DoctorFacts['overCurrent'] {
  const base = join(sysfsRoot, 'class/hwmon');
  return listNames(base)
    .filter((folder) => readText(join(base, folder, 'name')) === 'soctherm_oc')
    .flatMap((folder) =>
      listNames(join(base, folder)).flatMap((file) => {
        const counter = /^(oc\d+)_event_cnt$/.exec(file)?.[1];
        const events = readNumber(join(base, folder, file));
        return counter === undefined || events === null ? [] : [{ counter, events }];
      }),
    );
}

function coreFolders(sysfsRoot: string): readonly string[] {
  const base = join(sysfsRoot, 'devices/system/cpu');
  return listNames(base)
    .filter((name) => /^cpu\d+$/.test(name))
    .map((name) => join(base, name));
}

function readThermalThrottles(sysfsRoot: string): number | null {
  const counts = coreFolders(sysfsRoot).flatMap((folder) => readNumber(join(folder, 'thermal_throttle/core_throttle_count')) ?? []);
  return counts.length === 0 ? null : counts.reduce((sum, count) => sum + count, 0);
}

function readSiblings(sysfsRoot: string): DoctorFacts['siblings'] {
  const lists = coreFolders(sysfsRoot).map((folder) => parseCoreList(readText(join(folder, 'topology/thread_siblings_list')) ?? ''));
  return [...new Map(lists.filter((list) => list.length > 0).map((list) => [list.join(), list])).values()];
}

/** Fans also cool; only what slows the processor counts. */
function readCooling(sysfsRoot: string): readonly string[] {
  const base = join(sysfsRoot, 'class/thermal');
  return listNames(base)
    .filter((name) => name.startsWith('cooling_device') && (readNumber(join(base, name, 'cur_state')) ?? 0) > 0)
    .map((name) => readText(join(base, name, 'type')) ?? name)
    .filter((type) => /^(Processor|cpufreq|cpu-|intel_powerclamp|thermal-cpufreq)/i.test(type));
}

function readPassiveTripC(sysfsRoot: string): number | null {
  const base = join(sysfsRoot, 'class/thermal');
  const trips = listNames(base)
    .filter((name) => name.startsWith('thermal_zone'))
    .flatMap((zone) =>
      listNames(join(base, zone)).flatMap((file) => {
        const trip = /^(trip_point_\d+)_type$/.exec(file)?.[1];
        if (trip === undefined || readText(join(base, zone, file)) !== 'passive') return [];
        const celsius = (readNumber(join(base, zone, `${trip}_temp`)) ?? 0) / 1000;
        return celsius > 0 ? [celsius] : [];
      }),
    );
  return trips.length === 0 ? null : Math.min(...trips);
}

/** The tightest limit on the own cgroup or any above it: v1's quota over its period, or v2's cpu.max. */
function readQuota({ procRoot, sysfsRoot }: HostRoots): DoctorFacts['quota'] {
  const found: NonNullable<DoctorFacts['quota']>[] = [];
  for (const line of readText(join(procRoot, 'self/cgroup'))?.split('\n') ?? []) {
    const [, controllers = '', path = '/'] = line.split(':');
    const isV2 = controllers === '';
    if (!isV2 && !controllers.split(',').includes('cpu')) continue;
    for (const mount of isV2 ? ['fs/cgroup', 'fs/cgroup/unified'] : ['fs/cgroup/cpu', 'fs/cgroup/cpu,cpuacct']) {
      for (let at = path; ; at = dirname(at)) {
        const file = join(mount, at, isV2 ? 'cpu.max' : 'cpu.cfs_quota_us');
        const [quota = '', period = ''] = (readText(join(sysfsRoot, file)) ?? '').split(' ');
        const periodUs = isV2 ? Number(period) : readNumber(join(sysfsRoot, mount, at, 'cpu.cfs_period_us'));
        const cores = Number(quota) / (periodUs ?? NaN);
        if (quota !== '' && cores > 0) found.push({ cores, file: `/sys/${file}` });
        if (at === '/' || at === '.') break;
      }
    }
  }
  return found.sort((a, b) => a.cores - b.cores)[0] ?? null;
}

function readSupplies(sysfsRoot: string): readonly Supply[] {
  const base = join(sysfsRoot, 'class/power_supply');
  return listNames(base).flatMap((name) => {
    const file = (leaf: string) => join(base, name, leaf);
    // A mouse has a battery too; that one does not feed the machine.
    if (readText(file('scope')) === 'Device') return [];
    const online = readNumber(file('online'));
    return [
      {
        name,
        isBattery: readText(file('type')) === 'Battery',
        status: readText(file('status')),
        capacityPercent: readNumber(file('capacity')),
        isOnline: online === null ? null : online !== 0,
      },
    ];
  });
}

function readMemory(procRoot: string): DoctorFacts['memory'] {
  const text = readText(join(procRoot, 'meminfo')) ?? '';
  const bytes = (key: string) => {
    const match = new RegExp(`^${key}:\\s+(\\d+) kB$`, 'm').exec(text);
    return match === null ? null : Number(match[1]) * KIBIBYTE;
  };
  const [total, free, available] = [bytes('SwapTotal'), bytes('SwapFree'), bytes('MemAvailable')];
  if (total === null || free === null || available === null) return null;
  return { swapTotalBytes: total, swapUsedBytes: total - free, availableBytes: available };
}

export async function readDoctorFacts(host: DoctorHost): Promise<DoctorFacts> {
  const { sysfsRoot, procRoot, threads, spinning } = host;
  const cpu = join(sysfsRoot, 'devices/system/cpu');
  const online = parseCoreList(readText(join(cpu, 'online')) ?? '');
  const allowed = parseCoreList(/^Cpus_allowed_list:\s*(\S+)$/m.exec(readText(join(procRoot, 'self/status')) ?? '')?.[1] ?? '');
  const sources = join(sysfsRoot, 'devices/system/clocksource/clocksource0');
  const clockNow = readText(join(sources, 'current_clocksource'));
  const profile = readText(join(sysfsRoot, 'firmware/acpi/platform_profile'));
  const before = readTicks(procRoot);
  await host.watch();
  return {
    policies: readPolicies(sysfsRoot),
    throttledBits: await readThrottledBits(host),
    overCurrent: readOverCurrent(sysfsRoot),
    thermalThrottles: readThermalThrottles(sysfsRoot),
    cooling: readCooling(sysfsRoot),
    quota: readQuota(host),
    quotaStops: readThrottledPeriods(host),
    powerMode: await readPowerMode(host),
    platformProfile:
      profile === null
        ? null
        : { now: profile, choices: readText(join(sysfsRoot, 'firmware/acpi/platform_profile_choices'))?.split(/\s+/) ?? [] },
    spinning,
    threads,
    onlineCores: online.length === 0 ? null : online.length,
    allowedCores: allowed.length === 0 ? online : allowed,
    siblings: readSiblings(sysfsRoot),
    neighbours: watchNeighbours(before, readTicks(procRoot), host.ownPid),
    supplies: readSupplies(sysfsRoot),
    temperatureC: readTemperatureC(sysfsRoot),
    maxTemperatureC: DEFAULT_MAX_TEMPERATURE_C,
    passiveTripC: readPassiveTripC(sysfsRoot),
    memory: readMemory(procRoot),
    clockSource:
      clockNow === null ? null : { now: clockNow, available: readText(join(sources, 'available_clocksource'))?.split(/\s+/) ?? [] },
  };
}
