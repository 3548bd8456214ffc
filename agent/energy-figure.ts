// Joules per inference from what a sensor showed over idle, load and idle: gross, net of idle power, their uncertainty, and every refusal.
import type { Quantity, Verdict } from '@ofa-fleet/shared/measurement.ts';
import { failed, type Failure } from '@ofa-fleet/shared/outcome.ts';
import { effectiveSampleSize } from '@ofa-fleet/shared/statistics.ts';
import type { MeterInfo, MeterTrace } from './ports.ts';
import { countChanges, lagMs, noEnergy, widening, windowEnergy, type EnergyResult, type Window, type WindowEnergy } from './energy.ts';

/** A load window needs so many distinct readings, so many counter steps, and this many times the sensor's refresh. */
const MIN_DISTINCT = 20;
const MIN_LSBS = 100;
const MIN_REFRESHES = 20;
/** A load window is at least so many times what the sensor takes to follow a change. */
export const LEAST_LAGS = 2;
/** A load, once the sensor should follow it, of which the readings stand for less has a sensor that sticks. */
const LEAST_SEEN = 0.5;
/** No reading for so long, and for three refreshes, is more than a late one. */
const SILENT_MS = 500;
/** Published interval: k times the standard uncertainty. */
const COVERAGE_FACTOR = 2;
const IDLE_MOVED_SHARE = 0.05;

export interface EnergyReadings {
  readonly info: MeterInfo;
  readonly trace: MeterTrace;
  readonly refreshMs: number;
  readonly before: Window;
  readonly load: Window;
  readonly after: Window;
  readonly inferences: number;
}

/** What the net figure's half-width (k = 2, without gain) is made of, as shares of it, and what a refused window lacked. */
interface EnergyBudget {
  /** Of the load window: falls with its length. */
  readonly load: number;
  /** Of the idle windows and of what idle power does meanwhile: falls as all windows grow. */
  readonly idle: number;
  /** Of idle power that differed before and after by more than noise: falls with nothing. */
  readonly drift: number;
  /** Load window, as a multiple of this one, that would not be refused for coarseness; 1 where it was not. */
  readonly growthNeeded: number;
}

export interface EnergyFigure extends EnergyResult {
  readonly budget: EnergyBudget | null;
}

/** Idle power from one window: its mean as a guess at what the device draws at any time. */
interface Idle {
  readonly watts: number;
  /** Standard uncertainty of `watts`. */
  readonly u: number;
  /** Variance of the mean over one second, W²·s: what idle power does meanwhile that its mean does not tell. */
  readonly wander: number;
}

/** Residuals of a straight line: a trend that both idle windows show is theirs to tell, not noise. */
function detrended(values: readonly number[]): number[] {
  const n = values.length;
  const centre = (n - 1) / 2;
  const mean = values.reduce((sum, value) => sum + value, 0) / n;
  const square = values.reduce((sum, _, i) => sum + (i - centre) ** 2, 0);
  const slope = square === 0 ? 0 : values.reduce((sum, value, i) => sum + (i - centre) * (value - mean), 0) / square;
  return values.map((value, i) => value - mean - slope * (i - centre));
}

function idleOf({ watts, seconds, uReading, u, powers }: WindowEnergy): Idle {
  if (powers.length < 4) return { watts, u: u / seconds, wander: 0 };
  const rest = detrended(powers);
  const variance = rest.reduce((sum, value) => sum + value * value, 0) / (rest.length - 2);
  const nEff = Math.max(2, effectiveSampleSize(rest));
  const square = variance / nEff;
  return { watts, u: Math.hypot(uReading / seconds, Math.sqrt(square) * widening(nEff - 1)), wander: square * seconds };
}

