// Smart plugs: their grammar on messages of our own making (Tasmota's, Shelly's and zigbee2mqtt's public documentation), and the recording thread that follows
// them over a real broker. The plugs themselves are simulated: the test publishes what they would.
import fc from 'fast-check';
import { afterEach, describe, expect, it, vi } from 'vitest';
import { openJouleCounter } from '../../../agent/node/joule-counter.ts';
import { discoverMeters, meterHost } from '../../../agent/node/meters/discover.ts';
import { placeOf, type Meter, type MeterHost, type PlugAddress } from '../../../agent/node/meters/meter.ts';
import { parseShellyEnergy, parseShellyPower, parseTasmota, parseZigbee } from '../../../agent/node/meters/plug-grammar.ts';
import { discoverPlugs } from '../../../agent/node/meters/plug.ts';
import { recordFirstMoving, recordMeter } from '../../../agent/node/meters/recorder.ts';
import { holdZeros } from '../../../agent/node/meters/source.ts';
import { startPlugBroker, type PlugBroker } from '../../helpers/plug-broker.ts';

const json = (value: unknown) => JSON.stringify(value);

describe("Tasmota's messages", () => {
  const energy = (power: unknown) => ({
    Time: '2026-02-03T04:05:06',
    ENERGY: { Total: 31.25, Today: 0.41, Period: 1, Power: power, ApparentPower: 40, Factor: 0.5, Voltage: 231, Current: 0.173 },
  });

  it('are read from telemetry and from answers, in watts', () => {
    expect(parseTasmota(json(energy(20)))).toBe(20);
    expect(parseTasmota(json(energy(19.84)))).toBe(19.84);
    expect(parseTasmota(json({ StatusSNS: energy(20) }))).toBe(20);
    expect(parseTasmota(json(energy(0)))).toBe(0);
  });

  it('of a strip are the sum of its sockets', () => {
    expect(parseTasmota(json(energy([17, 4])))).toBe(21);
    expect(parseTasmota(json({ StatusSNS: energy([17, 4, 0.5]) }))).toBe(21.5);
  });

  it("never take the relay's position for watts, in any of its forms", () => {
    for (const power of [0, 1, 3, '011', 'ON'])
      expect(parseTasmota(json({ Status: { Module: 1, Topic: 'desk', Power: power } }))).toBeNull();
    expect(parseTasmota(json({ Time: '2026-02-03T04:05:06', POWER: 'ON', Wifi: { RSSI: 70 } }))).toBeNull();
    expect(parseTasmota(json({ StatusSNS: { Time: '2026-02-03T04:05:06', Switch1: 'OFF' } }))).toBeNull();
    expect(parseTasmota('10')).toBeNull(); // our own question comes back to us
  });

  it('hold no reading where the power is no number, or negative', () => {
    for (const power of ['20', null, [], [20, 'x'], -1]) expect(parseTasmota(json(energy(power)))).toBeNull();
  });
});

describe("Shelly's messages", () => {
  const state = {
    id: 0,
    source: 'init',
    output: true,
    apower: 6.3,
    voltage: 230.4,
    current: 0.051,
    aenergy: { total: 1200.5, by_minute: [105.2, 104.8, 105.1], minute_ts: 1767225600 },
    temperature: { tC: 38.1, tF: 100.6 },
  };

  it('are watts, and watt-hours that become joules', () => {
    expect(parseShellyPower(json(state))).toBe(6.3);
    expect(parseShellyEnergy(json(state))).toBe(1200.5 * 3600);
    expect(parseShellyEnergy(json({ ...state, aenergy: { total: 18.015 } }))).toBeCloseTo(64_854, 6);
  });

  it('come as an answer and as a notification of a change too', () => {
    expect(parseShellyPower(json({ id: 1, src: 'shellyplug', dst: 'desk/ofa-agent', result: state }))).toBe(6.3);
    const change = { src: 'shellyplug', method: 'NotifyStatus', params: { ts: 1767225600.1, 'switch:0': { id: 0, apower: 7.1 } } };
    expect(parseShellyPower(json(change))).toBe(7.1);
    expect(parseShellyEnergy(json(change))).toBeNull();
  });

  it('of another switch, of other parts, of errors and of a draw through a plug that is off hold no watts', () => {
    for (const message of [
      { ...state, id: 1 },
      { tC: 38.1 },
      { id: 1, src: 'shellyplug', error: { code: 404, message: 'No handler' } },
      { ...state, output: false },
      { ...state, apower: null },
      { ...state, apower: -2 },
      'online',
    ]) {
      expect(parseShellyPower(json(message))).toBeNull();
    }
    expect(parseShellyEnergy(json({ ...state, output: false }))).toBe(1200.5 * 3600);
    expect(parseShellyPower(json({ ...state, output: false, apower: 0 }))).toBe(0);
  });
});

