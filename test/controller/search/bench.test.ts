// A small form of `npm run bench:search`: selection must earn more than the first design alone gives.
import { describe, expect, it } from 'vitest';
import { DEFAULTS } from '../../../controller/search/search.ts';
import { median } from '../../../shared/statistics.ts';
import { PROBLEM_NAMES, runArm, type Arm } from '../../bench/search/problems.ts';

const EVALUATIONS = 200;
const SEEDS = [1, 2, 3, 4, 5];

describe('NSGA-II on the benchmark problems', () => {
  it.each(PROBLEM_NAMES)('beats random search, also with the same first asks, at 200 evaluations of %s', (problem) => {
    const shares = (arm: Arm) => SEEDS.map((seed) => runArm(problem, arm, seed, [EVALUATIONS])[0] as number);
    const ours = shares({ algorithm: 'nsga2' });
    const random = shares({ algorithm: 'random' });
    const begun = shares({ algorithm: 'random', firstAsks: DEFAULTS.firstAsks });
    for (const [i, share] of ours.entries()) expect(share).toBeGreaterThan(random[i] as number);
    expect(median(ours)).toBeGreaterThan(median(begun) + 0.04);
  });
});