/** Refuses a load window whose readings are too few or too coarse for a figure; says what would do. */
function tooCoarse({ info, trace, refreshMs, load }: EnergyReadings): { readonly failure: Failure; readonly growth: number } | null {
  const ms = load.endMs - load.startMs;
  const refuse = (why: string, growth: number) => ({
    failure: failed('SENSOR_TOO_SLOW', `${why} A load window of ${Math.ceil((growth * ms) / 1000)} s would do.`),
    growth,
  });
  const seconds = (ms / 1000).toPrecision(3);
  if (ms < MIN_REFRESHES * refreshMs) {
    return refuse(
      `${info.sensor} changes every ${refreshMs.toPrecision(3)} ms; the window of ${seconds} s is shorter than ${MIN_REFRESHES} times that.`,
      (MIN_REFRESHES * refreshMs) / ms,
    );
  }
  const leastMs = LEAST_LAGS * lagMs(info, refreshMs);
  if (ms < leastMs) {
    return refuse(
      `${info.sensor} follows a change of load after ${(leastMs / LEAST_LAGS / 1000).toPrecision(2)} s; the window of ${seconds} s is shorter than ${LEAST_LAGS} times that.`,
      leastMs / ms,
    );
  }
  const distinct = countChanges(trace, load);
  if (distinct < MIN_DISTINCT) {
    return refuse(
      `${info.sensor} gave ${distinct} distinct readings in ${seconds} s (needed ${MIN_DISTINCT}).`,
      MIN_DISTINCT / Math.max(1, distinct),
    );
  }
  return null;
}

function tooFewSteps({ joules, seconds }: WindowEnergy, { lsb, sensor, kind }: MeterInfo): { failure: Failure; growth: number } | null {
  if (kind !== 'counter' || joules >= MIN_LSBS * lsb) return null;
  const growth = (MIN_LSBS * lsb) / Math.max(joules, lsb);
  const message = `${sensor} moved by ${joules.toPrecision(3)} J, less than ${MIN_LSBS} of its steps of ${lsb} J. A load window of ${Math.ceil(growth * seconds)} s would do.`;
  return { failure: failed('SENSOR_TOO_SLOW', message), growth };
}

/** A sensor that moved at no time, or never again once the load had begun to end, is stuck: a live one falls back with the load. */
function stuck({ info, trace, before, load, after }: EnergyReadings): Failure | null {
  const check = 'it is stuck. Check it with `ofa-agent meters`.';
  if (countChanges(trace, { startMs: before.startMs, endMs: after.endMs }) === 0) {
    return failed('SENSOR_STALE', `${info.sensor} did not change at all, idle or under load: ${check}`);
  }
  if (countChanges(trace, { startMs: load.endMs, endMs: after.endMs }) === 0) {
    return failed('SENSOR_STALE', `${info.sensor} did not change any more after the load: ${check}`);
  }
  return null;
}

