// Joules that one sensor saw in one window, with what its readings leave uncertain: counters with wrap, samples of power, edges. Pure: no clock.
// A figure that the readings cannot carry is refused with a reason; nothing is ever 0 for lack of data.
import type { Energy, Quantity, Verdict } from '@ofa-fleet/shared/measurement.ts';
import { failed, ok, type Outcome, type Reason } from '@ofa-fleet/shared/outcome.ts';
import { mean, median, standardDeviation, studentT } from '@ofa-fleet/shared/statistics.ts';
import type { MeterInfo, MeterTrace } from './ports.ts';

/** Edges of a section, ms on the trace's time scale. */
export interface Window {
  readonly startMs: number;
  readonly endMs: number;
}

export interface WindowEnergy {
  readonly joules: number;
  readonly watts: number;
  readonly seconds: number;
  /** Readings that differ from the one before. */
  readonly distinct: number;
  /** Standard uncertainty of `joules` without the sensor's gain. */
  readonly u: number;
  /** The part of `u` that comes of coarse steps and of not knowing when a reading was taken. */
  readonly uReading: number;
  /** Watts in equal parts of the window, in order: how the power moved. One a refresh (power) or up to 40 (counter). */
  readonly powers: readonly number[];
  /** Share of the window that readings of this window alone stand for. */
  readonly seen: number;
}

export interface EnergyResult {
  readonly energy: Energy;
  /** About the joules only: they do not move the verdict on the latency. */
  readonly findings: Verdict['findings'];
  /** Of the net figure, k = 2, without the sensor's gain: what longer windows can lower. Infinity where there is none. */
  readonly relativeHalfWidth: number;
}

/** More than any device that we measure draws: a counter that would imply more was reset, not wrapped. */
const MAX_WATTS = 2000;
/** Sockets of the largest machine whose counters are added up. */
const MAX_COUNTERS = 8;
/** Parts of a window in which a counter's power is looked at. */
const PARTS = 40;
/** Share of the clean section from which the power at an edge is taken. */
const EDGE_SHARE = 0.1;
/** Ratio of a normal distribution's 95 % half-width to its standard deviation. */
const NORMAL_95 = 1.959964;
/** Smart plugs settle within 2 to 3 s; sensors on a board at once. */
const PLUG_SETTLE_MS = 3000;

/** No joules, and why. */
export function noEnergy(reason: Reason, message: string, info: MeterInfo | null = null): EnergyResult {
  const quantity: Quantity = { value: null, ci: null, unit: 'J', kind: 'measured', n: 0, nEff: 0, reason, message };
  return {
    energy: {
      gross: quantity,
      net: quantity,
      sensor: info?.sensor ?? null,
      boundary: info?.boundary ?? null,
      windowMs: null,
      inferences: null,
      idleWatts: null,
    },
    findings: [],
    relativeHalfWidth: Infinity,
  };
}

/** How long after a change of load a reading may still tell of the time before it: a mean over the last refresh is shown for one more. */
export function lagMs(info: MeterInfo, refreshMs: number): number {
  const settleMs = info.settleMs ?? (info.boundary === 'wall' ? PLUG_SETTLE_MS : 0);
  return info.kind === 'counter' ? settleMs : settleMs + 2 * refreshMs;
}

/**
 * Joules from one reading of a counter to a lower one that came `seconds` later; null where no wrap explains it (a reset). Where a sum of
 * counters of one range is read, several of them may have wrapped in between.
 */
export function stepOverWrap(before: number, value: number, seconds: number, wrapJoules: number | null): number | null {
  if (wrapJoules === null) return null;
  for (let wraps = 1; wraps <= MAX_COUNTERS; wraps++) {
    const step = value - before + wraps * wrapJoules;
    if (step >= 0) return step <= MAX_WATTS * seconds ? step : null;
  }
  return null;
}

