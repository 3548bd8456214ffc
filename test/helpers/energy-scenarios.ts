// Random energy measurements on simulated hardware (a fake, on a virtual clock): device, load, sensor and windows are drawn from a seed, the
// true joules are known, and a judge of its own says by the rules of the protocol whether a figure must be given.
import { lagMs } from '../../agent/energy.ts';
import { energyPerInference, type EnergyFigure, type EnergyReadings } from '../../agent/energy-figure.ts';
import { leastLoadMs } from '../../agent/energy-run.ts';
import type { MeterTrace } from '../../agent/ports.ts';
import {
  ina3221,
  normal,
  nvml,
  observedRefresh,
  plug,
  pmic,
  rapl,
  record,
  seeded,
  simulateDevice,
  STEADY,
  stepCounter,
  sticking,
  type Course,
  type Device,
  type Random,
  type SensorModel,
} from './simulated-sensors.ts';

export const KINDS = ['rapl', 'ina3221', 'pmic', 'plug', 'step counter', 'nvml', 'sticking gauge'] as const;
export type Kind = (typeof KINDS)[number];

export interface Scenario {
  readonly kind: Kind;
  readonly readings: EnergyReadings | null;
  readonly device: Device;
  readonly sensor: SensorModel;
  /** What the sensor's readings were multiplied with. */
  readonly gain: number;
  /** Joules per inference. */
  readonly truth: { readonly gross: number; readonly net: number };
  /** By §3.8's rules alone; null: a figure must be given. */
  readonly mustRefuse: 'SENSOR_TOO_SLOW' | 'SENSOR_STALE' | null;
}

const between = (random: Random, lo: number, hi: number) => lo + (hi - lo) * random();
const oneOf = <T>(random: Random, values: readonly T[]): T => values[Math.floor(random() * values.length)] as T;

/** Base of an idle device: noise, a drift or now and then a daemon at work. */
function drawIdle(random: Random, watts: number): Course {
  return {
    ...STEADY,
    watts,
    noise: between(random, 0.002, 0.03),
    noiseMs: oneOf(random, [2, 20, 100]),
    drift: random() < 0.4 ? between(random, -0.02, 0.02) : 0,
    ...(random() < 0.3 ? { burst: between(random, 0.05, 0.3), burstMs: 40, burstEveryMs: 400 } : {}),
  };
}

/** One inference after the other: a ripple of its length, noise, warming up, bursts. */
function drawLoad(random: Random, watts: number, runMs: number): Course {
  return {
    ...STEADY,
    watts,
    noise: between(random, 0.002, 0.03),
    noiseMs: oneOf(random, [2, 20, 100]),
    drift: random() < 0.4 ? between(random, -0.03, 0.05) : 0,
    ripple: random() < 0.5 ? between(random, 0, 0.06) : 0,
    rippleMs: runMs,
    ...(random() < 0.2 ? { burst: between(random, 0.03, 0.1), burstMs: 30, burstEveryMs: 200 } : {}),
  };
}

function drawSensor(kind: Kind, random: Random, gain: number, gainU: number): SensorModel {
  const made = { random, gain, gainU };
  switch (kind) {
    case 'rapl': {
      const wrap = oneOf(random, [262_143.32885, 65_532.610987]);
      // Half of them wrap within the first 20 s.
      return rapl(made, random() < 0.5 ? wrap - 200 * random() : wrap * random(), wrap);
    }
    case 'ina3221':
    case 'sticking gauge':
      return ina3221(made, oneOf(random, [0.008, 0.04]), oneOf(random, [50, 100]));
    case 'pmic':
      return pmic(made, oneOf(random, [25, 40, 100]));
    case 'plug':
      return plug(made, oneOf(random, [0.01, 0.1]));
    case 'step counter':
      return stepCounter(made, oneOf(random, [0.05, 0.5, 2, 36]));
    case 'nvml':
      return nvml(made);
  }
}

/** Longest refresh that a simulated minute of watching can tell. */
const WATCH_MS = 6000;

/** One measurement, from its seed. Windows are between half and three times what the protocol would take. */
export function drawScenario(seed: number, kind: Kind): Scenario {
  const random = seeded(seed);
  const gainU = oneOf(random, [0.01, 0.02, 0.05]);
  const gain = 1 + gainU * normal(random);
  const runMs = Math.round(between(random, 2, 60));
  const idleWatts = between(random, 2, 15);
  const device = simulateDevice(drawIdle(random, idleWatts), drawLoad(random, between(random, 3, 25), runMs), random);
  const honest = drawSensor(kind, random, gain, gainU);
  device.spend(WATCH_MS, false);
  const refreshMs = observedRefresh(honest, device, WATCH_MS);
  const nothing = {
    kind,
    readings: null,
    device,
    sensor: honest,
    gain,
    truth: { gross: NaN, net: NaN },
    mustRefuse: 'SENSOR_STALE',
  } as const;
  if (refreshMs === null) return nothing;

  const { info } = honest;
  const settleMs = Math.max(1000, lagMs(info, refreshMs) + refreshMs);
  const idleMs = Math.max(5000, 20 * refreshMs);
  const loadMs = leastLoadMs(refreshMs) * between(random, 0.3, 2);
  const idle = () => {
    device.spend(settleMs, false);
    const startMs = device.nowMs();
    device.spend(idleMs, false);
    return { startMs, endMs: device.nowMs() };
  };
  const before = idle();
  const startMs = device.nowMs();
  let inferences = 0;
  while (device.nowMs() < startMs + loadMs) {
    device.spend(runMs, true);
    inferences += 1;
  }
  const load = { startMs, endMs: device.nowMs() };
  const after = idle();
  device.spend(2 * refreshMs + 100, false);

  // A gauge sticks before the load begins, or in its midst, for good.
  const stuckFrom = oneOf(random, [
    before.startMs - 500,
    between(random, before.startMs, load.startMs),
    between(random, load.startMs, load.endMs),
  ]);
  const sensor = kind === 'sticking gauge' ? sticking(honest, stuckFrom, Infinity) : honest;
  const trace = record(sensor, device, random, Math.max(0, before.startMs - 2 * refreshMs - 100));
  const readings = { info, trace, refreshMs, before, load, after, inferences };
  const gross = (device.joulesAt(load.endMs) - device.joulesAt(load.startMs)) / inferences;
  const idleJoules = (device.idleJoulesAt(load.endMs) - device.idleJoulesAt(load.startMs)) / inferences;
  return { kind, readings, device, sensor, gain, truth: { gross, net: gross - idleJoules }, mustRefuse: judge(readings, trace) };
}

