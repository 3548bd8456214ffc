import fc from 'fast-check';
import { beforeAll, describe, expect, it } from 'vitest';
import { largestSubnet } from '../../../controller/subnet.ts';
import { selectBackend } from '../../../controller/supernet/backend.ts';
import { exitLogits, pickExitSubset, scoreExitSubsets, type ExitLogits } from '../../../controller/supernet/exit-ensembles.ts';
import { exitWeights } from '../../../controller/supernet/training/exit-weights.ts';
import { calibratedStatistics, scoresOf } from '../../../controller/supernet/training/score.ts';
import { madeImages } from '../../helpers/made-dataset.ts';
import { randomTensors, TINY, toWeights } from './tiny.ts';

/** Two exits, two classes: the first knows images 0 and 1, the second image 2 and, weakly wrong, image 1. */
const LOGITS: ExitLogits = { classes: 2, labels: [0, 1, 0], exits: [Float32Array.of(2, 0, 0, 3, 0, 1), Float32Array.of(1, 0, 1, 0, 4, 0)] };

describe('exits that answer together', () => {
  it('are scored in every combination, cheapest first, weights in proportion', () => {
    const subsets = scoreExitSubsets(LOGITS, [1 / 3, 2 / 3]);
    expect(subsets.map(({ exits }) => exits.join('+'))).toEqual(['1', '2', '1+2']);
    expect(subsets.map(({ accuracy }) => Math.round(accuracy * 3))).toEqual([2, 2, 3]);
    expect(pickExitSubset(subsets).exits).toEqual([1, 2]);
    expect(
      scoreExitSubsets({ ...LOGITS, exits: Array.from({ length: 5 }, () => LOGITS.exits[0] as Float32Array) }, exitWeights(5)).length,
    ).toBe(31);
  });

  it('of equal worth leave the choice to the one that costs least', () => {
    const same = { ...LOGITS, exits: [LOGITS.exits[0] as Float32Array, LOGITS.exits[0] as Float32Array] };
    expect(pickExitSubset(scoreExitSubsets(same, [0.5, 0.5])).exits).toEqual([1]);
  });

  it('have weights that sum to one, each positive, in every scheme', () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 1, max: 5 }),
        fc.constantFrom('ascending' as const, 'descending' as const, 'uniform' as const),
        (n, scheme) => {
          const exits = Array.from({ length: n }, () => Float32Array.of(1, 0));
          for (const { weights } of scoreExitSubsets({ classes: 2, labels: [0], exits }, exitWeights(n, scheme))) {
            expect(weights.reduce((sum, weight) => sum + weight)).toBeCloseTo(1, 9);
            expect(weights.every((weight) => weight > 0)).toBe(true);
          }
        },
      ),
    );
  });

  describe('on a net', () => {
    beforeAll(async () => {
      await selectBackend({ purpose: 'training', only: 'cpu' });
    });

    it('agree with the accuracies that training reports for single exits and for all of them', async () => {
      const weights = toWeights(randomTensors(TINY, 1));
      const subnet = { ...largestSubnet(TINY), resolution: 9 };
      const views = Array.from({ length: 30 }, (_, index) => ({ index }));
      const statistics = await calibratedStatistics(weights, TINY, subnet, madeImages(30), views);
      if (statistics === null) throw new Error('stopped');
      const images = { set: madeImages(120, 30), count: 110, evaluation: { kind: 'resize' } as const };
      const logits = await exitLogits(weights, TINY, subnet, statistics, images);
      if (logits === null) throw new Error('stopped');
      const [first, second, both] = scoreExitSubsets(logits, exitWeights(2));
      const scores = await scoresOf(weights, TINY, subnet, statistics, images, exitWeights(2));
      expect(scores?.exits).toEqual([first?.accuracy, second?.accuracy]);
      expect(scores?.ensemble).toBe(both?.accuracy);
    });
  });
});
