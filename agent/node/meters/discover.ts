// All sensors of this machine, most direct first.
import type { Discovery } from './meter.ts';
import { discoverHwmon } from './hwmon.ts';
import { discoverRapl } from './rapl.ts';

export function discoverMeters(sysfsRoot: string): Discovery {
  const found = [discoverRapl(sysfsRoot), discoverHwmon(sysfsRoot)];
  return { meters: found.flatMap(({ meters }) => meters), unusable: found.flatMap(({ unusable }) => unusable) };
}

/** Why there are no joules on a machine without a usable sensor, in a sentence. */
export function explainNoMeter(sysfsRoot: string, { unusable }: Discovery): string {
  const first = unusable[0];
  if (first !== undefined) return `No usable energy sensor: ${first.sensor}: ${first.message}`;
  return `No energy sensor under ${sysfsRoot}/class/powercap (RAPL) or ${sysfsRoot}/class/hwmon, as on most virtual machines. \`ofa-agent meters\` says what was looked for.`;
}
