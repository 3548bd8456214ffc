import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  effectiveSampleSize,
  estimateMedian,
  median,
  medianAbsoluteDeviation,
  medianRanks,
  quantile,
  relativeHalfWidth,
  studentT,
  wilson,
} from '@ofa-fleet/shared/statistics.ts';

/** Reproducible uniform numbers (mulberry32). */
function uniform(seed: number): () => number {
  let a = seed;
  return () => {
    a = (a + 0x6d2b79f5) | 0;
    let t = Math.imul(a ^ (a >>> 15), 1 | a);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
}

function normal(random: () => number): number {
  return Math.sqrt(-2 * Math.log(1 - random())) * Math.cos(2 * Math.PI * random());
}

/** First-order autoregressive series with mean 100 and spread 1. */
function autoregressive(n: number, rho: number, random: () => number): number[] {
  const values: number[] = [];
  let x = normal(random);
  for (let i = 0; i < n; i++) {
    values.push(100 + x);
    x = rho * x + Math.sqrt(1 - rho * rho) * normal(random);
  }
  return values;
}

describe('the interval of the median', () => {
  it.each([
    [6, 1, 6, 0.9688],
    [10, 2, 9, 0.9785],
    [20, 6, 15, 0.9586],
    [30, 10, 21, 0.9572],
    [50, 18, 33, 0.9672],
    [100, 40, 61, 0.9648],
    [1000, 469, 532, 0.9537],
  ])('takes the published ranks at n = %i', (n, lo, hi, coverage) => {
    const ranks = medianRanks(n, 0.95);
    expect(ranks?.lo).toBe(lo);
    expect(ranks?.hi).toBe(hi);
    expect(ranks?.coverage).toBeCloseTo(coverage, 4);
  });

  it('does not exist below 6 runs', () => {
    expect(medianRanks(5, 0.95)).toBeNull();
    expect(estimateMedian([3, 1, 2], 0.95)).toMatchObject({ value: 2, ci: null, n: 3 });
    expect(relativeHalfWidth(estimateMedian([3, 1, 2], 0.95))).toBe(Infinity);
  });

  it('is narrower the more runs there are, also where 2^-n underflows', () => {
    const widths = [100, 1000, 10_000, 100_000].map((n) => {
      const ranks = medianRanks(n, 0.95);
      return ((ranks?.hi ?? NaN) - (ranks?.lo ?? NaN)) / n;
    });
    expect(widths).toEqual([...widths].sort((a, b) => b - a));
    // Normal approximation: 2 · 1.96 · sqrt(n)/2.
    expect((widths[3] as number) * 100_000).toBeCloseTo(1.96 * Math.sqrt(100_000), -1);
  });

  it.each([0, 0.6, 0.8])('covers the true median as often as it says, within sampling error, at autocorrelation %f', (rho) => {
    const random = uniform(7);
    const trials = 400;
    // Plans wait for nEff >= 30, so the series are as long as that takes.
    const n = Math.ceil((60 * (1 + rho)) / (1 - rho));
    let covered = 0;
    for (let i = 0; i < trials; i++) {
      const { ci } = estimateMedian(autoregressive(n, rho, random), 0.95);
      if (ci !== null && ci.lo <= 100 && 100 <= ci.hi) covered++;
    }
    expect(covered / trials).toBeGreaterThan(0.92);
  });

  it('contains the median, whatever the values', () => {
    fc.assert(
      fc.property(fc.array(fc.double({ min: 0.001, max: 1e4, noNaN: true }), { minLength: 6, maxLength: 300 }), (values) => {
        const { value, ci, nEff } = estimateMedian(values, 0.95);
        expect(value).toBe(median(values));
        expect(ci === null || (ci.lo <= value && value <= ci.hi)).toBe(true);
        expect(nEff).toBeGreaterThan(0);
        expect(nEff).toBeLessThanOrEqual(values.length);
      }),
    );
  });
});

describe('the effective sample size', () => {
  it('is near n for independent runs and near n(1-ρ)/(1+ρ) for correlated ones', () => {
    const random = uniform(3);
    expect(effectiveSampleSize(autoregressive(4000, 0, random)) / 4000).toBeGreaterThan(0.9);
    expect(effectiveSampleSize(autoregressive(4000, 0.6, random)) / 4000).toBeCloseTo(0.25, 1);
    expect(effectiveSampleSize(autoregressive(4000, 0.9, random)) / 4000).toBeCloseTo(0.0526, 1);
  });

  it('stays affordable on long drifting series, and says that they are worth little', () => {
    const n = 200_000;
    const drifting = Array.from({ length: n }, (_, i) => 1 + i / n);
    expect(effectiveSampleSize(drifting)).toBeLessThan(n / 100);
  });

  it('is n where all runs took equally long', () => {
    expect(effectiveSampleSize(Array.from({ length: 50 }, () => 2))).toBe(50);
  });
});

describe('quantiles and shares', () => {
  it('interpolate between order statistics', () => {
    expect(quantile([1, 2, 3, 4], 0.5)).toBe(2.5);
    expect(quantile([10, 20, 30], 0.9)).toBeCloseTo(28, 10);
    expect(quantile([5], 0.99)).toBe(5);
  });

  it('refuse to be taken of nothing', () => {
    expect(() => quantile([], 0.5)).toThrow('no values');
  });

  it('give the median absolute deviation unscaled', () => {
    expect(medianAbsoluteDeviation([1, 1, 2, 2, 4, 6, 9])).toBe(1);
  });

  it("give Wilson's published interval", () => {
    // Wilson's score interval of 9 in 10 at 95 %.
    const { lo, hi } = wilson(9, 10);
    expect(lo).toBeCloseTo(0.5958, 4);
    expect(hi).toBeCloseTo(0.9821, 4);
  });
});

describe("Student's t", () => {
  // two-sided, from the printed tables (e.g. Abramowitz & Stegun, table 26.10)
  it.each([
    [0.95, 1, 12.706],
    [0.95, 2, 4.303],
    [0.95, 3, 3.182],
    [0.95, 4, 2.776],
    [0.95, 8, 2.306],
    [0.95, 30, 2.042],
    [0.99, 5, 4.032],
    [0.5, 7, 0.711],
    [0.999, 12, 4.318],
  ])('at %d with %i degrees of freedom is %d', (level, freedom, t) => {
    expect(studentT(level, freedom)).toBeCloseTo(t, 3);
  });

  it('nears the normal distribution with many degrees of freedom', () => {
    expect(studentT(0.95, 100_000)).toBeCloseTo(1.96, 3);
  });
});
