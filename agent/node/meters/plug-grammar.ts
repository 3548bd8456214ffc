// What smart plugs publish: Tasmota (tasmota.github.io/docs, Status responses), Shelly from its second generation on (shelly-api-docs.shelly.cloud, Switch),
// zigbee2mqtt (zigbee2mqtt.io, the `power` it exposes). Watts are the real power; volts times amperes is not.
import { z } from 'zod';
import { parseJson } from './json-text.ts';

const JOULES_PER_WATT_HOUR = 3600;

const tasmotaSchema = z.object({ ENERGY: z.object({ Power: z.union([z.number(), z.array(z.number()).min(1)]) }) });
const statusSchema = z.object({ StatusSNS: tasmotaSchema });

/**
 * Watts, of all sockets of a strip together. From telemetry and from the answers to `Status 8` and `Status 10`; a `Power` outside of `ENERGY` is the
 * relay's position and no reading.
 */
export function parseTasmota(text: string): number | null {
  const json = parseJson(text);
  const answer = statusSchema.safeParse(json);
  const sensor = answer.success ? answer.data.StatusSNS : tasmotaSchema.safeParse(json).data;
  if (sensor === undefined) return null;
  const { Power: power } = sensor.ENERGY;
  return drawn(typeof power === 'number' ? power : power.reduce((sum, watts) => sum + watts, 0));
}

const switchSchema = z.object({
  id: z.literal(0).optional(),
  output: z.boolean().optional(),
  apower: z.number().optional(),
  aenergy: z.object({ total: z.number() }).optional(),
});

/** The state of switch 0, from its status topic, from an answer to `Switch.GetStatus`, or from a notification of a change. */
function shellySwitch(text: string): z.infer<typeof switchSchema> | null {
  const json = parseJson(text);
  const wrapped = z
    .union([
      z.object({ result: switchSchema }).transform(({ result }) => result),
      z.object({ params: z.object({ 'switch:0': switchSchema }) }).transform(({ params }) => params['switch:0']),
    ])
    .safeParse(json);
  if (wrapped.success) return wrapped.data;
  return switchSchema.safeParse(json).data ?? null;
}

/** Joules since the plug was made, or reset. */
export function parseShellyEnergy(text: string): number | null {
  const total = shellySwitch(text)?.aenergy?.total;
  return total === undefined ? null : drawn(total * JOULES_PER_WATT_HOUR);
}

/** Watts; none from a plug that is switched off and still shows some. */
export function parseShellyPower(text: string): number | null {
  const state = shellySwitch(text);
  if (state?.apower === undefined || (state.output === false && state.apower > 0)) return null;
  return drawn(state.apower);
}

const zigbeeSchema = z.object({ power: z.number(), current: z.number().nullish(), state: z.string().nullish() });

/** Watts. A zero while a current flows is a false one, and a draw through a plug that is off is a value that got stuck: neither is a reading. */
export function parseZigbee(text: string): number | null {
  const { data } = zigbeeSchema.safeParse(parseJson(text));
  if (data === undefined || (data.state?.toUpperCase() === 'OFF' && data.power > 0)) return null;
  if (data.power === 0 && (data.current ?? 0) > 0) return null;
  return drawn(data.power);
}

/** A device feeds nothing back into its socket. */
function drawn(value: number): number | null {
  return Number.isFinite(value) && value >= 0 ? value : null;
}
