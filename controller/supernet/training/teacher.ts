// The teacher of ENS-KD (OFAv2, arXiv 2302.01888): the largest net with all its exits, as an earlier phase left it. It sees the student's
// batch with that batch's statistics, drops nothing, and its running statistics stay as they are.
import * as tf from '@tensorflow/tfjs';
import type { Space } from '../../space.ts';
import { largestSubnet } from '../../subnet.ts';
import { forward, type Pass } from '../supernet.ts';
import { ensembleTarget } from './distill.ts';
import { exitWeights, restrictedWeights } from './exit-weights.ts';
import { allChoices, type Phase } from './phases.ts';
import type { Recipe } from './recipe.ts';
import { disposeStatistics } from './score.ts';
import type { Tensors } from './tensors.ts';

export interface Teacher {
  readonly weights: Tensors;
  /** One for each exit that answers, first stage first; sum 1. */
  readonly exitWeights: readonly number[];
}

/** Said in a run's metadata, since other implementations differ here. */
export const TEACHER_MODE = 'batch statistics, no dropout, running statistics untouched; weighted sum of logits';

/** Where the teacher of phase number `phase` comes from: the index of the phase whose best weights it has; null where there is none. */
export function teacherPhase(recipe: Recipe, phases: readonly Phase[], phase: number): number | null {
  const { kind } = phases[phase] as Phase;
  if (kind === 'full' || kind === 'sandwich' || kind === 'finetune') return null;
  return recipe.distillation.teacher === 'pet' ? phase - 1 : 0;
}

/** Weights of the teacher's exits, where `source` is the phase that left it. Only the full phase trains all exits at once. */
export function teacherExitWeights(space: Space, recipe: Recipe, source: Phase): number[] {
  const exits = space.exits === 'early' ? space.stages.length : 1;
  const weights = exitWeights(exits, recipe.distillation.exitWeights);
  if (exits === 1 || !recipe.distillation.trainedExitsOnly) return weights;
  return restrictedWeights(weights, source.kind === 'full' ? allChoices(space).heights : source.choices.heights);
}

/** What the student is to learn from x at that resolution: [batch, classes]; the caller disposes of it. */
export function teach(teacher: Teacher, space: Space, recipe: Recipe, resolution: number, x: tf.Tensor4D): tf.Tensor2D {
  let statistics: Pass['statistics'] = new Map();
  const target = tf.tidy(() => {
    const pass = forward(teacher.weights, space, { ...largestSubnet(space), resolution }, x, { kind: 'batch' }, 'all');
    ({ statistics } = pass);
    return ensembleTarget(pass.logits, teacher.exitWeights, recipe.distillation.loss);
  });
  disposeStatistics(statistics);
  return target;
}
