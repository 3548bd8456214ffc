// The hottest thermal zone, for heartbeats.
import { join } from 'node:path';
import { listNames, readNumber } from './host-files.ts';

/** °C; null where no zone can be read. */
export function readTemperatureC(sysfsRoot: string): number | null {
  const base = join(sysfsRoot, 'class/thermal');
  const zones = listNames(base)
    .filter((name) => name.startsWith('thermal_zone'))
    .flatMap((name) => readNumber(join(base, name, 'temp')) ?? []);
  return zones.length === 0 ? null : Math.max(...zones) / 1000;
}
