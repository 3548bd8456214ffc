// How wide an interval is, against its definition: what correlated runs cost, and what "half-width" means.
import { describe, expect, it } from 'vitest';
import { ascending, effectiveSampleSize, estimateMedian, median, medianRanks, relativeHalfWidth } from '@ofa-fleet/shared/statistics.ts';

/** First-order autoregressive series around 100 with reproducible noise (Numerical Recipes' linear congruential generator). */
function correlated(n: number, rho: number): number[] {
  let state = 7;
  let x = 0;
  return Array.from({ length: n }, () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    x = rho * x + state / 2 ** 32 - 0.5;
    return 100 + x;
  });
}

describe('an interval of the median', () => {
  it('of somewhat correlated runs is the independent one, widened by the root of n over nEff', () => {
    const runs = correlated(200, 0.25);
    const nEff = effectiveSampleSize(runs);
    expect(nEff).toBeGreaterThan(100);
    expect(nEff).toBeLessThan(180);
    const { value, ci } = estimateMedian(runs, 0.95);
    const ranks = medianRanks(200, 0.95);
    const sorted = ascending(runs);
    const [lo, hi] = [sorted[(ranks?.lo ?? NaN) - 1] as number, sorted[(ranks?.hi ?? NaN) - 1] as number];
    expect(((ci?.hi ?? NaN) - value) / (hi - value)).toBeCloseTo(Math.sqrt(200 / nEff), 9);
    expect((value - (ci?.lo ?? NaN)) / (value - lo)).toBeCloseTo(Math.sqrt(200 / nEff), 9);
  });

  it('of strongly correlated runs is that of the medians of 20 batches: the 6th and the 15th of them', () => {
    const runs = correlated(400, 0.9);
    expect(effectiveSampleSize(runs)).toBeLessThan(200);
    const batches = ascending(Array.from({ length: 20 }, (_, b) => median(runs.slice(20 * b, 20 * b + 20))));
    expect(estimateMedian(runs, 0.95).ci).toMatchObject({ lo: batches[5], hi: batches[14] });
  });

  it('has as relative half-width half of its width over the value', () => {
    const ci = { lo: 9, hi: 11, level: 0.95, method: '' };
    expect(relativeHalfWidth({ value: 10, ci })).toBeCloseTo(0.1, 12);
  });
});
