// Power and energy sensors of the kernel's hwmon class (Documentation/hwmon/sysfs-interface): power in µW, energy in µJ, whatever the driver.
import { join } from 'node:path';
import { listNames, readNumber, readText } from '../host-files.ts';
import type { MeterInfo } from '../../ports.ts';
import type { Discovery, Meter, MeterHost, Unusable } from './meter.ts';

const PER_MICRO = 1e-6;
const GAIN = 0.05;
/** Of drivers that do not tell; most convert within 100 ms. */
const TYPICAL_REFRESH_MS = 100;

/** What a driver's sensor is known to enclose. A driver that is not listed may measure anything (a fan, a port), so it is not trusted. */
const DRIVERS: Readonly<Record<string, MeterInfo['boundary']>> = {
  amd_energy: 'package',
  zenergy: 'package',
  amdgpu: 'gpu-board',
  i915: 'gpu-board',
  xe: 'gpu-board',
  ina219: 'rail',
  ina220: 'rail',
  ina226: 'rail',
  ina230: 'rail',
  ina231: 'rail',
  ina238: 'rail',
  ina260: 'rail',
  power_meter: 'platform', // ACPI
};

/** amd_energy and zenergy count cores beside sockets; only what stands for the whole is taken. */
function isPart(driver: string, label: string): boolean {
  return (driver === 'amd_energy' || driver === 'zenergy') && /core/i.test(label);
}

export function discoverHwmon({ sysfsRoot }: MeterHost): Discovery {
  const base = join(sysfsRoot, 'class/hwmon');
  const meters: Meter[] = [];
  const unusable: Unusable[] = [];
  for (const folder of listNames(base)) {
    const driver = readText(join(base, folder, 'name')) ?? 'unnamed';
    // Counters before samples of power.
    const files = listNames(join(base, folder)).filter((file) => /^(energy|power)\d+_(input|average)$/.test(file));
    const channels = new Set<string>();
    for (const file of files) {
      const [, kind = '', index = ''] = /^(energy|power)(\d+)/.exec(file) ?? [];
      const label = readText(join(base, folder, `${kind}${index}_label`)) ?? `${kind}${index}`;
      const sensor = `hwmon ${driver} ${label}`;
      const path = join(base, folder, file);
      const boundary = DRIVERS[driver];
      const skip = (message: string) => unusable.push({ sensor: `${sensor} (${folder})`, reason: 'SENSOR_MISSING', message });
      if (channels.has(index)) skip(`channel ${index} of ${driver} is taken by a more direct reading of it already.`);
      else if (boundary === undefined) skip(`it is not known what the driver ${driver} measures, so its figure is not trusted.`);
      else if (boundary === 'gpu-board')
        skip(`${driver} measures a graphics card, which is not what runs a model here: both runtimes compute on the CPU.`);
      else if (isPart(driver, label)) skip(`${label} is a part of the socket, which has a counter of its own.`);
      else if (readNumber(path) === null) skip(`${path} cannot be read. Allow it: sudo chmod a+r ${path}.`);
      else {
        channels.add(index);
        meters.push({
          source: { kind: 'files', terms: [{ paths: [path], scale: PER_MICRO }] },
          scope: `what ${driver} encloses on this machine (${boundary})`,
          typicalRefreshMs: readNumber(join(base, folder, 'update_interval')) ?? TYPICAL_REFRESH_MS,
          info: { sensor, boundary, kind: kind === 'energy' ? 'counter' : 'power', lsb: PER_MICRO, wrapJoules: null, gain: GAIN },
        });
      }
    }
  }
  return { meters, unusable };
}
