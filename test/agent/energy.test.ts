// Energy arithmetic on simulated sensors in virtual time: the truth is known, so the figures and their intervals can be held against it.
import { describe, expect, it } from 'vitest';
import { unwrapCounter, windowEnergy } from '../../agent/energy.ts';
import { energyPerInference, type EnergyReadings } from '../../agent/energy-figure.ts';
import { measureEnergy } from '../../agent/energy-run.ts';
import type { Clock, MeterInfo, MeterTrace, Session } from '../../agent/ports.ts';

const MICROJOULES = 1e-6;
const RANGE_JOULES = 65_532.610987;

const counter: MeterInfo = {
  sensor: 'rapl package-0',
  boundary: 'package',
  kind: 'counter',
  lsb: 2 ** -14,
  wrapJoules: RANGE_JOULES,
  gain: 0,
};
const power: MeterInfo = { sensor: 'hwmon ina260 power1', boundary: 'rail', kind: 'power', lsb: 0.01, wrapJoules: null, gain: 0 };

function uniform(seed: number): () => number {
  let state = seed;
  return () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return state / 2 ** 32;
  };
}

const trace = (points: readonly (readonly [number, number])[]): MeterTrace => ({
  atMs: Float64Array.from(points, ([at]) => at),
  values: Float64Array.from(points, ([, value]) => value),
});

interface Simulated {
  readonly info: MeterInfo;
  readonly refreshMs: number;
  readonly pollMs: number;
  readonly idleWatts: (atMs: number) => number;
  readonly loadWatts: number;
  readonly loadMs?: number;
  /** Joules that the counter shows at time 0. */
  readonly startJoules?: number;
  /** Offset of the sensor's refresh, ms. */
  readonly phaseMs?: number;
  readonly noise?: () => number;
}

const IDLE_MS = 5000;

/** What a sensor shows that refreshes every `refreshMs` with phase `phaseMs`, polled every `pollMs`, over idle - load - idle. */
function simulate({
  info,
  refreshMs,
  pollMs,
  idleWatts,
  loadWatts,
  loadMs = 1000,
  startJoules = 0,
  phaseMs = 0,
  noise = () => 0,
}: Simulated): EnergyReadings {
  const startMs = 1000 + IDLE_MS;
  const load = { startMs, endMs: startMs + loadMs };
  const after = { startMs: load.endMs + 1000, endMs: load.endMs + 1000 + IDLE_MS };
  const watts = (at: number) => (at >= load.startMs && at < load.endMs ? loadWatts : idleWatts(at));
  const points: [number, number][] = [];
  const step = 0.25;
  let joules = startJoules;
  let shown = info.kind === 'counter' ? startJoules : watts(0);
  for (let i = 0; i * step <= after.endMs + 500; i++) {
    const at = i * step;
    joules += (watts(at) * step) / 1000;
    if (Math.floor((at + phaseMs) / refreshMs) !== Math.floor((at - step + phaseMs) / refreshMs)) {
      const raw = info.kind === 'counter' ? joules : watts(at) + noise();
      const quantised = Math.floor(raw / info.lsb) * info.lsb;
      shown = info.wrapJoules === null ? quantised : quantised % info.wrapJoules;
    }
    if (at % pollMs < step) points.push([at, shown]);
  }
  return { info, trace: trace(points), refreshMs, before: { startMs: 1000, endMs: 1000 + IDLE_MS }, load, after, inferences: 100 };
}

const rapl = { info: counter, refreshMs: 1, pollMs: 5, idleWatts: () => 10, loadWatts: 30 };

