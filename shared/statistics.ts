// Order statistics for timings: quantiles, the distribution-free interval of the median, effective sample size; Student's t; Wilson's interval for accuracy.
import type { Interval } from './measurement.ts';

/** Quantile by linear interpolation between order statistics (Hyndman & Fan type 7) of values in ascending order. */
export function quantile(sorted: readonly number[], q: number): number {
  if (sorted.length === 0) throw new Error('quantile of no values');
  const position = (sorted.length - 1) * q;
  const low = Math.floor(position);
  const a = sorted[low] as number;
  const b = sorted[Math.min(low + 1, sorted.length - 1)] as number;
  return a + (b - a) * (position - low);
}

export function ascending(values: readonly number[]): number[] {
  return [...values].sort((a, b) => a - b);
}

export function median(values: readonly number[]): number {
  return quantile(ascending(values), 0.5);
}

export function mean(values: readonly number[]): number {
  return values.reduce((sum, value) => sum + value, 0) / values.length;
}

/** Of a sample (n - 1); 0 for fewer than two values. */
export function standardDeviation(values: readonly number[]): number {
  if (values.length < 2) return 0;
  const middle = mean(values);
  return Math.sqrt(values.reduce((sum, value) => sum + (value - middle) ** 2, 0) / (values.length - 1));
}

/** Half-width of Student's interval of the mean of two values or more. */
export function meanHalfWidth(values: readonly number[], level: number): number {
  return (studentT(level, values.length - 1) * standardDeviation(values)) / Math.sqrt(values.length);
}

/** Median absolute deviation, unscaled. */
export function medianAbsoluteDeviation(values: readonly number[]): number {
  const middle = median(values);
  return median(values.map((value) => Math.abs(value - middle)));
}

/**
 * Ranks (1-based) of the order statistics that enclose the median with binomial coverage >= level: (l, n + 1 - l) with the largest such l
 * (Hoefler & Belli, SC'15). Null where n is too small for any (n < 6 at 0.95).
 */
export function medianRanks(n: number, level: number): { lo: number; hi: number; coverage: number } | null {
  // coverage of (l, n+1-l) is 1 - 2·P(Binomial(n, 1/2) <= l - 1); summed in logs, since 2^-n underflows above n = 1074.
  let logTerm = -n * Math.LN2;
  let tail = Math.exp(logTerm);
  let best: { lo: number; hi: number; coverage: number } | null = null;
  for (let l = 1; l <= n / 2; l++) {
    const coverage = 1 - 2 * tail;
    if (coverage < level) break;
    best = { lo: l, hi: n + 1 - l, coverage };
    logTerm += Math.log((n - l + 1) / l);
    tail += Math.exp(logTerm);
  }
  return best;
}

/** Longest lag looked at: beyond it (drift over thousands of runs) nEff is too large, but far below n/2, where batches take over. */
const MAX_LAG = 500;

/** n / (1 + 2·Σρ), summing autocorrelations while adjacent pairs stay positive (Geyer's initial positive sequence). */
export function effectiveSampleSize(values: readonly number[]): number {
  const n = values.length;
  if (n < 4) return n;
  const middle = mean(values);
  const centred = values.map((value) => value - middle);
  const variance = centred.reduce((sum, value) => sum + value * value, 0);
  if (variance === 0) return n;
  const rho = (lag: number) => {
    let sum = 0;
    for (let i = lag; i < n; i++) sum += (centred[i] as number) * (centred[i - lag] as number);
    return sum / variance;
  };
  let sum = 0;
  for (let lag = 1; lag + 1 < n / 2 && lag < MAX_LAG; lag += 2) {
    const pair = rho(lag) + rho(lag + 1);
    if (pair <= 0) break;
    sum += pair;
  }
  return Math.min(n, n / (1 + 2 * sum));
}

export interface MedianEstimate {
  readonly value: number;
  readonly ci: Interval | null;
  readonly n: number;
  readonly nEff: number;
}

const BATCHES = 20;

/**
 * Median of runs in the order they were timed, with its interval. Correlated runs widen it by sqrt(n/nEff); where nEff < n/2 and there are
 * enough runs, the interval is that of the medians of 20 equal batches instead.
 */
export function estimateMedian(values: readonly number[], level: number): MedianEstimate {
  const n = values.length;
  const sorted = ascending(values);
  const value = quantile(sorted, 0.5);
  const nEff = effectiveSampleSize(values);
  if (nEff < n / 2 && n >= BATCHES * 5) {
    const size = Math.floor(n / BATCHES);
    const medians = ascending(Array.from({ length: BATCHES }, (_, b) => median(values.slice(b * size, (b + 1) * size))));
    const ranks = medianRanks(BATCHES, level) as { lo: number; hi: number };
    const lo = Math.min(value, medians[ranks.lo - 1] as number);
    const hi = Math.max(value, medians[ranks.hi - 1] as number);
    return { value, ci: { lo, hi, level, method: `order statistics of ${BATCHES} batch medians` }, n, nEff };
  }
  const ranks = medianRanks(n, level);
  if (ranks === null) return { value, ci: null, n, nEff };
  const widen = Math.sqrt(n / nEff);
  const lo = value - (value - (sorted[ranks.lo - 1] as number)) * widen;
  const hi = value + ((sorted[ranks.hi - 1] as number) - value) * widen;
  return { value, ci: { lo, hi, level, method: 'order statistics, widened by sqrt(n/nEff)' }, n, nEff };
}

/** Half-width of an interval relative to the value; Infinity where there is no interval. */
export function relativeHalfWidth(estimate: { readonly value: number; readonly ci: Interval | null }): number {
  return estimate.ci === null ? Infinity : (estimate.ci.hi - estimate.ci.lo) / 2 / estimate.value;
}

/** Wilson's score interval of a proportion (Wilson 1927), at 95 %. */
export function wilson(successes: number, n: number): Interval {
  const z = 1.959964;
  const p = successes / n;
  const centre = (p + (z * z) / (2 * n)) / (1 + (z * z) / n);
  const half = (z / (1 + (z * z) / n)) * Math.sqrt((p * (1 - p)) / n + (z * z) / (4 * n * n));
  return { lo: Math.max(0, centre - half), hi: Math.min(1, centre + half), level: 0.95, method: 'Wilson' };
}

/** Share of Student's t distribution with `freedom` (a whole number >= 1) degrees within ±t: Abramowitz & Stegun 26.7.3 and 26.7.4. */
function studentCoverage(t: number, freedom: number): number {
  const theta = Math.atan(t / Math.sqrt(freedom));
  const square = Math.cos(theta) ** 2;
  const isOdd = freedom % 2 === 1;
  let term = isOdd ? Math.cos(theta) : 1;
  let sum = freedom === 1 ? 0 : term;
  for (let k = isOdd ? 3 : 2; k <= freedom - 2; k += 2) {
    term *= ((k - 1) / k) * square;
    sum += term;
  }
  return isOdd ? (2 / Math.PI) * (theta + Math.sin(theta) * sum) : Math.sin(theta) * sum;
}

/** The t within whose ± lies `level` (0..1, exclusive) of Student's distribution with `freedom` degrees: 2.776 at 0.95 and 4. */
export function studentT(level: number, freedom: number): number {
  let lo = 0;
  let hi = 1;
  while (studentCoverage(hi, freedom) < level) hi *= 2;
  for (let step = 0; step < 60; step++) {
    const middle = (lo + hi) / 2;
    if (studentCoverage(middle, freedom) < level) lo = middle;
    else hi = middle;
  }
  return (lo + hi) / 2;
}
