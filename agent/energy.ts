// Arithmetic of joules from a sensor's readings: counters with wrap, power samples, idle subtraction, uncertainty, refusals. Pure: no clock.
// A figure that the readings cannot carry is refused with a reason; nothing is ever 0 for lack of data.
import type { Energy, Quantity, Verdict } from '@ofa-fleet/shared/measurement.ts';
import { failed, ok, type Outcome, type Reason } from '@ofa-fleet/shared/outcome.ts';
import { effectiveSampleSize, median } from '@ofa-fleet/shared/statistics.ts';
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
}

/** A load window needs so many distinct readings, so many counter steps, and this many times the sensor's refresh. */
const MIN_DISTINCT = 20;
const MIN_LSBS = 100;
const MIN_REFRESHES = 20;
/** More than any device that we measure draws: a counter that would imply more was reset, not wrapped. */
const MAX_WATTS = 2000;
/** Sockets of the largest machine whose counters are added up. */
const MAX_COUNTERS = 8;
/** Published interval: k times the standard uncertainty. */
const COVERAGE_FACTOR = 2;
const IDLE_MOVED_SHARE = 0.05;

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

/** Value of a piecewise linear trace at `at`; null outside of it. */
function interpolate(times: readonly number[], values: readonly number[], at: number): number | null {
  const after = times.findIndex((time) => time >= at);
  if (after === -1) return null;
  const t1 = times[after] as number;
  const v1 = values[after] as number;
  if (t1 === at) return v1;
  if (after === 0) return null;
  const t0 = times[after - 1] as number;
  const v0 = values[after - 1] as number;
  return v0 + ((v1 - v0) * (at - t0)) / (t1 - t0);
}

/** Readings at which the value changed: a counter is known exactly only there. */
function changes(atMs: Float64Array, values: Float64Array): { readonly times: readonly number[]; readonly values: readonly number[] } {
  const at = [...values.keys()].filter((i) => i > 0 && values[i] !== values[i - 1]);
  return { times: at.map((i) => atMs[i] as number), values: at.map((i) => values[i] as number) };
}

const within = (times: readonly number[], { startMs, endMs }: Window) => times.filter((time) => time >= startMs && time <= endMs).length;

const outside = (sensor: string): Outcome<never> =>
  failed('SENSOR_TOO_SLOW', `${sensor} gave no reading on both sides of the window. Measure again, with longer windows.`);

function counterEnergy(trace: MeterTrace, info: MeterInfo, window: Window, edgeMs: number): Outcome<WindowEnergy> {
  const grown = unwrapCounter(trace, info.wrapJoules);
  if (!grown.ok) return grown;
  const points = changes(trace.atMs, grown.value);
  const from = interpolate(points.times, points.values, window.startMs);
  const to = interpolate(points.times, points.values, window.endMs);
  if (from === null || to === null) return outside(info.sensor);
  const seconds = (window.endMs - window.startMs) / 1000;
  const joules = to - from;
  const watts = joules / seconds;
  // Two quantised readings, and two edges of random phase against the refresh.
  const u = Math.hypot(info.lsb / Math.sqrt(6), ((edgeMs / 1000) * watts) / Math.sqrt(6));
  return ok({ joules, watts, seconds, distinct: within(points.times, window), u });
}

