// Power and energy sensors of the kernel's hwmon class (Documentation/hwmon/sysfs-interface): power in µW, energy in µJ, whatever the driver.
import { join } from 'node:path';
import { listNames, readNumber, readText } from '../host-files.ts';
import type { MeterInfo } from '../../ports.ts';
import { isModuleInput } from './ina3221.ts';
import type { Discovery, Meter, MeterHost, Unusable } from './meter.ts';

const PER_MICRO = 1e-6;
const GAIN = 0.05;
/** Of drivers that do not tell; most convert within 100 ms. */
const TYPICAL_REFRESH_MS = 100;

/** Monitors that somebody soldered or plugged in front of something: one shunt, bus voltage `in1`, current `curr1`, power `power1`. */
const WIRED = ['ina209', 'ina219', 'ina220', 'ina226', 'ina228', 'ina230', 'ina231', 'ina232', 'ina233', 'ina234', 'ina237', 'ina238', 'ina260', 'ina700', 'ina780', 'sq52206', 'sy24655']; // prettier-ignore

/** What a driver's sensor is known to enclose. A driver that is not listed may measure anything (a fan, a port), so it is not trusted. */
const DRIVERS: Readonly<Record<string, MeterInfo['boundary']>> = {
  amd_energy: 'package',
  zenergy: 'package',
  amdgpu: 'gpu-board',
  i915: 'gpu-board',
  xe: 'gpu-board',
  power_meter: 'platform', // ACPI
  ...Object.fromEntries(WIRED.map((chip) => [chip, 'rail' as const])),
};

/** amd_energy and zenergy count cores beside sockets; only what stands for the whole is taken. */
function isPart(driver: string, label: string): boolean {
  return (driver === 'amd_energy' || driver === 'zenergy') && /core/i.test(label);
}

/** Where a channel's value is read, and what it is. */
interface Reading {
  readonly sensor: string;
  readonly kind: MeterInfo['kind'];
  readonly paths: readonly string[];
}

function meterOf({ sensor, kind, paths }: Reading, driver: string, boundary: MeterInfo['boundary'], folder: string): Meter {
  const scope =
    boundary === 'rail'
      ? `what hangs behind the shunt that ${driver} watches: as it was wired, which only its builder knows`
      : `what ${driver} encloses on this machine (${boundary})`;
  return {
    source: { kind: 'files', terms: [{ paths, scale: PER_MICRO }] }, // µW, µJ; or mV times mA
    scope,
    typicalRefreshMs: readNumber(join(folder, 'update_interval')) ?? TYPICAL_REFRESH_MS,
    info: { sensor, boundary, kind, lsb: PER_MICRO, wrapJoules: null, gain: GAIN },
  };
}

/** Volts times amperes, for a wired monitor that gives no power (its driver leaves it out where the shunt is not known). */
function voltsTimesAmperes(folder: string, driver: string): Reading | null {
  const paths = [join(folder, 'in1_input'), join(folder, 'curr1_input')];
  if (!WIRED.includes(driver) || paths.some((path) => readNumber(path) === null)) return null;
  return { sensor: `hwmon ${driver} in1 x curr1`, kind: 'power', paths };
}

export function discoverHwmon({ sysfsRoot, computesOn }: MeterHost): Discovery {
  const base = join(sysfsRoot, 'class/hwmon');
  const meters: Meter[] = [];
  const unusable: Unusable[] = [];
  for (const name of listNames(base)) {
    const folder = join(base, name);
    const driver = readText(join(folder, 'name')) ?? 'unnamed';
    if (isModuleInput(folder, sysfsRoot)) continue; // a Jetson's own, see ina3221.ts
    const boundary = DRIVERS[driver];
    // Counters before samples of power.
    const files = listNames(folder).filter((file) => /^(energy|power)\d+_(input|average)$/.test(file));
    const channels = new Set<string>();
    for (const file of files) {
      const [, kind = '', index = ''] = /^(energy|power)(\d+)/.exec(file) ?? [];
      const label = readText(join(folder, `${kind}${index}_label`)) ?? `${kind}${index}`;
      const sensor = `hwmon ${driver} ${label}`;
      const path = join(folder, file);
      const skip = (message: string) => unusable.push({ sensor: `${sensor} (${name})`, reason: 'SENSOR_MISSING', message });
      if (channels.has(index)) skip(`channel ${index} of ${driver} is taken by a more direct reading of it already.`);
      else if (boundary === undefined) skip(`it is not known what the driver ${driver} measures, so its figure is not trusted.`);
      else if (boundary === 'gpu-board' && computesOn === 'cpu')
        skip(`${driver} measures a graphics card, which is not what runs a model here: the runtime computes on the CPU.`);
      else if (isPart(driver, label)) skip(`${label} is a part of the socket, which has a counter of its own.`);
      else if (readNumber(path) === null) skip(`${path} cannot be read. Allow it: sudo chmod a+r ${path}.`);
      else {
        channels.add(index);
        meters.push(meterOf({ sensor, kind: kind === 'energy' ? 'counter' : 'power', paths: [path] }, driver, boundary, folder));
      }
    }
    const product = channels.size === 0 ? voltsTimesAmperes(folder, driver) : null;
    if (product !== null) meters.push(meterOf(product, driver, 'rail', folder));
  }
  return { meters, unusable };
}