/** Adds the range at each wrap, so that the counter only grows. A fall with unknown range, or one that no wrap explains, is COUNTER_RESET. */
export function unwrapCounter({ atMs, values }: MeterTrace, wrapJoules: number | null): Outcome<Float64Array> {
  const grown = Float64Array.from(values);
  for (let i = 1; i < values.length; i++) {
    const [before, value] = [values[i - 1] as number, values[i] as number];
    const seconds = ((atMs[i] as number) - (atMs[i - 1] as number)) / 1000;
    const step = value >= before ? value - before : stepOverWrap(before, value, seconds, wrapJoules);
    if (step === null) {
      const range = wrapJoules === null ? 'its range is unknown' : `its range is ${wrapJoules} J`;
      return failed(
        'COUNTER_RESET',
        `The energy counter fell from ${before} to ${value} J and ${range}: no wrap explains it. Measure again.`,
      );
    }
    grown[i] = (grown[i - 1] as number) + step;
  }
  return ok(grown);
}

/** Readings within the window that differ from the one before. */
export function countChanges({ atMs, values }: MeterTrace, { startMs, endMs }: Window): number {
  let changes = 0;
  for (let i = 1; i < values.length; i++) {
    const at = atMs[i] as number;
    if (values[i] !== values[i - 1] && at >= startMs && at <= endMs) changes += 1;
  }
  return changes;
}

/** A counter at one of its changes: since it was taken between two looks at the counter, its time is known to `widthMs`. */
interface Step {
  readonly atMs: number;
  readonly widthMs: number;
  readonly joules: number;
}

function stepsOf(atMs: Float64Array, grown: Float64Array, refreshMs: number): Step[] {
  const steps: Step[] = [];
  for (let i = 1; i < grown.length; i++) {
    if (grown[i] === grown[i - 1]) continue;
    const at = atMs[i] as number;
    const widthMs = Math.min(refreshMs, at - (atMs[i - 1] as number));
    steps.push({ atMs: at - widthMs / 2, widthMs, joules: grown[i] as number });
  }
  return steps;
}

const wattsBetween = (a: Step, b: Step) => (b.joules - a.joules) / ((b.atMs - a.atMs) / 1000);

/** Mean power in up to 40 equal parts of the section that the steps span. */
function powersOf(steps: readonly Step[]): number[] {
  const parts = Math.min(PARTS, Math.floor((steps.length - 1) / 3));
  if (parts < 1) return [];
  const first = steps[0] as Step;
  const spanMs = (steps.at(-1) as Step).atMs - first.atMs;
  const powers: number[] = [];
  let from = first;
  for (const step of steps) {
    if (step.atMs - first.atMs < ((powers.length + 1) * spanMs) / parts - 1e-6) continue;
    powers.push(wattsBetween(from, step));
    from = step;
  }
  return powers;
}

/** Where a counter changed too seldom in a window: the difference of the readings at its ends, each known to one step. */
function countedByReadings(trace: MeterTrace, grown: Float64Array, info: MeterInfo, { startMs, endMs }: Window): Outcome<WindowEnergy> {
  const inside = [...grown.keys()].filter((i) => (trace.atMs[i] as number) >= startMs && (trace.atMs[i] as number) <= endMs);
  const [first, last] = [inside[0], inside.at(-1)];
  const seconds = (endMs - startMs) / 1000;
  const between = first === undefined || last === undefined ? 0 : ((trace.atMs[last] as number) - (trace.atMs[first] as number)) / 1000;
  if (first === undefined || last === undefined || between === 0) return unseen(info, seconds);
  const watts = ((grown[last] as number) - (grown[first] as number)) / between;
  const u = ((info.lsb / Math.sqrt(6)) * seconds) / between;
  const distinct = countChanges({ atMs: trace.atMs, values: grown }, { startMs, endMs });
  return ok({ joules: watts * seconds, watts, seconds, distinct, u, uReading: u, powers: [], seen: between / seconds });
}

const unseen = (info: MeterInfo, seconds: number): Outcome<never> =>
  failed(
    'SENSOR_STALE',
    `${info.sensor} gave no readings in a window of ${seconds.toPrecision(3)} s: it stopped answering. Check it with \`ofa-agent meters\`.`,
  );

