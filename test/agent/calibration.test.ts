// A rail against a plug, on simulated hardware whose line is known, in virtual time.
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { disagreement, fitCalibration, type Calibration } from '../../agent/calibration.ts';
import { runCalibration, sharesOf } from '../../agent/calibration-run.ts';
import type { Outcome } from '../../shared/outcome.ts';
import { value } from '../helpers/outcome.ts';
import { simulateDevice, type SimulatedPlug } from '../helpers/simulated-plug.ts';

const never = new AbortController().signal;
const MINUTE = 60_000;

function calibrate(truth: SimulatedPlug, { levels = 3, holdMs = 5 * MINUTE } = {}): Promise<Outcome<Calibration>> {
  return runCalibration({ ...simulateDevice(truth), levels, holdMs, signal: never, onLevel: () => undefined });
}

describe('the loads of a calibration', () => {
  it('go from none to all cores, the largest steps first', () => {
    expect(sharesOf(3)).toEqual([0, 1, 0.5]);
    expect(sharesOf(5)).toEqual([0, 1, 0.25, 0.75, 0.5]);
  });

  it('are held in turn, and the processor and both sensors are let go at the end', async () => {
    const device = simulateDevice({ seed: 1, a: 3, b: 1.2 });
    const told: number[] = [];
    const began = device.clock.monotonicMs();
    const outcome = await runCalibration({ ...device, levels: 4, holdMs: 6 * MINUTE, signal: never, onLevel: (share) => told.push(share) });
    expect(outcome.ok).toBe(true);
    expect(told.map((share) => Number(share.toFixed(3)))).toEqual([0, 1, 0.333, 0.667]);
    expect(device.clock.monotonicMs() - began).toBeGreaterThanOrEqual(24 * MINUTE);
    expect([device.load.share(), device.stopped()]).toEqual([0, 2]);
  });

  it('end at once when it is stopped, and nothing is kept', async () => {
    const device = simulateDevice({ seed: 1, a: 3, b: 1.2 });
    const stop = new AbortController();
    const outcome = await runCalibration({
      ...device,
      levels: 3,
      holdMs: 5 * MINUTE,
      signal: stop.signal,
      onLevel: (share) => (share === 1 ? stop.abort() : undefined),
    });
    expect(outcome).toMatchObject({ ok: false, reason: 'CANCELED' });
    expect([device.load.share(), device.stopped()]).toEqual([0, 2]);
  });
});

describe('the line from a rail to the wall', () => {
  it('is found as it is, with what it leaves uncertain', async () => {
    const line = value(await calibrate({ seed: 7, a: 5.4, b: 1.17 }));
    expect(Math.abs(line.interceptWatts - 5.4)).toBeLessThan(4 * line.interceptU);
    expect(Math.abs(line.slope - 1.17)).toBeLessThan(4 * line.slopeU);
    expect(line.slopeU / line.slope).toBeLessThan(0.01);
    expect(line).toMatchObject({ rail: { sensor: 'rapl package-0', boundary: 'package' }, plug: 'tasmota desk power' });
    expect(line.levels.map(({ share }) => share)).toEqual([0, 1, 0.5]);
    expect(line.r2).toBeGreaterThan(0.999);
  });

  it('is the same from a counter that wraps meanwhile, and from watts', async () => {
    const truth = { seed: 11, a: 2.5, b: 1.3 };
    const [plain, wrapped, power] = await Promise.all([
      calibrate(truth),
      calibrate({ ...truth, wrapJoules: 4000 }),
      calibrate({ ...truth, rail: 'power' }),
    ]).then((all) => all.map(value));
    expect(wrapped?.slope).toBeCloseTo(plain?.slope ?? NaN, 9);
    expect(power?.slope).toBeCloseTo(plain?.slope ?? NaN, 3);
  });

  it('is aligned by the steps of the load, however late the plug tells of them', async () => {
    for (const delayMs of [0, 3000, 9000, 12_500]) {
      const line = value(await calibrate({ seed: 3, a: 4, b: 1.1, delayMs }));
      expect(line.slope).toBeCloseTo(1.1, 1);
      // the chip's own settling adds about a second
      expect(Math.abs(line.lagMs - delayMs - 1000)).toBeLessThanOrEqual(1000);
    }
  });

  it('lies within its uncertainties: over 120 devices the true slope and intercept are covered by k = 2 as often as that promises', async () => {
    let [slopes, intercepts] = [0, 0];
    const devices = 120;
    for (let seed = 1; seed <= devices; seed++) {
      const [a, b] = [2 + (seed % 9), 1.02 + 0.01 * (seed % 25)];
      const line = value(await calibrate({ seed, a, b, noiseWatts: 0.4, delayMs: 200 * (seed % 20) }));
      slopes += Number(Math.abs(line.slope - b) <= 2 * line.slopeU);
      intercepts += Number(Math.abs(line.interceptWatts - a) <= 2 * line.interceptU);
    }
    // 13 degrees of freedom: 93 % at k = 2; three standard deviations of a share of 120 are 7 %
    for (const covered of [slopes, intercepts]) expect(covered / devices).toBeGreaterThan(0.86);
  }, 60_000);

  it('has a larger uncertainty where the truth is no line', async () => {
    const straight = value(await calibrate({ seed: 5, a: 4, b: 1.1 }));
    const bent = value(await calibrate({ seed: 5, a: 4, b: 1.1, plugShows: (watts) => watts + 0.004 * (watts - 18) ** 2 }));
    expect(bent.slopeU).toBeGreaterThan(5 * straight.slopeU);
  });
});