describe("zigbee2mqtt's messages", () => {
  it('are watts, not volts times amperes', () => {
    expect(parseZigbee(json({ power: 3, current: 0.1, voltage: 240, state: 'ON', energy: 8.4, linkquality: 60 }))).toBe(3);
    expect(parseZigbee(json({ power: 4.7 }))).toBe(4.7);
    expect(parseZigbee(json({ power: 0, current: 0, voltage: 240, state: 'ON' }))).toBe(0);
    expect(parseZigbee(json({ power: 0, current: 0, voltage: 240, state: 'OFF' }))).toBe(0);
  });

  it('of a zero while a current flows, of a draw through a plug that is off and of no power hold no reading', () => {
    for (const message of [
      { power: 0, current: 0.06, voltage: 238, state: 'ON' },
      { power: 41, current: 0.2, state: 'OFF' },
      { power: null, state: 'ON' },
      { linkquality: 60, state: 'ON' },
      { power: -1 },
    ]) {
      expect(parseZigbee(json(message))).toBeNull();
    }
  });
});

it('no grammar of a plug throws or gives less than nothing, whatever arrives', () => {
  const message = fc.record(
    {
      ENERGY: fc.record({ Power: fc.jsonValue() }),
      StatusSNS: fc.record({ ENERGY: fc.record({ Power: fc.oneof(fc.float(), fc.array(fc.float())) }) }),
      id: fc.nat(1),
      output: fc.boolean(),
      apower: fc.oneof(fc.float(), fc.string()),
      aenergy: fc.record({ total: fc.float() }),
      result: fc.jsonValue(),
      params: fc.jsonValue(),
      power: fc.jsonValue(),
      current: fc.float(),
      state: fc.jsonValue(),
    },
    { requiredKeys: [] },
  );
  const text = fc.oneof(
    fc.string(),
    fc.json(),
    message.map(json),
    fc.tuple(message.map(json), fc.nat(80)).map(([whole, n]) => whole.slice(0, n)),
  );
  fc.assert(
    fc.property(text, (payload) => {
      for (const parse of [parseTasmota, parseShellyEnergy, parseShellyPower, parseZigbee]) {
        const value = parse(payload);
        expect(value === null || (Number.isFinite(value) && value >= 0)).toBe(true);
      }
    }),
    { numRuns: 500 },
  );
});

describe('zeros that are held', () => {
  const seen: [number, number][] = [];
  const held = () => {
    seen.length = 0;
    vi.useFakeTimers(); // time alone is simulated
    return holdZeros(5000, (value, ageMs) => seen.push([value, ageMs]));
  };
  afterEach(() => vi.useRealTimers());

  it('vanish where a draw follows within that time', () => {
    const { take } = held();
    take(40);
    vi.advanceTimersByTime(1000);
    take(0);
    vi.advanceTimersByTime(4900);
    take(41);
    vi.advanceTimersByTime(20_000);
    expect(seen).toEqual([[40, 0], [41, 0]]); // prettier-ignore
  });

  it('count from when they began where they stand', () => {
    const { take } = held();
    take(40);
    take(0);
    vi.advanceTimersByTime(3000);
    take(0);
    expect(seen).toEqual([[40, 0]]);
    vi.advanceTimersByTime(2000);
    take(0);
    expect(seen).toEqual([[40, 0], [0, 5000], [0, 0]]); // prettier-ignore
  });

  it('are given up with the source', () => {
    const { take, stop } = held();
    take(0);
    stop();
    vi.advanceTimersByTime(20_000);
    expect(seen).toEqual([]);
  });
});

