// Intel's and AMD's running average power limit counters, as the kernel's powercap shows them (Documentation/power/powercap).
import { join } from 'node:path';
import { listNames, readNumber, readText } from '../host-files.ts';
import type { Discovery, Meter, MeterHost, Unusable } from './meter.ts';

const JOULES_PER_MICROJOULE = 1e-6;
/** The coarsest energy unit of common processors, 2^-14 J; the kernel shows µJ but the counter moves in these. */
const LSB_JOULES = 2 ** -14;
/** No data sheet gives the counter's gain; comparisons with external meters find a few per cent. */
const GAIN = 0.05;

interface Zone {
  /** Name of its folder, which no other zone has, e.g. `intel-rapl:0:1`. */
  readonly folder: string;
  readonly path: string;
  readonly name: string;
}

const ZONE = /^(intel|amd)-rapl(-mmio)?:\d+(:\d+)*$/;
/** Control type, package, subzone. */
const DEPTH = 3;

/** All zones, each once: the class shows them side by side and inside each other, and the devices that it points to a third time. */
function findZones(sysfsRoot: string): readonly Zone[] {
  const found = new Map<string, Zone>();
  const look = (base: string, depth: number): void => {
    for (const folder of listNames(base)) {
      if (!/^(intel|amd)-rapl/.test(folder)) continue;
      const path = join(base, folder);
      const name = ZONE.test(folder) && !found.has(folder) ? readText(join(path, 'name')) : null;
      if (name !== null) found.set(folder, { folder, path, name });
      if (depth > 1) look(path, depth - 1);
    }
  };
  for (const base of ['class/powercap', 'devices/virtual/powercap']) look(join(sysfsRoot, base), DEPTH);
  return [...found.values()];
}

interface Package {
  readonly name: string;
  readonly path: string;
  readonly wrapJoules: number | null;
}

/** One sensor for all sockets: a process may run on any of them, and packages do not overlap. */
function sumOf(packages: readonly Package[]): Meter | null {
  const [first] = packages;
  if (first === undefined) return null;
  // The sum of counters of one range falls by that range when one of them wraps; with different ranges a fall could mean either.
  const wrapJoules = packages.every((other) => other.wrapJoules === first.wrapJoules) ? first.wrapJoules : null;
  const sensor = `rapl ${packages.map(({ name }) => name).join(' + ')}`;
  return {
    source: { kind: 'files', terms: packages.map(({ path }) => ({ paths: [path], scale: JOULES_PER_MICROJOULE })) },
    scope:
      'the processor package: cores, caches, graphics and memory controller inside of it; not memory modules, board, disk or power supply',
    typicalRefreshMs: 1,
    info: { sensor, boundary: 'package', kind: 'counter', lsb: LSB_JOULES, wrapJoules, gain: GAIN },
  };
}

/**
 * Package zones, the only ones that stand for a whole processor and nothing else: core and uncore lie inside a package, psys contains it,
 * and `intel-rapl-mmio` shows the same package a second time, which is taken only where the first cannot be read.
 */
export function discoverRapl({ sysfsRoot }: MeterHost): Discovery {
  const zones = findZones(sysfsRoot);
  const packages = new Map<string, Package>();
  const dark = new Set<string>();
  const unusable: Unusable[] = [];
  const skip = (sensor: string, message: string) => unusable.push({ sensor: `rapl ${sensor}`, reason: 'SENSOR_MISSING', message });
  // The register interface before its mmio twin.
  const candidates = zones
    .filter((zone) => zone.name.startsWith('package'))
    .sort((a, b) => Number(a.folder.includes('mmio')) - Number(b.folder.includes('mmio')));
  for (const { folder, path: zone, name } of candidates) {
    const path = join(zone, 'energy_uj');
    if (packages.has(name)) {
      skip(`${name} (${folder})`, `${folder} shows ${name} a second time; counting both would double it.`);
    } else if (readNumber(path) === null) {
      dark.add(name);
      skip(
        `${name} (${folder})`,
        `${path} cannot be read: kernels keep it from all but root (CVE-2020-8694). Allow it: sudo chmod a+r ${path}, or for good by a udev or sysfs.conf rule.`,
      );
    } else {
      const range = readNumber(join(zone, 'max_energy_range_uj'));
      packages.set(name, { name, path, wrapJoules: range === null || range <= 0 ? null : range * JOULES_PER_MICROJOULE });
    }
  }
  for (const { folder, name } of zones.filter((zone) => !zone.name.startsWith('package'))) {
    const why = name === 'psys' ? 'contains the packages' : name === 'dram' ? 'lies beside the package' : 'lies inside the package';
    skip(`${name} (${folder})`, `${name} ${why}; it is never added to it and not used here.`);
  }
  const missing = [...dark].filter((name) => !packages.has(name));
  if (packages.size > 0 && missing.length > 0) {
    skip([...packages.keys()].join(' + '), `without ${missing.join(', ')} it is a part of this machine, and never shown as the whole.`);
    return { meters: [], unusable };
  }
  const meter = sumOf([...packages.values()]);
  return { meters: meter === null ? [] : [meter], unusable };
}