function powerEnergy({ atMs, values }: MeterTrace, info: MeterInfo, window: Window, edgeMs: number): Outcome<WindowEnergy> {
  const times = Array.from(atMs);
  const watts = Array.from(values);
  const from = interpolate(times, watts, window.startMs);
  const to = interpolate(times, watts, window.endMs);
  if (from === null || to === null) return outside(info.sensor);
  const inner = times.flatMap((time, i) => (time > window.startMs && time < window.endMs ? [{ time, watt: watts[i] as number }] : []));
  const points = [{ time: window.startMs, watt: from }, ...inner, { time: window.endMs, watt: to }];
  const joules = points.slice(1).reduce((sum, point, i) => {
    const before = points[i] as (typeof points)[number];
    return sum + ((before.watt + point.watt) / 2) * ((point.time - before.time) / 1000);
  }, 0);
  const seconds = (window.endMs - window.startMs) / 1000;
  // Repeats serve the integral, but only readings that changed are samples of their own.
  const fresh = inner.filter((point, i) => i === 0 || point.watt !== inner[i - 1]?.watt).map((point) => point.watt);
  const mean = joules / seconds;
  const spread = fresh.length < 2 ? Infinity : Math.sqrt(fresh.reduce((sum, watt) => sum + (watt - mean) ** 2, 0) / (fresh.length - 1));
  const sampling = fresh.length < 2 ? 0 : (seconds * spread) / Math.sqrt(effectiveSampleSize(fresh));
  const resolution = (seconds * info.lsb) / Math.sqrt(12 * Math.max(1, fresh.length));
  const edge = ((edgeMs / 1000) * mean) / Math.sqrt(6);
  return ok({ joules, watts: mean, seconds, distinct: Math.max(0, fresh.length - 1), u: Math.hypot(sampling, resolution, edge) });
}

/** Joules that one sensor saw in a window, before any refusal for coarseness. */
export function windowEnergy(trace: MeterTrace, info: MeterInfo, window: Window, refreshMs: number): Outcome<WindowEnergy> {
  // Between readings an edge is a guess, whether the sensor or its reader is the slower one.
  const gaps = Array.from(trace.atMs.subarray(1), (at, i) => at - (trace.atMs[i] as number));
  const edgeMs = Math.max(refreshMs, gaps.length === 0 ? 0 : median(gaps));
  return info.kind === 'counter' ? counterEnergy(trace, info, window, edgeMs) : powerEnergy(trace, info, window, edgeMs);
}

/** Refuses a load window whose readings are too few or too coarse for a figure; says what would do. */
function refuse(load: WindowEnergy, info: MeterInfo, refreshMs: number): Outcome<never> | null {
  const needs = (seconds: number) => `A load window of ${Math.ceil(seconds)} s would do.`;
  if (load.seconds * 1000 < MIN_REFRESHES * refreshMs) {
    return failed(
      'SENSOR_TOO_SLOW',
      `${info.sensor} changes every ${refreshMs.toPrecision(3)} ms; the window of ${load.seconds.toPrecision(3)} s is shorter than ${MIN_REFRESHES} times that. ${needs((MIN_REFRESHES * refreshMs) / 1000)}`,
    );
  }
  if (load.distinct < MIN_DISTINCT) {
    return failed(
      'SENSOR_TOO_SLOW',
      `${info.sensor} gave ${load.distinct} distinct readings in ${load.seconds.toPrecision(3)} s (needed ${MIN_DISTINCT}). ${needs((load.seconds * MIN_DISTINCT) / Math.max(1, load.distinct))}`,
    );
  }
  if (info.kind === 'counter' && load.joules < MIN_LSBS * info.lsb) {
    return failed(
      'SENSOR_TOO_SLOW',
      `${info.sensor} moved by ${load.joules.toPrecision(3)} J, less than ${MIN_LSBS} of its steps of ${info.lsb} J. ${needs((load.seconds * MIN_LSBS * info.lsb) / Math.max(load.joules, info.lsb))}`,
    );
  }
  return null;
}

export interface EnergyReadings {
  readonly info: MeterInfo;
  readonly trace: MeterTrace;
  readonly refreshMs: number;
  readonly before: Window;
  readonly load: Window;
  readonly after: Window;
  readonly inferences: number;
}

export interface EnergyResult {
  readonly energy: Energy;
  /** About the joules only: they do not move the verdict on the latency. */
  readonly findings: Verdict['findings'];
  /** Of the net figure, k = 2, without the sensor's gain: what longer windows can lower. Infinity where there is none. */
  readonly relativeHalfWidth: number;
}

function nothing(reason: Reason, message: string): Quantity {
  return { value: null, ci: null, unit: 'J', kind: 'measured', n: 0, nEff: 0, reason, message };
}