describe('plugs over a real broker', () => {
  let broker: PlugBroker | null = null;
  let timers: NodeJS.Timeout[] = [];
  afterEach(async () => {
    for (const timer of timers) clearInterval(timer);
    timers = [];
    await broker?.close();
    broker = null;
  });

  const host = (plug: Omit<PlugAddress, 'url'>, url: string): MeterHost => meterHost('/nowhere', [{ ...plug, url }]);
  const every = (ms: number, work: () => void) => timers.push(setInterval(work, ms));
  /** The same plug, faster than it would be, so that a test takes seconds. */
  const hastened = (meters: readonly Meter[], everyMs: number): [Meter, ...Meter[]] => {
    const [first, ...others] = meters.map((meter): Meter => {
      const { source } = meter;
      if (source.kind !== 'topic') throw new Error('a plug speaks by topics');
      return { ...meter, typicalRefreshMs: everyMs, source: { ...source, ask: source.ask === null ? null : { ...source.ask, everyMs } } };
    });
    if (first === undefined) throw new Error('no meter');
    return [first, ...others];
  };

  it('are wall meters: watts from Tasmota and zigbee2mqtt, a counter before watts from Shelly', () => {
    const found = (['tasmota', 'shelly', 'zigbee2mqtt'] as const).map((make) =>
      discoverPlugs(host({ make, name: 'desk' }, 'mqtt://broker')),
    );
    expect(found.flatMap(({ meters }) => meters.map(({ info }) => [info.sensor, info.boundary, info.kind]))).toEqual([
      ['tasmota desk power', 'wall', 'power'],
      ['shelly desk energy', 'wall', 'counter'],
      ['shelly desk power', 'wall', 'power'],
      ['zigbee2mqtt desk power', 'wall', 'power'],
    ]);
    expect(discoverMeters(host({ make: 'tasmota', name: 'desk' }, 'mqtt://broker')).meters.at(-1)?.info.boundary).toBe('wall');
  });

  it('Tasmota answers what it is asked, with a user and a password that are never shown', async () => {
    const password = 'p@ss/w#rd';
    broker = await startPlugBroker({ user: 'me', password });
    let watts = 20;
    const questions: string[] = [];
    broker.onMessage((topic, payload) => {
      questions.push(`${topic} ${payload}`);
      broker?.publish('stat/desk/STATUS', { Status: { Module: 1, Power: 1 } });
      broker?.publish('stat/desk/STATUS10', {
        StatusSNS: { Time: '2026-02-03T04:05:06', ENERGY: { Power: (watts += 0.5), Voltage: 230 } },
      });
    });
    const url = `mqtt://me:${encodeURIComponent(password)}@127.0.0.1:${broker.port}`;
    const [meter] = hastened(discoverPlugs(host({ make: 'tasmota', name: 'desk' }, url)).meters, 40);
    expect(placeOf(meter.source)).toBe(`+/desk/+ at mqtt://127.0.0.1:${broker.port}`);
    const recorder = await recordMeter(meter);
    await recorder.stop();
    const { values } = recorder.trace();
    expect(recorder.refreshMs).toBeGreaterThan(10);
    expect(recorder.info.lsb).toBeCloseTo(0.5, 9);
    expect([...values.slice(0, 3)]).toEqual([20.5, 21, 21.5]);
    expect(new Set(questions)).toEqual(new Set(['cmnd/desk/Status 10']));
  }, 20_000);

  it("Shelly's counter is taken where it moves finely, its watts where the counter moves too seldom", async () => {
    broker = await startPlugBroker();
    const plug = broker;
    let wattHours = 10;
    let apower = 9;
    const names: string[] = [];
    plug.onMessage((topic, payload) => {
      const { src, method } = JSON.parse(payload) as { src: string; method: string };
      expect([topic, method]).toEqual([`${topic.split('/')[0]}/rpc`, 'Switch.GetStatus']);
      const isFine = topic.startsWith('fine');
      apower += 0.1;
      const total = isFine ? (wattHours += 0.002) : 10;
      plug.publish(`${src}/rpc`, { id: 1, src: 'x', dst: src, result: { id: 0, output: true, apower, aenergy: { total } } });
    });
    for (const name of ['fine', 'coarse']) {
      const recorder = await recordFirstMoving(hastened(discoverPlugs(host({ make: 'shelly', name }, plug.url)).meters, 40));
      await recorder.stop();
      names.push(recorder.info.sensor);
      if (name === 'fine') expect(recorder.info.lsb).toBeCloseTo(7.2, 6);
    }
    expect(names).toEqual(['shelly fine energy', 'shelly coarse power']);
  }, 30_000);

  it('zigbee2mqtt reports by itself; its false zeros, and what the broker kept from earlier, are not recorded', async () => {
    broker = await startPlugBroker();
    const plug = broker;
    plug.publish('zigbee2mqtt/desk', { power: 7, state: 'ON' }, true);
    let n = 0;
    every(30, () =>
      plug.publish('zigbee2mqtt/desk', n++ % 10 === 5 ? { power: 0, current: 0, state: 'ON' } : { power: 30 + (n % 3), state: 'ON' }),
    );
    const recorder = await recordMeter(hastened(discoverPlugs(host({ make: 'zigbee2mqtt', name: 'desk' }, plug.url)).meters, 30)[0]);
    await recorder.stop();
    const { values } = recorder.trace();
    expect(values.length).toBeGreaterThan(15);
    expect(Math.min(...values)).toBe(30);
  }, 20_000);

  it('a plug that falls silent is SENSOR_STALE to the account of a deployment, and one whose counter falls is COUNTER_RESET', async () => {
    broker = await startPlugBroker();
    let ms = 0;
    const counter = openJouleCounter(host({ make: 'shelly', name: 'desk' }, broker.url), {
      monotonicMs: () => ms,
      wallMs: () => ms,
      sleep: () => Promise.resolve(),
    });
    if (!('sensor' in counter)) throw new Error(counter.message);
    await broker.subscribed('desk/+/+');
    const show = (total: number) => broker?.publish('desk/status/switch:0', { id: 0, output: true, apower: 5, aenergy: { total } });
    expect(counter.readJoules()).toMatchObject({ ok: false, reason: 'SENSOR_STALE' });
    show(100);
    await expect.poll(() => counter.readJoules()).toEqual({ ok: true, value: 0 });
    ms = 4000;
    show(100.01);
    await expect.poll(() => counter.readJoules()).toEqual({ ok: true, value: expect.closeTo(36, 6) as number });
    ms = 8000;
    show(2);
    await expect.poll(() => counter.readJoules()).toMatchObject({ ok: false, reason: 'COUNTER_RESET' });
    ms = 14_000;
    const silent = counter.readJoules();
    expect(silent).toMatchObject({ ok: false, reason: 'SENSOR_STALE' });
    expect(silent.ok ? '' : silent.message).toContain('shelly desk energy');
  }, 20_000);

  it('gives no reading, and no error, where nobody listens at the address', async () => {
    broker = await startPlugBroker();
    const { url } = broker;
    await broker.close();
    broker = null;
    const recorder = await recordMeter(hastened(discoverPlugs(host({ make: 'tasmota', name: 'desk' }, url)).meters, 40)[0]);
    await recorder.stop();
    expect(recorder.refreshMs).toBeNull();
    expect(recorder.trace().values).toHaveLength(0);
  }, 20_000);
});
