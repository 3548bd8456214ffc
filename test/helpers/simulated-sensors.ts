// Fakes of hardware on a virtual clock: a device whose true energy is known at every moment, and the sensors that watch such devices, with the
// faults that real ones have (wrap, averaging, staleness, steps, settling, sticking, late readers). Pure: seeded, no clock, no files.
import type { MeterInfo, MeterTrace } from '../../agent/ports.ts';

export type Random = () => number;

/** Uniform in [0, 1): mulberry32. */
export function seeded(seed: number): Random {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

/** Standard normal (Box and Muller). */
export const normal = (random: Random): number => Math.sqrt(-2 * Math.log(1 - random())) * Math.cos(2 * Math.PI * random());

/** How a power moves around its level. Shares are of the level. */
export interface Course {
  readonly watts: number;
  /** Change over ten seconds. */
  readonly drift: number;
  /** Standard deviation of noise that forgets itself within `noiseMs`. */
  readonly noise: number;
  readonly noiseMs: number;
  /** Extra power in bursts of `burstMs` that come every `burstEveryMs` on average. */
  readonly burst: number;
  readonly burstMs: number;
  readonly burstEveryMs: number;
  /** A square wave: what one inference after the other draws. */
  readonly ripple: number;
  readonly rippleMs: number;
}

export const STEADY: Omit<Course, 'watts'> = {
  drift: 0,
  noise: 0,
  noiseMs: 20,
  burst: 0,
  burstMs: 50,
  burstEveryMs: 1000,
  ripple: 0,
  rippleMs: 5,
};

/** Watts in the next millisecond, one after the other. */
function follow(course: Course, random: Random): (ms: number) => number {
  const keep = Math.exp(-1 / course.noiseMs);
  const kick = Math.sqrt(1 - keep * keep);
  let noise = course.noise === 0 ? 0 : normal(random);
  let burstLeft = 0;
  return (ms) => {
    if (course.noise > 0) noise = keep * noise + kick * normal(random);
    if (course.burst > 0) {
      if (burstLeft > 0) burstLeft -= 1;
      else if (random() < 1 / course.burstEveryMs) burstLeft = course.burstMs * (0.5 + random());
    }
    const wave = course.ripple === 0 ? 0 : Math.floor((2 * ms) / course.rippleMs) % 2 === 0 ? course.ripple : -course.ripple;
    const share = 1 + (course.drift * ms) / 10_000 + course.noise * noise + (burstLeft > 0 ? course.burst : 0) + wave;
    return course.watts * Math.max(0, share);
  };
}

/** A device in virtual time, by the millisecond. */
export interface Device {
  nowMs(): number;
  /** Spends whole milliseconds, at idle power or with the load on top of it. */
  spend(ms: number, loaded: boolean): void;
  /** Joules drawn until then. */
  joulesAt(ms: number): number;
  /** Joules that idling alone would have drawn until then. */
  idleJoulesAt(ms: number): number;
}

export function simulateDevice(idle: Course, load: Course, random: Random): Device {
  const idleWatts = follow(idle, random);
  const loadWatts = follow(load, random);
  let all = new Float64Array(1 << 15);
  let idling = new Float64Array(1 << 15);
  let now = 0;
  const at = (sums: Float64Array, ms: number) => {
    const floor = Math.max(0, Math.min(Math.floor(ms), now));
    const before = sums[floor] as number;
    const next = floor < now ? (sums[floor + 1] as number) : before;
    return before + (next - before) * (ms - floor);
  };
  return {
    nowMs: () => now,
    spend(ms, loaded) {
      for (let i = 0; i < Math.ceil(ms); i++) {
        if (now + 1 >= all.length) {
          const larger = (sums: Float64Array) => {
            const grown = new Float64Array(2 * sums.length);
            grown.set(sums);
            return grown;
          };
          all = larger(all);
          idling = larger(idling);
        }
        const base = idleWatts(now) / 1000;
        const extra = loaded ? loadWatts(now) / 1000 : 0;
        idling[now + 1] = (idling[now] as number) + base;
        all[now + 1] = (all[now] as number) + base + extra;
        now += 1;
      }
    },
    joulesAt: (ms) => at(all, ms),
    idleJoulesAt: (ms) => at(idling, ms),
  };
}

/** A kind of sensor as its data sheet has it. `show` tells the reading at a moment, given the device's true joules. */
export interface SensorModel {
  readonly name: string;
  readonly info: MeterInfo;
  /** The recorder's own: it reads twice a refresh, at most every 5 ms. */
  readonly pollMs: number;
  readonly typicalRefreshMs: number;
  show(device: Device, atMs: number): number;
}

const quantised = (value: number, lsb: number) => Math.round(value / lsb) * lsb;

interface Made {
  readonly random: Random;
  readonly gain: number;
  /** Relative standard uncertainty that the data sheet states of the gain. */
  readonly gainU: number;
}

/** RAPL: a counter that steps each millisecond, in 2^-14 J, and wraps. */
export function rapl({ random, gain, gainU }: Made, startJoules: number, wrapJoules: number): SensorModel {
  const everyMs = 0.976 + 0.05 * random();
  const phase = random() * everyMs;
  const lsb = 2 ** -14;
  return {
    name: 'RAPL counter, 1 ms',
    info: { sensor: 'rapl package-0', boundary: 'package', kind: 'counter', lsb, wrapJoules, gain: gainU },
    pollMs: 5,
    typicalRefreshMs: 1,
    show: (device, atMs) => {
      const takenMs = atMs - ((atMs + phase) % everyMs);
      return (Math.floor((startJoules + gain * device.joulesAt(takenMs)) / lsb) * lsb) % wrapJoules;
    },
  };
}

/** INA3221: the mean of the last conversion time, held until the next; in steps of volts times milliamperes. */
export function ina3221({ random, gain, gainU }: Made, lsb: number, everyMs = 100): SensorModel {
  const phase = random() * everyMs;
  return {
    name: 'INA3221, mean of 100 ms',
    info: { sensor: 'ina3221 VDD_IN', boundary: 'module', kind: 'power', lsb, wrapJoules: null, gain: gainU },
    pollMs: everyMs / 2,
    typicalRefreshMs: everyMs,
    show: (device, atMs) => {
      const takenMs = atMs - ((atMs + phase) % everyMs);
      const watts = (device.joulesAt(takenMs) - device.joulesAt(Math.max(0, takenMs - everyMs))) / (everyMs / 1000);
      return quantised(gain * watts, lsb);
    },
  };
}

/** A board's power chip asked by a program: one moment's power at each read, with the converter's noise. */
export function pmic({ random, gain, gainU }: Made, everyMs: number): SensorModel {
  const lsb = 0.005;
  return {
    name: 'PMIC, 10 to 40 Hz',
    info: { sensor: 'pmic', boundary: 'board', kind: 'power', lsb, wrapJoules: null, gain: gainU },
    pollMs: everyMs,
    typicalRefreshMs: everyMs,
    show: (device, atMs) => {
      // The answer takes a few milliseconds to arrive, and a conversion lasts one.
      const takenMs = Math.max(1, atMs - 4);
      const watts = (device.joulesAt(takenMs) - device.joulesAt(takenMs - 1)) * 1000;
      return quantised(gain * watts * (1 + 0.002 * normal(random)), lsb);
    },
  };
}

/** A smart plug: once a second the mean of the last 2.5 s. */
export function plug({ random, gain, gainU }: Made, lsb: number): SensorModel {
  const everyMs = 1000;
  const overMs = 2500;
  const phase = random() * everyMs;
  return {
    name: 'smart plug, 1 s, settles in 2.5 s',
    info: { sensor: 'plug', boundary: 'wall', kind: 'power', lsb, wrapJoules: null, gain: gainU },
    pollMs: everyMs,
    typicalRefreshMs: everyMs,
    show: (device, atMs) => {
      const takenMs = atMs - ((atMs + phase) % everyMs);
      const watts = (device.joulesAt(takenMs) - device.joulesAt(Math.max(0, takenMs - overMs))) / (overMs / 1000);
      return quantised(gain * watts, lsb);
    },
  };
}

/** An energy counter that shows only whole steps: 2 J and 765 J of Shelly's, 36 kJ of a plug that counts hundredths of a kWh. */
export function stepCounter({ gain, gainU }: Made, lsb: number): SensorModel {
  return {
    name: 'kWh counter in steps',
    info: { sensor: 'plug counter', boundary: 'wall', kind: 'counter', lsb, wrapJoules: null, gain: gainU, settleMs: 0 },
    pollMs: 20,
    typicalRefreshMs: 1000,
    show: (device, atMs) => Math.floor((gain * device.joulesAt(atMs)) / lsb) * lsb,
  };
}

/** A graphics card's power: each 100 ms the mean of the last second. */
export function nvml({ random, gain, gainU }: Made): SensorModel {
  const everyMs = 100;
  const overMs = 1000;
  const lsb = 0.01;
  const phase = random() * everyMs;
  return {
    name: 'NVML power, mean of 1 s',
    info: { sensor: 'nvml', boundary: 'gpu-board', kind: 'power', lsb, wrapJoules: null, gain: gainU, settleMs: overMs },
    pollMs: everyMs / 2,
    typicalRefreshMs: everyMs,
    show: (device, atMs) => {
      const takenMs = atMs - ((atMs + phase) % everyMs);
      const watts = (device.joulesAt(takenMs) - device.joulesAt(Math.max(0, takenMs - overMs))) / (overMs / 1000);
      return quantised(gain * watts, lsb);
    },
  };
}

/** The same sensor, which shows from `fromMs` on until `toMs` what it showed then. */
export function sticking(sensor: SensorModel, fromMs: number, toMs: number): SensorModel {
  return { ...sensor, show: (device, atMs) => sensor.show(device, atMs >= fromMs && atMs < toMs ? fromMs : atMs) };
}

/** What a recorder keeps that reads every `pollMs`, a little late each time and now and then much too late. */
export function record(sensor: SensorModel, device: Device, random: Random, fromMs = 0, toMs = device.nowMs()): MeterTrace {
  const atMs: number[] = [];
  const values: number[] = [];
  let due = fromMs;
  let last = -Infinity;
  for (;;) {
    const late = random() < 0.01 ? 4 * sensor.pollMs * random() : 0.05 * sensor.pollMs * random();
    const at = Math.max(due, last) + late;
    if (at > toMs) break;
    last = at;
    atMs.push(at);
    values.push(sensor.show(device, at));
    due = Math.max(due + sensor.pollMs, at);
  }
  return { atMs: Float64Array.from(atMs), values: Float64Array.from(values) };
}

/** Median time between changes of the reading in the first `forMs` of the device's life, looked at each millisecond; null: it never changed. */
export function observedRefresh(sensor: SensorModel, device: Device, forMs: number): number | null {
  const changedAt: number[] = [];
  // A reading that is asked for is new at each answer: it is watched at the rate at which it answers.
  const every = sensor.info.sensor === 'pmic' ? sensor.pollMs : 1;
  let last = sensor.show(device, 0);
  for (let at = every; at <= forMs; at += every) {
    const value = sensor.show(device, at);
    if (value !== last) changedAt.push(at);
    last = value;
  }
  if (changedAt.length < 2) return null;
  const gaps = changedAt.slice(1).map((at, i) => at - (changedAt[i] as number));
  return gaps.sort((a, b) => a - b)[Math.floor(gaps.length / 2)] as number;
}
