// The gates before a run, in time that this file moves, on states that stand for devices.
import { describe, expect, it } from 'vitest';
import { createGates, type DeviceState, type Gates } from '../../agent/gates.ts';
import type { Clock } from '../../shared/clock.ts';

interface Device {
  readonly gates: Gates;
  /** Lets time pass; others and this agent take so many ms of CPU time of its four cores. */
  pass(ms: number, cpu?: { readonly others?: number; readonly own?: number }): void;
  set(change: Partial<DeviceState>): void;
  check(): ReturnType<Gates['check']>;
}

function device(first: Partial<DeviceState>, { waitsForOthers = true, othersShare = 0, ownShare = 0 } = {}): Device {
  let now = 0;
  let cpu = { totalMs: 0, busyMs: 0, ownMs: 0 };
  let state: DeviceState = { temperatureC: null, slowed: null, battery: null, cpu: null, ...first };
  const pass: Device['pass'] = (ms, { others = othersShare * 4 * ms, own = ownShare * 4 * ms } = {}) => {
    now += ms;
    cpu = { totalMs: cpu.totalMs + 4 * ms, busyMs: cpu.busyMs + others + own, ownMs: cpu.ownMs + own };
  };
  const sleep = (ms: number): Promise<void> => {
    pass(ms);
    return Promise.resolve();
  };
  const clock: Clock = { monotonicMs: () => now, wallMs: () => now, sleep };
  const gates = createGates({
    clock,
    maxTemperatureC: 85,
    waitsForOthers,
    read: () => ({ ...state, cpu }),
    readTemperatureC: () => state.temperatureC,
  });
  return { gates, pass, set: (change) => (state = { ...state, ...change }), check: () => gates.check(new AbortController().signal) };
}

/** A device that has idled for 15 s at that temperature. */
function idling(temperatureC: number): Device {
  const made = device({ temperatureC });
  made.gates.temperatureC();
  made.pass(15_000);
  return made;
}

describe('the temperature gate', () => {
  it('lets a device work that has been steady for 10 s', async () => {
    expect(await idling(60).check()).toBeNull();
  });

  it('is shut above the limit, with when to come again', async () => {
    const hot = await idling(85.4).check();
    expect(hot).toMatchObject({ ok: false, reason: 'TOO_HOT', retryAfterMs: 15_000 });
    expect(hot?.message).toContain('85 °C, the limit is 85 °C');
    expect(await idling(85).check()).toBeNull();
  });

  it('is shut where nothing is known of the last 10 s, for as long as that takes', async () => {
    const fresh = device({ temperatureC: 40 });
    expect(await fresh.check()).toMatchObject({ reason: 'TOO_HOT', retryAfterMs: 10_000 });
    fresh.pass(4000);
    expect(await fresh.check()).toMatchObject({ reason: 'TOO_HOT', retryAfterMs: 6000 });
    fresh.pass(6000);
    expect(await fresh.check()).toBeNull();
  });

  it.each([
    ['warms by 1 °C', 61, null],
    ['warms by more', 61.2, 'warming up'],
    ['cools by 1 °C', 59, null],
    ['cools by more', 58.8, 'cooling down'],
  ])('of a device that %s in 10 s', async (_, now, text) => {
    const made = device({ temperatureC: 60 });
    made.gates.temperatureC();
    made.pass(10_000);
    made.set({ temperatureC: now });
    const obstacle = await made.check();
    if (text === null) expect(obstacle).toBeNull();
    else {
      expect(obstacle).toMatchObject({ reason: 'TOO_HOT', retryAfterMs: 10_000 });
      expect(obstacle?.message).toContain(text);
    }
  });

  it('takes a slow change over a longer time for what it is: 2 °C in 30 s are steady', async () => {
    const made = device({ temperatureC: 60 });
    made.gates.temperatureC();
    made.pass(30_000);
    made.set({ temperatureC: 62 });
    expect(await made.check()).toBeNull();
  });

  it('forgets readings of two minutes ago', async () => {
    const made = idling(60);
    made.pass(130_000);
    expect(await made.check()).toMatchObject({ reason: 'TOO_HOT', retryAfterMs: 10_000 });
  });

  it('opens after three minutes to a device that is never steady, and stays open until it has been', async () => {
    const made = idling(60);
    let shut = 0;
    for (let i = 0; i < 40; i++) {
      made.set({ temperatureC: 60 + 5 * (i % 2) });
      if ((await made.check()) !== null) shut += 10;
      made.pass(10_000);
    }
    expect(shut).toBeGreaterThanOrEqual(170);
    expect(shut).toBeLessThanOrEqual(190);
  });

  it('does not count an hour in which nobody looked as an hour of patience', async () => {
    const made = idling(60);
    made.set({ temperatureC: 70 });
    expect(await made.check()).toMatchObject({ reason: 'TOO_HOT' });
    made.pass(3_600_000);
    made.gates.temperatureC();
    made.pass(10_000);
    made.set({ temperatureC: 60 });
    expect(await made.check()).toMatchObject({ reason: 'TOO_HOT' });
  });

  it('is open where no temperature can be read', async () => {
    expect(await device({}).check()).toBeNull();
  });
});

