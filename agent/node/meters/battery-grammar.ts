// What batteries say of themselves: the kernel's power_supply class (Documentation/ABI/testing/sysfs-class-power, as one `uevent`) and Termux's JSON on Android
// (wiki.termux.com, termux-battery-status). Vendors break sign and unit, so whether a battery discharges is told by its state, never by a sign.
import { z } from 'zod';
import { parseJson } from './json-text.ts';

export type BatteryState =
  /** Watts that flow out of it. */
  | { readonly kind: 'discharging'; readonly watts: number }
  /** What flows is not what the device draws. */
  | { readonly kind: 'on-charger'; readonly status: string }
  | { readonly kind: 'unknown'; readonly why: string };

const PER_MICRO = 1e-6;
/** A device that runs draws more than a milliampere: a smaller number counts milliamperes. */
const LEAST_MICROAMPERES = 1000;
/** No cell has less than 0.1 V: a smaller number counts millivolts. */
const LEAST_MICROVOLTS = 100_000;
/** No cell has 100 V: a smaller number counts volts, not millivolts. */
const LEAST_MILLIVOLTS = 100;

const unknown = (why: string): BatteryState => ({ kind: 'unknown', why });

/** Fields of a uevent, without the prefix that all of them carry. */
export function ueventFields(text: string): ReadonlyMap<string, string> {
  return new Map([...text.matchAll(/^(?:POWER_SUPPLY_)?([A-Z_]+)=(.*)$/gm)].map(([, name = '', value = '']) => [name, value.trim()]));
}

function microamperes(reading: number): number {
  const size = Math.abs(reading);
  return size < LEAST_MICROAMPERES ? size * 1000 : size;
}

/** A uevent's: power_now where there is one, else |current| times voltage. 0 while discharging is no reading. */
export function readUevent(text: string): BatteryState {
  const fields = ueventFields(text);
  const status = fields.get('STATUS') ?? '';
  if (status === '' || status === 'Unknown') return unknown('it does not say whether it is charged or discharged');
  if (status !== 'Discharging') return { kind: 'on-charger', status };
  const number = (name: string): number | null => {
    const value = fields.get(name) ?? '';
    return value === '' || !Number.isFinite(Number(value)) ? null : Number(value);
  };
  const power = number('POWER_NOW');
  if (power !== null && power !== 0) return { kind: 'discharging', watts: Math.abs(power) * PER_MICRO };
  const current = number('CURRENT_NOW') ?? number('CURRENT_AVG');
  const voltage = number('VOLTAGE_NOW');
  if (current === null && power === null) return unknown('its gauge shows neither power nor current');
  if (current === null || current === 0) return unknown('its gauge shows 0 while it discharges');
  if (voltage === null || voltage <= 0) return unknown('its gauge shows a current but no voltage');
  const microvolts = voltage < LEAST_MICROVOLTS ? voltage * 1000 : voltage;
  return { kind: 'discharging', watts: microamperes(current) * PER_MICRO * microvolts * PER_MICRO };
}

const termuxSchema = z.object({
  plugged: z.string().nullish(),
  status: z.string().nullish(),
  current: z.number().nullish(),
  voltage: z.number().nullish(),
});
const ON_CHARGER = new Set(['CHARGING', 'FULL', 'NOT_CHARGING']);

/** Termux's: µA (older releases pass on what the phone says, which may be mA) and mV. A charger shows in `plugged`, or in `status` where that is absent. */
export function readTermux(text: string): BatteryState {
  const parsed = termuxSchema.safeParse(parseJson(text));
  if (!parsed.success) return unknown('the answer is not what termux-battery-status gives');
  const { plugged, status, current, voltage } = parsed.data;
  const state = status?.toUpperCase() ?? '';
  if (plugged !== undefined && plugged !== null) {
    if (plugged.toUpperCase() !== 'UNPLUGGED') return { kind: 'on-charger', status: plugged };
    if (state === 'CHARGING' || state === 'FULL') return { kind: 'on-charger', status: state };
  } else if (ON_CHARGER.has(state)) return { kind: 'on-charger', status: state };
  else if (state !== 'DISCHARGING') return unknown('it does not say whether it is charged or discharged');
  if (current === undefined || current === null) return unknown('its gauge shows no current');
  if (current === 0) return unknown('its gauge shows 0 while it discharges');
  if (voltage === undefined || voltage === null || voltage <= 0) return unknown('its gauge shows a current but no voltage');
  const millivolts = voltage < LEAST_MILLIVOLTS ? voltage * 1000 : voltage;
  return { kind: 'discharging', watts: microamperes(current) * PER_MICRO * millivolts * 1e-3 };
}

/** Watts that flow out of the battery; null where the text does not tell. */
export const parseBatteryUevent = (text: string): number | null => wattsOf(readUevent(text));
export const parseTermuxBattery = (text: string): number | null => wattsOf(readTermux(text));

function wattsOf(state: BatteryState): number | null {
  return state.kind === 'discharging' && Number.isFinite(state.watts) ? state.watts : null;
}
