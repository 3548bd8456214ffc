// Scores trunks on splits: batch norms recalibrated on training images for each net, then one pass an image for all its exits.
import type { Space } from '../../space.ts';
import type { Subnet } from '../../subnet.ts';
import type { Dataset } from '../data/dataset.ts';
import type { Weights } from '../elastic.ts';
import { calibrationViews } from './batches.ts';
import { exitWeights } from './exit-weights.ts';
import type { Recipe } from './recipe.ts';
import { calibratedStatistics, disposeStatistics, scoresOf, type Scores } from './score.ts';

/** A split, and how many of its first images count. */
export interface Split {
  readonly of: 'validation' | 'test';
  readonly images: number;
}

/** Scores on each of the splits; null where the signal aborted. */
export type Scorer = (weights: Weights, subnet: Subnet, splits: readonly Split[]) => Promise<Scores[] | null>;

export function createScorer(space: Space, recipe: Recipe, dataset: Dataset, signal: AbortSignal | undefined): Scorer {
  const views = calibrationViews(recipe, dataset.train);
  return async (weights, subnet, splits) => {
    const statistics = await calibratedStatistics(weights, space, subnet, dataset.train, views, signal);
    if (statistics === null) return null;
    const shares = exitWeights(space.exits === 'early' ? subnet.stages.length : 1, recipe.distillation.exitWeights);
    const scores: Scores[] = [];
    for (const { of, images } of splits) {
      const set = { set: dataset[of], count: images, evaluation: recipe.evaluation };
      const score = await scoresOf(weights, space, subnet, statistics, set, shares, signal);
      if (score === null) break;
      scores.push(score);
    }
    disposeStatistics(statistics);
    return scores.length === splits.length ? scores : null;
  };
}

/** The score of the exit after stage `height`. */
export function scoreAt(space: Space, scores: Scores, height: number): number {
  return scores.exits[space.exits === 'early' ? height - 1 : 0] as number;
}
