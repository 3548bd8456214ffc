// The battery of a laptop or phone, by the kernel's power_supply class: what flows out of it is what the device draws, as long as no charger is attached.
import { join } from 'node:path';
import type { Reason } from '@ofa-fleet/shared/outcome.ts';
import { listNames, readText } from '../host-files.ts';
import { readUevent, ueventFields } from './battery-grammar.ts';
import type { Discovery, Meter, MeterHost, Unusable } from './meter.ts';

/** Gauges refresh each 0.25 to 60 s. */
const TYPICAL_REFRESH_MS = 5000;
/** Gauges state none. */
const GAIN = 0.05;
export const BATTERY_SCOPE =
  'everything that the battery feeds: the whole device with its screen and radio; only while no charger is attached';

interface Supply {
  readonly name: string;
  readonly path: string;
  readonly text: string;
  readonly fields: ReadonlyMap<string, string>;
  readonly isBattery: boolean;
}

function readSupply(base: string, name: string): Supply | null {
  const path = join(base, name, 'uevent');
  const text = readText(path);
  if (text === null) return null;
  const fields = ueventFields(text);
  const type = fields.get('TYPE') ?? readText(join(base, name, 'type'));
  // older kernels name no type here; only batteries have a capacity
  return { name, path, text, fields, isBattery: type === null ? fields.has('CAPACITY') || fields.has('STATUS') : type === 'Battery' };
}

export function onCharger(status: string): { readonly reason: Reason; readonly message: string } {
  return {
    reason: 'ON_CHARGER',
    message: `what flows through the battery is not what the device draws while a charger is attached (${status}). Unplug the charger and measure again.`,
  };
}

export function discoverBattery({ sysfsRoot }: MeterHost): Discovery {
  const base = join(sysfsRoot, 'class/power_supply');
  const supplies = listNames(base)
    .map((name) => readSupply(base, name))
    // of a mouse or a headset, which feeds itself
    .filter((supply): supply is Supply => supply !== null && supply.fields.get('SCOPE') !== 'Device');
  const charger = supplies.find(({ isBattery, fields }) => !isBattery && Number(fields.get('ONLINE') ?? 0) >= 1);
  const discharging: { readonly supply: Supply; readonly meter: Meter }[] = [];
  const unusable: Unusable[] = [];
  for (const supply of supplies.filter(({ isBattery }) => isBattery)) {
    const sensor = `battery ${supply.name}`;
    const state = readUevent(supply.text);
    if (charger !== undefined) unusable.push({ sensor, ...onCharger(`${charger.name} is online`) });
    else if (state.kind === 'on-charger') unusable.push({ sensor, ...onCharger(state.status) });
    else if (state.kind === 'unknown') unusable.push({ sensor, reason: 'SENSOR_MISSING', message: `${state.why} (${supply.path}).` });
    else
      discharging.push({
        supply,
        meter: {
          source: { kind: 'text', path: supply.path, parser: 'battery-uevent' },
          scope: BATTERY_SCOPE,
          typicalRefreshMs: TYPICAL_REFRESH_MS,
          info: { sensor, boundary: 'battery', kind: 'power', lsb: 1e-6, wrapJoules: null, gain: GAIN },
        },
      });
  }
  if (discharging.length <= 1) return { meters: discharging.map(({ meter }) => meter), unusable };
  const names = discharging.map(({ supply }) => supply.name).join(' and ');
  for (const { meter } of discharging) {
    unusable.push({
      sensor: meter.info.sensor,
      reason: 'SENSOR_MISSING',
      message: `${names} feed the device together, and gauges that are read one after the other are not added up. Put a smart plug before the charger (--plug).`,
    });
  }
  return { meters: [], unusable };
}
