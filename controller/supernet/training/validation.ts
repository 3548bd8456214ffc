// The mean by which the best weights of a phase are chosen, on validation images only.
import type { Space } from '../../space.ts';
import type { Weights } from '../elastic.ts';
import type { Phase } from './phases.ts';
import { randomStream } from './random.ts';
import type { Recipe } from './recipe.ts';
import { scoreAt, type Scorer } from './scorer.ts';
import { trunksOf, validationSubnets, type Trunk } from './uniform-settings.ts';

/** What is scored after that phase; the full net is one net, judged by the ensemble of its exits. */
export function validationTrunks(space: Space, recipe: Recipe, phase: Phase, seed: number): Trunk[] {
  return trunksOf(validationSubnets(space, phase, recipe.validation.subnets, randomStream(seed, 'validation', phase.name)));
}

/** Mean top-1; null where the scorer was aborted. */
export async function meanAccuracy(
  weights: Weights,
  space: Space,
  recipe: Recipe,
  phase: Phase,
  trunks: readonly Trunk[],
  score: Scorer,
): Promise<number | null> {
  const accuracies: number[] = [];
  for (const { subnet, heights } of trunks) {
    const scored = await score(weights, subnet, [{ of: 'validation', images: recipe.validation.images }]);
    const scores = scored?.[0];
    if (scores === undefined) return null;
    if (phase.kind === 'full') accuracies.push(scores.ensemble);
    else accuracies.push(...heights.map((height) => scoreAt(space, scores, height)));
  }
  return mean(accuracies);
}

export function mean(values: readonly number[]): number {
  return values.reduce((sum, value) => sum + value, 0) / values.length;
}
