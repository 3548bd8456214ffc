// All sensors of this machine, most direct first.
import { delimiter, join } from 'node:path';
import { HOST_ROOTS } from '../host-files.ts';
import type { Discovery, MeterHost, PlugAddress } from './meter.ts';
import { discoverBattery } from './battery.ts';
import { discoverHwmon } from './hwmon.ts';
import { discoverNvidia } from './nvidia.ts';
import { discoverPlugs } from './plug.ts';
import { discoverPowermetrics } from './powermetrics.ts';
import { discoverIna3221 } from './ina3221.ts';
import { discoverPmic } from './pmic.ts';
import { discoverRapl } from './rapl.ts';
import { discoverTermux } from './termux.ts';
import { discoverTegrastats } from './tegrastats.ts';

/** Most direct first. */
const FAMILIES: readonly ((host: MeterHost) => Discovery)[] = [
  discoverRapl,
  discoverIna3221,
  discoverTegrastats,
  discoverPmic,
  discoverHwmon,
  (host) => discoverPowermetrics(host),
  discoverNvidia,
  discoverBattery,
  discoverTermux,
  discoverPlugs,
];

/** Programs describe the machine that they run on, so they are asked only where the tree is its own. */
export function meterHost(sysfsRoot: string, plugs: readonly PlugAddress[] = [], computesOn: MeterHost['computesOn'] = 'cpu'): MeterHost {
  const isOwn = sysfsRoot === HOST_ROOTS.sysfsRoot;
  const path = process.env['PATH'] ?? '';
  return { sysfsRoot, programDirs: isOwn ? path.split(delimiter).filter((dir) => dir !== '') : [], plugs, computesOn };
}

export function discoverMeters(host: MeterHost): Discovery {
  const found = FAMILIES.map((family) => family(host));
  return { meters: found.flatMap(({ meters }) => meters), unusable: found.flatMap(({ unusable }) => unusable) };
}

/** Why there are no joules on a machine without a usable sensor, in a sentence. */
export function explainNoMeter({ sysfsRoot }: MeterHost, { unusable }: Discovery): string {
  const first = unusable[0];
  if (first !== undefined) return `No usable energy sensor: ${first.sensor}: ${first.message}`;
  return `No energy sensor: ${join(sysfsRoot, 'class/powercap')} and ${join(sysfsRoot, 'class/hwmon')} show none, as on most virtual machines and in containers. A smart plug can be given (--plug); \`ofa-agent meters\` says what was looked for.`;
}