/**
 * The protocol's refusals, told another way than the agent tells them: fewer than 20 distinct readings, fewer than 100 steps of a counter, a
 * window shorter than 20 refreshes or than twice what the sensor takes to follow a change; a sensor that shows the same over load and idle.
 */
function judge({ info, refreshMs, before, load, after }: EnergyReadings, { atMs, values }: MeterTrace): Scenario['mustRefuse'] {
  let distinct = 0;
  let movedIdle = false;
  let movedSinceLoad = false;
  let counted = 0;
  values.forEach((value, i) => {
    const at = atMs[i] as number;
    const last = i === 0 ? value : (values[i - 1] as number);
    if (value === last) return;
    if (at >= load.startMs && at <= load.endMs) {
      distinct += 1;
      if (info.kind === 'counter') counted += value > last ? value - last : value - last + (info.wrapJoules ?? 0);
    }
    if (at >= before.startMs && at <= load.startMs) movedIdle = true;
    if (at >= load.endMs && at <= after.endMs) movedSinceLoad = true;
  });
  if (!movedSinceLoad || (!movedIdle && distinct === 0)) return 'SENSOR_STALE';
  const settleMs = info.settleMs ?? (info.boundary === 'wall' ? 3000 : 0);
  const followsMs = settleMs + (info.kind === 'power' ? 2 * refreshMs : 0);
  const isShort = load.endMs - load.startMs < Math.max(20 * refreshMs, 2 * followsMs);
  const isCoarse = info.kind === 'counter' && counted < 100 * info.lsb;
  return isShort || distinct < 20 || isCoarse ? 'SENSOR_TOO_SLOW' : null;
}

export interface Score {
  readonly kind: string;
  given: number;
  refused: number;
  /** Refused though the rules do not ask for it, or given though they do. */
  wronglyRefused: number;
  wronglyGiven: number;
  readonly covered: { gross: number; net: number; grossKnownGain: number; netKnownGain: number };
  /** |error| of the gross figure with the gain known, as shares. */
  readonly errors: number[];
  readonly netErrors: number[];
  /** Half-widths of the published intervals relative to the values, and without the gain. */
  readonly widths: { readonly gross: number[]; readonly net: number[]; readonly grossKnownGain: number[]; readonly netKnownGain: number[] };
}

export const emptyScore = (kind: string): Score => ({
  kind,
  given: 0,
  refused: 0,
  wronglyRefused: 0,
  wronglyGiven: 0,
  covered: { gross: 0, net: 0, grossKnownGain: 0, netKnownGain: 0 },
  errors: [],
  netErrors: [],
  widths: { gross: [], net: [], grossKnownGain: [], netKnownGain: [] },
});

/** Adds what the agent's arithmetic answers in that scenario. */
export function scoreInto(score: Score, scenario: Scenario, figure: EnergyFigure | null): void {
  const { truth, gain, mustRefuse, readings } = scenario;
  if (figure?.energy.gross.value == null || readings === null) {
    score.refused += 1;
    if (mustRefuse === null) score.wronglyRefused += 1;
    return;
  }
  score.given += 1;
  if (mustRefuse !== null) score.wronglyGiven += 1;
  const known = energyPerInference({ ...readings, info: { ...readings.info, gain: 0 } }).energy;
  for (const name of ['gross', 'net'] as const) {
    const { value, ci } = figure.energy[name];
    const exact = known[name];
    if (value === null || ci === null || exact.ci === null || exact.value === null) throw new Error('a value without interval');
    const half = (ci.hi - ci.lo) / 2;
    const halfKnown = (exact.ci.hi - exact.ci.lo) / 2;
    if (Math.abs(value - truth[name]) <= half) score.covered[name] += 1;
    const error = Math.abs(value / gain - truth[name]);
    if (error <= halfKnown / gain) score.covered[`${name}KnownGain`] += 1;
    score.widths[name].push(half / Math.abs(value));
    score.widths[`${name}KnownGain`].push(halfKnown / Math.abs(value));
    (name === 'gross' ? score.errors : score.netErrors).push(error / Math.abs(truth[name]));
  }
}

/** The agent's own answer; null where the sensor never changed while it was watched, so that it would not be recorded at all. */
export const answer = ({ readings }: Scenario): EnergyFigure | null => (readings === null ? null : energyPerInference(readings));