/**
 * Between the first and the last change of the counter that lie wholly inside of the window; what is missing at the ends is added at the power
 * beside it. So no joules of before or after come in, and each edge is known to the time of one change: u = r·P/√12 each.
 */
function counterEnergy(trace: MeterTrace, info: MeterInfo, window: Window, refreshMs: number, skipMs: number): Outcome<WindowEnergy> {
  const grown = unwrapCounter(trace, info.wrapJoules);
  if (!grown.ok) return grown;
  const { startMs, endMs } = window;
  const steps = stepsOf(trace.atMs, grown.value, refreshMs).filter(
    ({ atMs, widthMs }) => atMs - widthMs / 2 >= startMs + skipMs && atMs + widthMs / 2 <= endMs,
  );
  const [first, last] = [steps[0], steps.at(-1)];
  if (first === undefined || last === undefined || steps.length < 3) return countedByReadings(trace, grown.value, info, window);
  const spanMs = last.atMs - first.atMs;
  const early = steps.find((step, i) => i > 0 && step.atMs - first.atMs >= EDGE_SHARE * spanMs) as Step;
  const late = steps.findLast((step, i) => i < steps.length - 1 && last.atMs - step.atMs >= EDGE_SHARE * spanMs) as Step;
  const [headSeconds, tailSeconds] = [(first.atMs - startMs) / 1000, (endMs - last.atMs) / 1000];
  const joules = last.joules - first.joules + headSeconds * wattsBetween(first, early) + tailSeconds * wattsBetween(late, last);
  const seconds = (endMs - startMs) / 1000;
  const watts = joules / seconds;
  const edges = (watts * Math.hypot(first.widthMs, last.widthMs)) / 1000 / Math.sqrt(12);
  // A counter that moves by one step at a time changes when its step is full, so at its changes it is exact.
  const isExact = median(steps.slice(1).map((step, i) => step.joules - (steps[i] as Step).joules)) < 1.5 * info.lsb;
  const uReading = Math.hypot(edges, isExact ? 0 : info.lsb / Math.sqrt(6));
  const powers = powersOf(steps);
  // What swings from part to part may swing within the missing ends too.
  const part = spanMs / 1000 / Math.max(1, powers.length);
  const missing = (length: number) => standardDeviation(powers) * Math.sqrt(length * Math.max(length, part));
  const distinct = countChanges({ atMs: trace.atMs, values: grown.value }, window);
  const u = Math.hypot(uReading, missing(headSeconds), missing(tailSeconds));
  return ok({ joules, watts, seconds, distinct, u, uReading, powers, seen: spanMs / (endMs - startMs) });
}

/**
 * Variance of one sample as a stand-in for the mean until the next. Samples that jump from one to the next (white noise) are worth s² each;
 * where the power moves slowly against the sampling the trapezoid follows it, and a twelfth of the squared difference is left.
 */
function samplingVariance(powers: readonly number[]): number {
  const steps = powers.slice(1).map((value, i) => value - (powers[i] as number));
  if (steps.length < 2) return 0;
  const square = steps.reduce((sum, step) => sum + step * step, 0) / (2 * steps.length);
  const turns = steps.slice(1).reduce((sum, step, i) => sum - step * (steps[i] as number), 0) / (steps.length - 1);
  return Math.min(square, Math.max(square / 6, square / 6 + (5 * turns) / 6));
}

/** Half-width at 95 % of a mean of n values against a normal one, so that k = 2 holds for few values too. */
export function widening(freedom: number): number {
  return freedom > 200 ? 1 : studentT(0.95, Math.max(1, Math.floor(freedom))) / NORMAL_95;
}

/**
 * Trapezoid over the samples. At a change of load the first readings still hold what was before (`skipMs`): they are left out, and the ends
 * without samples are given the power beside them. Where no load changes at the edges, the trapezoid is interpolated to them.
 */