describe('a counter that wraps', () => {
  it('gives 602,737,421 µJ for the published readings', () => {
    const grown = unwrapCounter(
      trace([
        [0, 64930873566 * MICROJOULES],
        [10_000, 1000000 * MICROJOULES],
      ]),
      65532610987 * MICROJOULES,
    );
    const joules = grown.ok ? (grown.value[1] as number) - (grown.value[0] as number) : NaN;
    expect(Math.round(joules / MICROJOULES)).toBe(602_737_421);
  });

  it('loses nothing when it wraps inside the load window', () => {
    // 10 W for 6 s, then 30 W: half way through the window the counter passes its range.
    const wrapping = energyPerInference(simulate({ ...rapl, startJoules: RANGE_JOULES - 75 }));
    const plain = energyPerInference(simulate(rapl));
    expect(wrapping.energy.gross.value).toBeCloseTo(0.3, 3);
    expect(wrapping.energy.gross.value).toBeCloseTo(plain.energy.gross.value as number, 4);
  });

  it('may be the sum of two counters of one range, each of which wraps by itself', () => {
    const range = 100;
    const points = Array.from({ length: 40 }, (_, i) => [i * 100, ((30 + 4 * i) % range) + ((80 + 5 * i) % range)] as const);
    const grown = unwrapCounter(trace(points), range);
    expect(grown.ok ? (grown.value.at(-1) ?? NaN) - (grown.value[0] ?? NaN) : NaN).toBeCloseTo(39 * 9, 10);
  });

  it.each([null, 0.5])('is refused as COUNTER_RESET where the range (%s J) does not explain the fall', (wrapJoules) => {
    const falling = trace([
      [0, 100],
      [10, 101],
      [20, 3],
    ]);
    expect(unwrapCounter(falling, wrapJoules)).toMatchObject({ ok: false, reason: 'COUNTER_RESET' });
  });

  it('is refused as COUNTER_RESET where a wrap would mean more power than any device draws', () => {
    const reset = trace([
      [0, 100],
      [10, 3],
    ]);
    expect(unwrapCounter(reset, RANGE_JOULES)).toMatchObject({ ok: false, reason: 'COUNTER_RESET' });
  });
});