/** No joules, and why. */
export function noEnergy(reason: Reason, message: string, info: MeterInfo | null = null): EnergyResult {
  const quantity = nothing(reason, message);
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

function perInference(joules: number, u: number, { inferences }: EnergyReadings, distinct: number, message: string | null): Quantity {
  const value = joules / inferences;
  const half = (COVERAGE_FACTOR * u) / inferences;
  return {
    value,
    ci: { lo: value - half, hi: value + half, level: 0.95, method: `combined standard uncertainty, k = ${COVERAGE_FACTOR}` },
    unit: 'J',
    kind: 'measured',
    n: inferences,
    nEff: distinct,
    reason: null,
    message,
  };
}

/**
 * Joules per inference, gross and net of idle power: E_net = E - P_idle·T with P_idle the mean of the idle power before and after;
 * u²(E_net) = u²(E) + T²(u_b² + u_a²)/4 + T²(P_b - P_a)²/12, the gain applied once, to E_net. A negative E_net is published as it is.
 */
export function energyPerInference(readings: EnergyReadings): EnergyResult {
  const { info, trace, refreshMs } = readings;
  const refused = (failure: Outcome<never>) =>
    failure.ok ? noEnergy('CRASHED', '', info) : noEnergy(failure.reason, failure.message, info);
  const inAll = { startMs: readings.before.startMs, endMs: readings.after.endMs };
  if (within(changes(trace.atMs, trace.values).times, inAll) === 0) {
    return noEnergy(
      'SENSOR_STALE',
      `${info.sensor} did not change at all, idle or under load: it is stuck. Check it with \`ofa-agent meters\`.`,
      info,
    );
  }
  const load = windowEnergy(trace, info, readings.load, refreshMs);
  if (!load.ok) return refused(load);
  const tooCoarse = refuse(load.value, info, refreshMs);
  if (tooCoarse !== null) return refused(tooCoarse);
  const before = windowEnergy(trace, info, readings.before, refreshMs);
  if (!before.ok) return refused(before);
  const after = windowEnergy(trace, info, readings.after, refreshMs);
  if (!after.ok) return refused(after);

  const { joules, seconds, u, distinct } = load.value;
  const idle = { before: before.value.watts, after: after.value.watts };
  const uBefore = before.value.u / before.value.seconds;
  const uAfter = after.value.u / after.value.seconds;
  const net = joules - ((idle.before + idle.after) / 2) * seconds;
  const uNet = Math.sqrt(
    u ** 2 + (seconds ** 2 * (uBefore ** 2 + uAfter ** 2)) / 4 + (seconds ** 2 * (idle.before - idle.after) ** 2) / 12,
  );
  const uNetAll = Math.hypot(uNet, info.gain * net);

  const moved = Math.abs(idle.before - idle.after);
  const movedLimit = Math.max((IDLE_MOVED_SHARE * (idle.before + idle.after)) / 2, COVERAGE_FACTOR * Math.hypot(uBefore, uAfter));
  const findings: Verdict['findings'] = [];
  if (moved > movedLimit) {
    const message = `Idle power moved from ${idle.before.toPrecision(4)} to ${idle.after.toPrecision(4)} W (limit ${movedLimit.toPrecision(2)} W): the net joules are doubtful. Stop other load and measure again.`;
    findings.push({ reason: 'IDLE_MOVED', effect: 'information', message });
  }
  if (net <= COVERAGE_FACTOR * uNetAll) {
    const message = `The net energy of ${net.toPrecision(3)} J in ${seconds.toPrecision(3)} s does not stand out from the idle power's uncertainty of ${(COVERAGE_FACTOR * uNetAll).toPrecision(2)} J. Ask for longer windows or measure a larger model.`;
    findings.push({ reason: 'BELOW_IDLE_NOISE', effect: 'information', message });
  }
  const remark = findings.length === 0 ? null : findings.map((finding) => finding.message).join(' ');
  return {
    energy: {
      gross: perInference(joules, Math.hypot(u, info.gain * joules), readings, distinct, null),
      net: perInference(net, uNetAll, readings, distinct, remark),
      sensor: info.sensor,
      boundary: info.boundary,
      windowMs: seconds * 1000,
      inferences: readings.inferences,
      idleWatts: idle,
    },
    findings,
    relativeHalfWidth: net > 0 ? (COVERAGE_FACTOR * uNet) / net : Infinity,
  };
}
