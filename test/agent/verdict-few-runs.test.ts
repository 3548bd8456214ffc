// Many runs that resemble each other are few: the verdict counts what they are worth.
import { describe, expect, it } from 'vitest';
import { DEFAULT_PLAN } from '@ofa-fleet/shared/measurement.ts';
import { estimateMedian } from '@ofa-fleet/shared/statistics.ts';
import { judge } from '../../agent/verdict.ts';
import { QUIET } from '../helpers/conditions.ts';

describe('a verdict on runs that move slowly up and down', () => {
  it('is suspect, with what they are worth, although there are many of them', () => {
    const samples = Array.from({ length: 200 }, (_, i) => 10 + Math.sin(i / 8) / 100);
    const estimate = estimateMedian(samples, 0.95);
    expect(estimate.nEff).toBeLessThan(30);
    const { state, findings } = judge({
      plan: DEFAULT_PLAN,
      samples,
      estimate,
      neededSamples: 30,
      warmUp: { steady: true, windows: 2 },
      capped: false,
      providers: { asked: 'cpu', obtained: 'cpu' },
      reference: null,
      conditions: QUIET,
    });
    expect(state).toBe('suspect');
    expect(findings.map(({ reason }) => reason)).toEqual(['TOO_FEW_SAMPLES']);
    expect(findings[0]?.message).toMatch(/^200 runs are worth \d+ independent ones \(needed 30/);
  });
});