describe('joules per inference', () => {
  it('are gross and net of idle power, both within their intervals of the truth', () => {
    const { energy, findings } = energyPerInference(simulate(rapl));
    expect(findings).toEqual([]);
    expect(energy).toMatchObject({ sensor: 'rapl package-0', boundary: 'package', inferences: 100, windowMs: 1000 });
    expect(energy.idleWatts?.before).toBeCloseTo(10, 1);
    for (const [quantity, truth] of [
      [energy.gross, 0.3],
      [energy.net, 0.2],
    ] as const) {
      expect(quantity.ci?.lo).toBeLessThanOrEqual(truth);
      expect(quantity.ci?.hi).toBeGreaterThanOrEqual(truth);
      expect(Math.abs((quantity.value ?? NaN) / truth - 1)).toBeLessThan(0.02);
    }
  });

  it('widen with the gain of the sensor, applied once to each figure', () => {
    const { energy } = energyPerInference(simulate({ ...rapl, info: { ...counter, gain: 0.05 } }));
    const half = ((energy.net.ci?.hi ?? NaN) - (energy.net.ci?.lo ?? NaN)) / 2;
    expect(half).toBeGreaterThanOrEqual(2 * 0.05 * (energy.net.value as number));
    expect(half).toBeLessThan(2 * 0.06 * (energy.net.value as number));
  });

  it('of sampled power come from the trapezoid to the exact edges', () => {
    const ramp = trace(Array.from({ length: 101 }, (_, i) => [i * 100, i / 10] as const));
    // Power in W is t in s: from 0.55 s to 9.05 s that is (9.05² - 0.55²) / 2 J.
    const got = windowEnergy(ramp, power, { startMs: 550, endMs: 9050 }, 100);
    expect(got.ok ? got.value.joules : NaN).toBeCloseTo((9.05 ** 2 - 0.55 ** 2) / 2, 6);
  });

  it('count every change of a counter within the window, the last one too, and not the one behind it', () => {
    // 10 W, and 5 J more in the reading at 1 s, 7 J more in the one after.
    const points = Array.from({ length: 201 }, (_, i) => [i * 10, i / 10 + (i >= 100 ? 5 : 0) + (i >= 101 ? 7 : 0)] as const);
    const got = windowEnergy(trace(points), { ...counter, lsb: 1e-6 }, { startMs: 0, endMs: 1000 }, 10);
    expect(got.ok ? got.value.joules : NaN).toBeGreaterThan(14.9);
    expect(got.ok ? got.value.joules : NaN).toBeLessThan(16);
  });

  it('are no better known than the steps of the sensor: lsb/√6 of a counter, T·lsb/√12 of a power that errs the same way each time', () => {
    const window = { startMs: 0, endMs: 2000 };
    const counted = windowEnergy(trace(Array.from({ length: 301 }, (_, i) => [i * 10, 3 * i] as const)), { ...counter, lsb: 1 }, window, 1);
    expect(counted.ok ? counted.value.u : NaN).toBeGreaterThanOrEqual(1 / Math.sqrt(6));
    expect(counted.ok ? counted.value.u : NaN).toBeLessThan(1.1 / Math.sqrt(6));
    const still = trace(Array.from({ length: 301 }, (_, i) => [i * 10, 30] as const));
    const sampled = windowEnergy(still, { ...power, lsb: 0.5 }, window, 20);
    expect(sampled.ok ? sampled.value.u : NaN).toBeCloseTo((2 * 0.5) / Math.sqrt(12), 9);
    // A counter of one step at a time is exact when it changes.
    const single = windowEnergy(trace(Array.from({ length: 301 }, (_, i) => [i * 10, i] as const)), { ...counter, lsb: 1 }, window, 1);
    expect(single.ok ? single.value.u : NaN).toBeLessThan(0.2);
  });

  it('hold the truth in their interval in at least 90 % of simulated runs, over sensors, phases and noise', () => {
    const random = uniform(11);
    const sensors = [
      { info: counter, refreshMs: 1, pollMs: 5, loadMs: 1000 },
      { info: { ...counter, lsb: 0.001 }, refreshMs: 10, pollMs: 5, loadMs: 1000 },
      { info: power, refreshMs: 100, pollMs: 50, loadMs: 5000 },
      { info: power, refreshMs: 25, pollMs: 12.5, loadMs: 2000 },
    ];
    let held = 0;
    let trials = 0;
    for (const sensor of sensors) {
      for (let i = 0; i < 25; i++) {
        const phaseMs = random() * sensor.refreshMs;
        const noise = () => (random() - 0.5) * 2;
        const { energy } = energyPerInference(
          simulate({ ...sensor, phaseMs, noise, idleWatts: () => 10, loadWatts: 30, startJoules: random() * 1000 }),
        );
        const truth = (20 * sensor.loadMs) / 1000 / 100;
        expect(energy.net.value).not.toBeNull();
        trials++;
        if ((energy.net.ci?.lo ?? NaN) <= truth && truth <= (energy.net.ci?.hi ?? NaN)) held++;
      }
    }
    expect(held / trials).toBeGreaterThanOrEqual(0.9);
  });

  it('say IDLE_MOVED where the device idled differently before and after', () => {
    const { energy, findings } = energyPerInference(simulate({ ...rapl, idleWatts: (at) => (at < 6000 ? 10 : 12) }));
    expect(findings.map(({ reason }) => reason)).toEqual(['IDLE_MOVED']);
    expect(energy.net.message).toContain('from 10.00 to 12.00 W');
    // The doubt is in the interval: net is 30 - 11 W, give or take (2 W)² / 12 under the root, twice.
    expect((energy.net.ci?.hi ?? NaN) - (energy.net.value ?? NaN)).toBeGreaterThan((0.99 * 2 * 2) / Math.sqrt(12) / 100);
  });

  it('are published below zero, with BELOW_IDLE_NOISE, never clipped', () => {
    const { energy, findings } = energyPerInference(simulate({ ...rapl, loadWatts: 9.99 }));
    expect(energy.net.value).toBeLessThan(0);
    expect(findings.map(({ reason }) => reason)).toContain('BELOW_IDLE_NOISE');
  });

  it.each([
    [
      'one sample in the window (others answer 0 J)',
      simulate({ ...rapl, info: power, refreshMs: 1000, pollMs: 5, noise: uniform(1) }),
      'SENSOR_TOO_SLOW',
    ],
    [
      'three power samples in 0.29 s',
      simulate({ ...rapl, info: power, refreshMs: 100, pollMs: 50, loadMs: 290, noise: uniform(2) }),
      'SENSOR_TOO_SLOW',
    ],
    ['a counter in kWh steps', simulate({ ...rapl, info: { ...counter, lsb: 1 } }), 'SENSOR_TOO_SLOW'],
    ['a sensor that is stuck', simulate({ ...rapl, info: power, idleWatts: () => 30 }), 'SENSOR_STALE'],
  ])('are refused for %s', (_, readings, reason) => {
    const { energy } = energyPerInference(readings);
    expect(energy.net).toMatchObject({ value: null, ci: null, reason });
    expect(energy.gross.value).toBeNull();
    expect(energy.net.message).toMatch(/Measure again|would do|ofa-agent meters/);
  });

  it('do not depend on how bursts fall between slow polls of a counter', () => {
    // 10 ms of 100 W every 15 s beside 1 W: samples of power would see 1 or 100; the counter sees the joules.
    const points: [number, number][] = [];
    let joules = 0;
    for (let at = 0; at <= 62_000; at += 10) {
      joules += (at % 15_000 === 0 ? 100 : 1) / 100;
      points.push([at, joules]);
    }
    const got = windowEnergy(trace(points), counter, { startMs: 1000, endMs: 61_000 }, 10);
    expect(got.ok ? got.value.watts : NaN).toBeCloseTo(1 + (4 * 0.99) / 60, 2);
  });
});