describe('a calibration is refused', () => {
  it.each<[string, Partial<SimulatedPlug>, string, RegExp]>([
    ['where the plug is stuck', { plugShows: () => 17 }, 'SENSOR_STALE', /tasmota desk power showed 17 all the time/],
    ['where the plug never spoke', { silentFromMs: 0 }, 'SENSOR_STALE', /gave no reading/],
    ['where the plug falls silent half-way', { silentFromMs: 400_000 }, 'SENSOR_STALE', /silent for more than 10 s/],
    [
      'where the plug speaks once a minute, with the time that would do',
      { plugEveryMs: 60_000 },
      'SENSOR_TOO_SLOW',
      /Hold each load for \d+ min/,
    ],
    ['where the rail was reset', { railResetMs: 300_000 }, 'COUNTER_RESET', /fell/],
    ['where the plug sees something else', { plugShows: (_, at) => 60 + 40 * Math.sin(at / 97_000) }, 'METERS_DISAGREE', /does not follow/],
    ['where the plug falls as the load rises', { plugShows: (watts) => 100 - watts }, 'METERS_DISAGREE', /does not follow/],
  ])('%s', async (_, fault, reason, said) => {
    const outcome = await calibrate({ seed: 2, a: 4, b: 1.1, ...fault });
    expect(outcome).toMatchObject({ ok: false, reason });
    expect(outcome.ok ? '' : outcome.message).toMatch(said);
  });

  it('with fewer than three loads', () => {
    const { rail, wall } = simulateDevice({ seed: 1, a: 1, b: 1 });
    const recording = { info: rail.info, trace: rail.trace() };
    const outcome = fitCalibration({ rail: recording, wall: { info: wall.info, trace: wall.trace() }, levels: [], madeAt: '' });
    expect(outcome).toMatchObject({ ok: false, reason: 'INVALID_INPUT' });
  });
});

describe('a later pair of readings', () => {
  it('is believed where both still see the same, and not where one has changed', async () => {
    const truth = { seed: 21, a: 5, b: 1.15 };
    const line = value(await calibrate(truth));
    const windows = 400;
    let alarms = 0;
    let missed = 0;
    // new windows of a minute on the same device: the plug's 60 readings of 0.15 W each
    let state = 12345;
    const noise = () => {
      // sum of uniforms: near enough to a normal distribution
      let sum = -6;
      for (let i = 0; i < 12; i++) sum += (state = (state * 1103515245 + 12345) % 2 ** 31) / 2 ** 31;
      return sum;
    };
    for (let i = 0; i < windows; i++) {
      const watts = 5 + (18 * i) / windows;
      const [railU, wallU] = [0.05, 0.15 / Math.sqrt(60)];
      const rail = { watts: watts + railU * noise(), u: railU };
      const wall = { watts: truth.a + truth.b * watts + wallU * noise(), u: wallU };
      alarms += Number(disagreement(line, rail, wall) !== null);
      missed += Number(disagreement(line, rail, { ...wall, watts: wall.watts + 2 }) === null);
    }
    expect(alarms / windows).toBeLessThan(0.08);
    expect(missed).toBe(0);
  });

  it('that disagrees is told with both figures and the limit', () => {
    const line: Calibration = {
      rail: { sensor: 'rapl package-0', boundary: 'package' },
      plug: 'shelly desk power',
      madeAt: '2026-01-02T03:04:05.000Z',
      interceptWatts: 5,
      slope: 1.2,
      interceptU: 0,
      slopeU: 0,
      covariance: 0,
      residualWatts: 0.3,
      r2: 1,
      lagMs: 1000,
      blocks: 5,
      levels: [0, 1, 0.5].map((share) => ({ share, railWatts: 4 + 20 * share, wallWatts: 9.8 + 24 * share })),
    };
    // combined u = √(0.3² + (1.2·0.25)² + 0.4²) = 0.5831, twice that 1.166
    expect(disagreement(line, { watts: 10, u: 0.25 }, { watts: 18.1, u: 0.4 })).toBeNull();
    const found = disagreement(line, { watts: 10, u: 0.25 }, { watts: 18.2, u: 0.4 });
    expect(found).toMatchObject({
      expectedWatts: 17,
      differenceWatts: expect.closeTo(1.2, 9) as number,
      limitWatts: expect.closeTo(1.1662, 4) as number,
    });
    for (const part of ['shelly desk power shows 18.20 W', '17.00 W expected', '±1.2 W', 'ofa-agent calibrate'])
      expect(found?.message).toContain(part);
  });

  it('is judged by the uncertainty of the line at that power: least in the middle of what it was fitted to', async () => {
    const line = value(await calibrate({ seed: 4, a: 5, b: 1.15, noiseWatts: 0.5 }));
    const middle = line.levels.reduce((sum, { railWatts }) => sum + railWatts, 0) / line.levels.length;
    const limitAt = (watts: number) => disagreement(line, { watts, u: 0 }, { watts: 1e6, u: 0 })?.limitWatts ?? NaN;
    fc.assert(
      fc.property(fc.double({ min: 1, max: 200, noNaN: true }), (away) => {
        expect(limitAt(middle + away)).toBeGreaterThan(limitAt(middle));
      }),
    );
  });
});