/** SENSOR_STALE where the readings begin after the window does, or end before it; null where they do not. */
export function silence(info: MeterInfo, { atMs }: MeterTrace, { startMs, endMs }: Window, refreshMs: number): Failure | null {
  const patienceMs = Math.max(3 * refreshMs, SILENT_MS);
  const first = atMs[0] ?? Infinity;
  const last = atMs.at(-1) ?? -Infinity;
  if (first <= startMs + patienceMs && last >= endMs - patienceMs) return null;
  const [end, lacksMs] =
    last === -Infinity ? ['last', endMs - startMs] : last < endMs - patienceMs ? ['last', endMs - last] : ['first', first - startMs];
  return failed(
    'SENSOR_STALE',
    `${info.sensor} gave no readings in the ${end} ${(lacksMs / 1000).toPrecision(2)} s: it was unplugged, its file is gone or may not be read any more. Check it with \`ofa-agent meters\` and measure again.`,
  );
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
 * u²(E_net) = u²(E) + T²(u_b² + u_a²)/4 + T²·w + T²(P_b - P_a)²/12 with w the variance of idle power's mean over the load window, the gain
 * applied once, to E_net. A negative E_net is published as it is.
 */
export function energyPerInference(readings: EnergyReadings): EnergyFigure {
  const { info, trace, refreshMs } = readings;
  const refused = ({ reason, message }: Failure, growthNeeded: number | null): EnergyFigure => ({
    ...noEnergy(reason, message, info),
    budget: growthNeeded === null ? null : { load: Infinity, idle: 0, drift: 0, growthNeeded },
  });
  const whole = { startMs: readings.before.startMs, endMs: readings.after.endMs };
  const dead = silence(info, trace, whole, refreshMs) ?? stuck(readings);
  if (dead !== null) return refused(dead, null);
  const coarse = tooCoarse(readings);
  if (coarse !== null) return refused(coarse.failure, coarse.growth);
  const load = windowEnergy(trace, info, readings.load, refreshMs, lagMs(info, refreshMs));
  if (!load.ok) return refused(load, null);
  const few = tooFewSteps(load.value, info);
  if (few !== null) return refused(few.failure, few.growth);
  const seen = load.value.seen / (1 - lagMs(info, refreshMs) / (readings.load.endMs - readings.load.startMs));
  if (seen < LEAST_SEEN) {
    const share = `${(100 * seen).toFixed(0)} %`;
    return refused(failed('SENSOR_STALE', `${info.sensor} moved during ${share} of the load only: it sticks. Measure again.`), null);
  }
  const before = windowEnergy(trace, info, readings.before, refreshMs);
  if (!before.ok) return refused(before, null);
  const after = windowEnergy(trace, info, readings.after, refreshMs);
  if (!after.ok) return refused(after, null);

  const { joules, seconds, u, distinct } = load.value;
  const [idleBefore, idleAfter] = [idleOf(before.value), idleOf(after.value)];
  const net = joules - ((idleBefore.watts + idleAfter.watts) / 2) * seconds;
  const moved = Math.abs(idleBefore.watts - idleAfter.watts);
  const uMeans = (seconds * Math.hypot(idleBefore.u, idleAfter.u)) / 2;
  const uMeanwhile = Math.sqrt((seconds * (idleBefore.wander + idleAfter.wander)) / 2);
  const uDrift = (seconds * moved) / Math.sqrt(12);
  const uNet = Math.hypot(u, uMeans, uMeanwhile, uDrift);
  const uNetAll = Math.hypot(uNet, info.gain * net);

  const movedNoise = COVERAGE_FACTOR * Math.hypot(idleBefore.u, idleAfter.u);
  const movedLimit = Math.max((IDLE_MOVED_SHARE * (idleBefore.watts + idleAfter.watts)) / 2, movedNoise);
  const isNoise = moved <= movedNoise;
  const findings: Verdict['findings'] = [];
  if (moved > movedLimit) {
    const message = `Idle power moved from ${idleBefore.watts.toPrecision(4)} to ${idleAfter.watts.toPrecision(4)} W (limit ${movedLimit.toPrecision(2)} W): the net joules are doubtful. Stop other load and measure again.`;
    findings.push({ reason: 'IDLE_MOVED', effect: 'information', message });
  }
  if (net <= COVERAGE_FACTOR * uNetAll) {
    const message = `The net energy of ${net.toPrecision(3)} J in ${seconds.toPrecision(3)} s does not stand out from the idle power's uncertainty of ${(COVERAGE_FACTOR * uNetAll).toPrecision(2)} J. Ask for longer windows or measure a larger model.`;
    findings.push({ reason: 'BELOW_IDLE_NOISE', effect: 'information', message });
  }
  const remark = findings.length === 0 ? null : findings.map((finding) => finding.message).join(' ');
  const share = (one: number) => (net > 0 ? (COVERAGE_FACTOR * one) / net : Infinity);
  return {
    energy: {
      gross: perInference(joules, Math.hypot(u, info.gain * joules), readings, distinct, null),
      net: perInference(net, uNetAll, readings, distinct, remark),
      sensor: info.sensor,
      boundary: info.boundary,
      windowMs: seconds * 1000,
      inferences: readings.inferences,
      idleWatts: { before: idleBefore.watts, after: idleAfter.watts },
    },
    findings,
    relativeHalfWidth: share(uNet),
    budget: {
      load: share(u),
      idle: share(Math.hypot(uMeans, uMeanwhile, isNoise ? uDrift : 0)),
      drift: isNoise ? 0 : share(uDrift),
      growthNeeded: 1,
    },
  };
}
