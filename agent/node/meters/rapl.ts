// Intel's and AMD's running average power limit counters, as the kernel's powercap shows them (Documentation/power/powercap).
import { join } from 'node:path';
import { listNames, readNumber, readText } from '../host-files.ts';
import type { Discovery, Meter, Unusable } from './meter.ts';

const JOULES_PER_MICROJOULE = 1e-6;
/** The coarsest energy unit of common processors, 2^-14 J; the kernel shows µJ but the counter moves in these. */
const LSB_JOULES = 2 ** -14;
/** No data sheet gives the counter's gain; comparisons with external meters find a few per cent. */
const GAIN = 0.05;

interface Zone {
  readonly folder: string;
  readonly name: string;
}

/**
 * Package zones, the only ones that stand for the whole processor and nothing else: core and uncore lie inside a package, psys contains it,
 * and `intel-rapl-mmio` shows the same package a second time, which is taken only where the first cannot be read.
 */
export function discoverRapl(sysfsRoot: string): Discovery {
  const base = join(sysfsRoot, 'class/powercap');
  const zones: readonly Zone[] = listNames(base).flatMap((folder) => {
    const name = /^(intel|amd)-rapl(-mmio)?:\d+(:\d+)?$/.test(folder) ? readText(join(base, folder, 'name')) : null;
    return name === null ? [] : [{ folder, name }];
  });
  const meters = new Map<string, Meter>();
  const unusable: Unusable[] = [];
  // The register interface before its mmio twin.
  const packages = zones
    .filter((zone) => zone.name.startsWith('package'))
    .sort((a, b) => Number(a.folder.includes('mmio')) - Number(b.folder.includes('mmio')));
  for (const { folder, name } of packages) {
    const sensor = `rapl ${name}`;
    const path = join(base, folder, 'energy_uj');
    if (meters.has(name)) {
      unusable.push({
        sensor: `${sensor} (${folder})`,
        reason: 'SENSOR_MISSING',
        message: `${folder} shows ${name} a second time; counting both would double it.`,
      });
    } else if (readNumber(path) === null) {
      unusable.push({
        sensor: `${sensor} (${folder})`,
        reason: 'SENSOR_MISSING',
        message: `${path} cannot be read: kernels keep it from all but root (CVE-2020-8694). Allow it: sudo chmod a+r ${path}, or for good by a udev or sysfs.conf rule.`,
      });
    } else {
      const range = readNumber(join(base, folder, 'max_energy_range_uj'));
      const wrapJoules = range === null || range <= 0 ? null : range * JOULES_PER_MICROJOULE;
      meters.set(name, {
        path,
        scale: JOULES_PER_MICROJOULE,
        info: { sensor, boundary: 'package', kind: 'counter', lsb: LSB_JOULES, wrapJoules, gain: GAIN },
      });
    }
  }
  for (const { folder, name } of zones.filter((zone) => !zone.name.startsWith('package'))) {
    const why = name === 'psys' ? 'contains the packages' : name === 'dram' ? 'lies beside the package' : 'lies inside the package';
    unusable.push({
      sensor: `rapl ${name} (${folder})`,
      reason: 'SENSOR_MISSING',
      message: `${name} ${why}; it is never added to it and not used here.`,
    });
  }
  return { meters: [...meters.values()], unusable };
}