function powerEnergy(trace: MeterTrace, info: MeterInfo, window: Window, refreshMs: number, skipMs: number): Outcome<WindowEnergy> {
  const { startMs, endMs } = window;
  const seconds = (endMs - startMs) / 1000;
  const { atMs, values } = trace;
  let from = atMs.findIndex((at) => at >= startMs + skipMs);
  const isStep = skipMs > 0;
  if (isStep) {
    // A reading that has not moved since the load began may be one that stuck before it.
    const moved = values.findIndex((value, i) => i > 0 && (atMs[i] as number) > startMs && value !== values[i - 1]);
    if (moved > from) from = atMs.findIndex((at) => at >= (atMs[moved] as number) + refreshMs);
  }
  const to = atMs.findLastIndex((at) => at <= endMs);
  if (from === -1 || to < from) return unseen(info, seconds);

  const times = Array.from(atMs.subarray(from, to + 1));
  const watts = Array.from(values.subarray(from, to + 1));
  const [headSeconds, tailSeconds] = [((times[0] as number) - startMs) / 1000, (endMs - (times.at(-1) as number)) / 1000];
  let joules = 0;
  for (let i = 1; i < times.length; i++) {
    joules += (((watts[i - 1] as number) + (watts[i] as number)) / 2) * (((times[i] as number) - (times[i - 1] as number)) / 1000);
  }
  const powers = oneARefresh(times, watts, refreshMs);
  const few = Math.max(2, Math.ceil(EDGE_SHARE * powers.length));
  const inner = [watts[0] as number, watts.at(-1) as number] as const;
  const [head, tail] = isStep
    ? [mean(powers.slice(0, few)), mean(powers.slice(-few))]
    : [(edgeWatts(trace, from, startMs) + inner[0]) / 2, (edgeWatts(trace, to + 1, endMs) + inner[1]) / 2];
  joules += headSeconds * head + tailSeconds * tail;

  const n = Math.max(1, powers.length);
  const spread = standardDeviation(powers);
  const sampling = seconds * Math.sqrt(samplingVariance(powers) / n) * widening(n - 1);
  // Steps that the noise crosses average out; without noise each reading errs the same way.
  const uReading = (seconds * info.lsb) / Math.sqrt(12 * (spread > info.lsb / 2 ? n : 1));
  const missing = isStep ? Math.hypot(headSeconds, tailSeconds) * spread : 0;
  const u = Math.hypot(sampling, uReading, missing);
  const distinct = countChanges(trace, window);
  const seen = ((times.at(-1) as number) - (times[0] as number)) / (endMs - startMs);
  return ok({ joules, watts: joules / seconds, seconds, distinct, u, uReading, powers, seen });
}

/** Watts at `at`, which lies between reading `after` and the one before it; the nearest reading at the end of a trace. */
function edgeWatts({ atMs, values }: MeterTrace, after: number, at: number): number {
  const [w0, w1] = [values[after - 1], values[after]];
  if (w0 === undefined || w1 === undefined) return (w0 ?? w1) as number;
  const [t0, t1] = [atMs[after - 1] as number, atMs[after] as number];
  return w0 + ((w1 - w0) * (at - t0)) / (t1 - t0);
}

/** Readings come oftener than the sensor refreshes: repeats serve the integral, but are no samples of their own. */
function oneARefresh(times: readonly number[], watts: readonly number[], refreshMs: number): number[] {
  const kept: number[] = [];
  let last = -Infinity;
  for (const [i, at] of times.entries()) {
    if (at - last < 0.75 * refreshMs) continue;
    kept.push(watts[i] as number);
    last = at;
  }
  return kept;
}

/**
 * Joules that one sensor saw in a window, before any refusal for coarseness. `skipMs`: the load changed at the edges, and readings tell of it
 * only so long after; null: it did not change there.
 */
export function windowEnergy(
  trace: MeterTrace,
  info: MeterInfo,
  window: Window,
  refreshMs: number,
  skipMs: number | null = null,
): Outcome<WindowEnergy> {
  return info.kind === 'counter'
    ? counterEnergy(trace, info, window, refreshMs, skipMs ?? 0)
    : powerEnergy(trace, info, window, refreshMs, skipMs ?? 0);
}