describe('the gate of what slows the device', () => {
  it('is shut while it lasts, with its own reason', async () => {
    const made = idling(60);
    made.set({ slowed: { reason: 'UNDER_VOLTAGE', message: 'the supply voltage is below the limit' } });
    expect(await made.check()).toMatchObject({ reason: 'UNDER_VOLTAGE', retryAfterMs: 15_000 });
    expect(made.gates.checkAgain()).toMatchObject({ reason: 'UNDER_VOLTAGE' });
    made.set({ slowed: null });
    expect(await made.check()).toBeNull();
    expect(made.gates.checkAgain()).toBeNull();
  });
});

describe('the battery gate', () => {
  it.each([
    ['Discharging', 29, 'LOW_BATTERY'],
    ['Discharging', 30, null],
    ['Charging', 12, 'LOW_BATTERY'],
    ['Not charging', 12, null],
    ['Full', 12, null],
    ['Discharging', null, null],
  ])('of a battery that is %s at %s %%', async (status, percent, reason) => {
    const obstacle = await device({ battery: { status, percent } }).check();
    expect(obstacle?.reason ?? null).toBe(reason);
    if (obstacle !== null) {
      expect(obstacle.retryAfterMs).toBe(300_000);
      expect(obstacle.message).toContain(`${percent} % (${status}), the least is 30 %`);
    }
  });
});

describe('the gate of foreign load', () => {
  it('looks for half a second, takes this agent for no other, and is shut above 20 % of all cores', async () => {
    expect(await device({}, { othersShare: 0.19 }).check()).toBeNull();
    expect(await device({}, { othersShare: 0.1, ownShare: 0.5 }).check()).toBeNull();
    const busy = await device({}, { othersShare: 0.25 }).check();
    expect(busy).toMatchObject({ reason: 'BUSY', retryAfterMs: 5000 });
    expect(busy?.message).toContain('25 % of the CPU time of all cores (limit 20 %)');
  });

  it('need not look where a measurement has just seen that nobody disturbs, and looks where it saw somebody', async () => {
    const made = device({}, { othersShare: 0.5 });
    made.gates.sawForeignLoad(0.01);
    expect(await made.check()).toBeNull();
    made.gates.sawForeignLoad(0.3);
    expect(await made.check()).toMatchObject({ reason: 'BUSY' });
    const alone = device({});
    alone.gates.sawForeignLoad(0.3);
    expect(await alone.check()).toBeNull();
  });

  it('opens after a minute to a device that is never alone', async () => {
    const made = device({}, { othersShare: 0.5 });
    let shut = 0;
    while ((await made.check()) !== null && shut < 100) {
      shut += 1;
      made.pass(5000);
    }
    expect(shut).toBeGreaterThanOrEqual(10);
    expect(shut).toBeLessThanOrEqual(12);
  });

  it('is open on a device that is shared by design', async () => {
    expect(await device({}, { waitsForOthers: false, othersShare: 0.9 }).check()).toBeNull();
  });
});