describe('the energy protocol', () => {
  interface Played {
    readonly tookMs: number;
    readonly stopped: boolean;
    readonly net: Awaited<ReturnType<typeof measureEnergy>>['energy']['net'];
  }

  /** A device in virtual time: 10 W idle, 30 W while it runs; a sensor that sees each change at `refreshMs`. */
  async function play(refreshMs: number | null, relativeHalfWidth: number, noise = 0): Promise<Played> {
    const random = uniform(5);
    const points: [number, number][] = [];
    let now = 0;
    let stopped = false;
    const spend = (ms: number, watts: number) => {
      const step = refreshMs ?? 100;
      for (const ends = now + ms; now < ends;) {
        const next = Math.min(ends, (Math.floor(now / step + 1e-9) + 1) * step);
        if (next % step < 1e-6 || step - (next % step) < 1e-6) points.push([next, watts + noise * (random() - 0.5)]);
        now = next;
      }
    };
    const clock: Clock = {
      monotonicMs: () => now,
      wallMs: () => now,
      sleep: (ms) => {
        spend(ms, 10);
        return Promise.resolve();
      },
    };
    const session: Session = {
      inputShape: [1],
      outputShape: [1],
      setInput: () => undefined,
      run: () => {
        spend(2, 30);
        return Promise.resolve();
      },
      output: () => new Float32Array(1),
      release: () => Promise.resolve(),
    };
    const recorder = {
      info: power,
      refreshMs,
      trace: () => trace(points),
      stop: () => {
        stopped = true;
        return Promise.resolve();
      },
    };
    const { energy } = await measureEnergy(session, recorder, { relativeHalfWidth, clock });
    return { tookMs: now, stopped, net: energy.net };
  }

  it('takes about 13 s with a fast sensor, and stops the recorder', async () => {
    const { net, tookMs, stopped } = await play(20, 0.2, 2);
    expect(net.value).toBeCloseTo(20 * 0.002, 3);
    expect(tookMs).toBeLessThan(14_000);
    expect(stopped).toBe(true);
  });

  it('takes one longer round where the first is less precise than asked', async () => {
    const { net, tookMs } = await play(20, 0.001, 2);
    expect(tookMs).toBeGreaterThan(30_000);
    expect(net.value).toBeCloseTo(20 * 0.002, 3);
  });

  it('refuses a sensor at once that would need minutes, with the seconds, and one that never changed', async () => {
    const slow = await play(5000, 0.2);
    expect(slow.net).toMatchObject({ value: null, reason: 'SENSOR_TOO_SLOW' });
    expect(slow.net.message).toContain('need 355 s');
    expect(slow.tookMs).toBe(0);
    expect(slow.stopped).toBe(true);
    expect((await play(null, 0.2)).net).toMatchObject({ value: null, reason: 'SENSOR_STALE' });
  });
});
