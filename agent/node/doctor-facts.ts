// Reads what the doctor judges: small files of /sys and /proc, and on this machine itself two programs that boards bring. Changes nothing.
import { execFile } from 'node:child_process';
import { existsSync } from 'node:fs';
import { dirname, join } from 'node:path';
import type { ClockPolicy, DoctorFacts } from '../doctor-facts.ts';
import { readBatteryState } from './battery-state.ts';
import { readThrottledPeriods } from './conditions.ts';
import { listNames, readNumber, readText, type HostRoots } from './host-files.ts';
import { readActivity, watchNeighbours } from './neighbours.ts';
import { DEFAULT_MAX_TEMPERATURE_C, readTemperatureC } from './temperature.ts';
import { firmwareFile, readCooling, readFirmwareBits, readSupplyAlarms, readThermalThrottles, readVoltageAlarm } from './throttle.ts';

export interface DoctorHost extends HostRoots {
  /** Folders of programs; none where another machine's tree is read. */
  readonly programDirs: readonly string[];
  readonly threads: number;
  readonly idleCores: number | null;
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

/** Raspberry Pi: the kernel's file, else the firmware's own program (`throttled=0x…`). */
async function readThrottledBits({ sysfsRoot, programDirs }: DoctorHost): Promise<number | null> {
  const file = firmwareFile(sysfsRoot);
  if (file !== null) return readFirmwareBits(file);
  const told = /^throttled=0x([0-9a-f]+)$/im.exec((await ask(programDirs, 'vcgencmd', ['get_throttled'])) ?? '')?.[1];
  if (told !== undefined) return Number.parseInt(told, 16);
  // Bit 0 by another way: the alarm of the last two seconds.
  const alarm = readVoltageAlarm(sysfsRoot);
  return alarm === null ? null : Number(alarm);
}

/** `NV Power Mode: 15W`, then a line with its number. */
async function readPowerMode({ programDirs }: DoctorHost): Promise<string | null> {
  return /^NV Power Mode:\s*(\S.*?)\s*$/m.exec((await ask(programDirs, 'nvpmodel', ['-q'])) ?? '')?.[1] ?? null;
}

function readSiblings(sysfsRoot: string): DoctorFacts['siblings'] {
  const base = join(sysfsRoot, 'devices/system/cpu');
  const lists = listNames(base)
    .filter((name) => /^cpu\d+$/.test(name))
    .map((name) => parseCoreList(readText(join(base, name, 'topology/thread_siblings_list')) ?? ''));
  return [...new Map(lists.filter((list) => list.length > 0).map((list) => [list.join(), list])).values()];
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
    // Seen from within a namespace a path may lead out of it: what is mounted there is all that can be read.
    const own = path.startsWith('/') && !path.split('/').includes('..') ? path : '/';
    for (const mount of isV2 ? ['fs/cgroup', 'fs/cgroup/unified'] : ['fs/cgroup/cpu', 'fs/cgroup/cpu,cpuacct']) {
      for (let at = own; ; at = dirname(at)) {
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
  const { sysfsRoot, procRoot, threads, idleCores } = host;
  const cpu = join(sysfsRoot, 'devices/system/cpu');
  const online = parseCoreList(readText(join(cpu, 'online')) ?? '');
  const allowed = parseCoreList(/^Cpus_allowed_list:\s*(\S+)$/m.exec(readText(join(procRoot, 'self/status')) ?? '')?.[1] ?? '');
  const sources = join(sysfsRoot, 'devices/system/clocksource/clocksource0');
  const clockNow = readText(join(sources, 'current_clocksource'));
  const profile = readText(join(sysfsRoot, 'firmware/acpi/platform_profile'));
  const before = readActivity(procRoot);
  await host.watch();
  return {
    policies: readPolicies(sysfsRoot),
    throttledBits: await readThrottledBits(host),
    supplyAlarms: readSupplyAlarms(sysfsRoot),
    thermalThrottles: readThermalThrottles(sysfsRoot),
    cooling: readCooling(sysfsRoot)?.map(({ device }) => device) ?? [],
    quota: readQuota(host),
    quotaStops: readThrottledPeriods(host),
    powerMode: await readPowerMode(host),
    platformProfile:
      profile === null
        ? null
        : { now: profile, choices: readText(join(sysfsRoot, 'firmware/acpi/platform_profile_choices'))?.split(/\s+/) ?? [] },
    idleCores,
    threads,
    onlineCores: online.length === 0 ? null : online.length,
    allowedCores: allowed.length === 0 ? online : allowed,
    siblings: readSiblings(sysfsRoot),
    neighbours: watchNeighbours(before, readActivity(procRoot), host.ownPid),
    battery: readBatteryState(sysfsRoot),
    temperatureC: readTemperatureC(sysfsRoot),
    maxTemperatureC: DEFAULT_MAX_TEMPERATURE_C,
    passiveTripC: readPassiveTripC(sysfsRoot),
    memory: readMemory(procRoot),
    clockSource:
      clockNow === null ? null : { now: clockNow, available: readText(join(sources, 'available_clocksource'))?.split(/\s+/) ?? [] },
  };
}
