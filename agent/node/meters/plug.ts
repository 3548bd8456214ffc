// Smart plugs that an operator put before this device, over MQTT: they see the device with its power supply, and each as late and as coarsely as its maker chose.
import type { Discovery, Meter, MeterHost, PlugAddress } from './meter.ts';
import type { ParserName } from './parsers.ts';

/** Tasmota and Shelly answer when they are asked, and refresh about as often. */
const ASK_EVERY_MS = 1000;
/** zigbee2mqtt passes on what the plug reports, each 5 to 60 s, and some plugs cannot be asked. */
const ZIGBEE_REFRESH_MS = 10_000;
/** False zeros come alone, minutes apart (Koenkk/zigbee2mqtt#16709). */
const HOLD_ZERO_MS = 5000;
/** Makers promise 1 to 2 %; nobody has checked. */
const GAIN = 0.05;
const SCOPE = 'all that is plugged into it: this device with its power supply, and nothing else if it was given rightly';

type Topic = Extract<Meter['source'], { kind: 'topic' }>;

interface Reading {
  readonly quantity: string;
  readonly kind: Meter['info']['kind'];
  readonly parser: ParserName;
  /** Finest step that the make shows; the recorder finds the real one. */
  readonly lsb: number;
}

interface Make {
  readonly source: (plug: PlugAddress) => Pick<Topic, 'topic' | 'ask' | 'holdZeroMs'>;
  /** Counters before samples of power, where the counter's step is not far too coarse. */
  readonly readings: readonly Reading[];
  readonly typicalRefreshMs: number;
}

const MAKES: Readonly<Record<PlugAddress['make'], Make>> = {
  tasmota: {
    // telemetry (tele/<t>/SENSOR) comes each 10 s to an hour; stat/<t>/STATUS8 or STATUS10 whenever it is asked
    source: ({ name }) => ({
      topic: `+/${name}/+`,
      ask: { topic: `cmnd/${name}/Status`, payload: '10', everyMs: ASK_EVERY_MS },
      holdZeroMs: null,
    }),
    // its counter moves by 3.6 kJ
    readings: [{ quantity: 'power', kind: 'power', parser: 'tasmota', lsb: 0.001 }],
    typicalRefreshMs: ASK_EVERY_MS,
  },
  shelly: {
    // a question that reads and cannot switch; its answer goes to <src>/rpc, changes to <prefix>/status/switch:0
    source: ({ name }) => ({
      topic: `${name}/+/+`,
      ask: {
        topic: `${name}/rpc`,
        payload: JSON.stringify({ id: 1, src: `${name}/ofa-agent`, method: 'Switch.GetStatus', params: { id: 0 } }),
        everyMs: ASK_EVERY_MS,
      },
      holdZeroMs: null,
    }),
    readings: [
      { quantity: 'energy', kind: 'counter', parser: 'shelly-energy', lsb: 3.6 },
      { quantity: 'power', kind: 'power', parser: 'shelly-power', lsb: 0.1 },
    ],
    typicalRefreshMs: ASK_EVERY_MS,
  },
  zigbee2mqtt: {
    source: ({ name }) => ({ topic: `zigbee2mqtt/${name}`, ask: null, holdZeroMs: HOLD_ZERO_MS }),
    // its counter moves by 36 kJ
    readings: [{ quantity: 'power', kind: 'power', parser: 'zigbee2mqtt', lsb: 0.01 }],
    typicalRefreshMs: ZIGBEE_REFRESH_MS,
  },
};

export function discoverPlugs({ plugs }: MeterHost): Discovery {
  return { meters: plugs.flatMap(metersOf), unusable: [] };
}

function metersOf(plug: PlugAddress): readonly Meter[] {
  const { source, readings, typicalRefreshMs } = MAKES[plug.make];
  return readings.map(({ quantity, kind, parser, lsb }) => ({
    source: { kind: 'topic', url: plug.url, parser, ...source(plug) },
    scope: SCOPE,
    typicalRefreshMs,
    info: { sensor: `${plug.make} ${plug.name} ${quantity}`, boundary: 'wall', kind, lsb, wrapJoules: null, gain: GAIN },
  }));
}
