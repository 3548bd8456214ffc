// The hottest thermal zone: for heartbeats, and around measurements.
import { join } from 'node:path';
import { listNames, readNumber, readText } from './host-files.ts';

/** No work is taken above it unless told otherwise: below the 90 to 100 °C at which common processors throttle. */
export const DEFAULT_MAX_TEMPERATURE_C = 85;
/** A sensor below this is off (some report -256 °C). */
const SENSOR_OFF_BELOW_C = -40;
/** Jetsons show 100 °C for their power chip whatever it has; a radio is not what computes. */
const NOT_MEANT = /^(PMIC|iwlwifi)/i;

/** °C; null where no zone can be read. */
export function readTemperatureC(sysfsRoot: string): number | null {
  const base = join(sysfsRoot, 'class/thermal');
  const zones = listNames(base).filter(
    (name) => name.startsWith('thermal_zone') && !NOT_MEANT.test(readText(join(base, name, 'type')) ?? ''),
  );
  const values = zones.map((zone) => (readNumber(join(base, zone, 'temp')) ?? NaN) / 1000).filter((value) => value >= SENSOR_OFF_BELOW_C);
  return values.length === 0 ? null : Math.max(...values);
}
