// One training step: some subnets see the same batch one after the other, their gradients are summed, then the weights move once.
import * as tf from '@tensorflow/tfjs';
import type { Space } from '../../space.ts';
import { largestSubnet, smallestSubnet, type Subnet } from '../../subnet.ts';
import type { ParameterKind } from '../parameters.ts';
import { forward, type Mode, type Pass } from '../supernet.ts';
import type { Batch } from './batches.ts';
import { crossEntropy, distillationLoss, ensembleTarget, jointLoss } from './distill.ts';
import { exitWeights } from './exit-weights.ts';
import { lossAndGradients } from './gradients.ts';
import { drawSubnet, type Phase } from './phases.ts';
import { randomStream, type Random } from './random.ts';
import type { Recipe } from './recipe.ts';
import { updateStatistics } from './running-statistics.ts';
import { sgdStep } from './sgd.ts';
import { teach, type Teacher } from './teacher.ts';
import type { Tensors } from './tensors.ts';

/** What a step moves. Invariant: `weights` and `momenta` hold live tensors; a step replaces those that it trained. */
export interface Trainee {
  readonly space: Space;
  readonly recipe: Recipe;
  /** Names that may be trained; those without a gradient in a step stay as they are. */
  readonly trained: readonly string[];
  readonly kinds: ReadonlyMap<string, ParameterKind>;
  readonly weights: Tensors;
  readonly momenta: Tensors;
}

/** One subnet's part in a step. */
interface Lesson {
  readonly subnet: Subnet;
  readonly exits: 'own' | 'all';
  readonly dropout: number;
  readonly loss: (pass: Pass) => tf.Scalar;
}

/** Trains step `step` of `phase` on `batch` (which stays the caller's); the loss of each subnet. `teacher` null: the labels alone teach. */
export async function trainStep(
  trainee: Trainee,
  phase: Phase,
  step: number,
  batch: Batch,
  teacher: Teacher | null,
  rate: number,
  seed: number,
): Promise<number[]> {
  const { space, recipe, weights } = trainee;
  const { x } = batch;
  const target = teacher === null ? null : teach(teacher, space, recipe, batch.resolution, x);
  const lessons = phase.kind === 'sandwich' ? sandwichOf : lessonsOf;
  const gradients = new Map<string, tf.Tensor[]>();
  const losses: number[] = [];
  const kept: tf.Tensor[] = target === null ? [] : [target];
  const keep = (tensor: tf.Tensor2D) => {
    kept.push(tf.keep(tensor));
    return tensor;
  };
  for (const lesson of lessons(trainee, phase, batch, target, randomStream(seed, 'subnets', phase.name, step), keep)) {
    const mode: Mode = {
      kind: 'train',
      dropout: dropoutMasks(lesson.dropout, randomStream(seed, 'dropout', phase.name, step, losses.length)),
    };
    let pass: Pass | null = null;
    const result = lossAndGradients(weights, trainee.trained, () => {
      pass = forward(weights, space, lesson.subnet, x, mode, lesson.exits);
      return lesson.loss(pass);
    });
    losses.push((await result.loss.data<'float32'>())[0] as number);
    result.loss.dispose();
    for (const [name, gradient] of result.gradients) gradients.set(name, [...(gradients.get(name) ?? []), gradient]);
    updateStatistics(weights, (pass as unknown as Pass).statistics);
  }
  const sums = new Map([...gradients].map(([name, parts]) => [name, sumAndDispose(parts)]));
  sgdStep(weights, trainee.momenta, sums, trainee.kinds, rate, recipe);
  tf.dispose([...kept, ...sums.values()]);
  return losses;
}

/** The full phase trains the largest net with all its exits; fine-tuning its one subnet; every other phase subnets that are drawn. */
function* lessonsOf({ space, recipe }: Trainee, phase: Phase, batch: Batch, target: tf.Tensor2D | null, random: Random): Iterable<Lesson> {
  const { resolution, targets } = batch;
  const { dropout } = phase;
  if (phase.kind === 'full') {
    yield {
      subnet: { ...largestSubnet(space), resolution },
      exits: 'all',
      dropout,
      loss: ({ logits }) => jointLossOf(recipe, targets, logits),
    };
    return;
  }
  for (let i = 0; i < phase.subnetsPerStep; i++) {
    const subnet = phase.only ?? drawSubnet(phase.choices, resolution, random);
    const loss = ({ logits: [logits] }: Pass) =>
      target === null
        ? crossEntropy(targets, logits as tf.Tensor2D)
        : distillationLoss(target, targets, logits as tf.Tensor2D, recipe.distillation.loss);
    yield { subnet, exits: 'own', dropout, loss };
  }
}

/**
 * Largest, smallest, and random ones between (BigNAS, arXiv 2003.11142): the first learns the labels by all its exits, the others its answer,
 * which is taken as a constant. Only the largest drops features.
 */
function* sandwichOf(
  { space, recipe }: Trainee,
  phase: Phase,
  { resolution, targets }: Batch,
  _target: null | tf.Tensor2D,
  random: Random,
  keep: (tensor: tf.Tensor2D) => tf.Tensor2D,
): Iterable<Lesson> {
  const { loss } = recipe.distillation;
  let answer: tf.Tensor2D | null = null;
  yield {
    subnet: { ...largestSubnet(space), resolution },
    exits: 'all',
    dropout: phase.dropout,
    loss: ({ logits }) => {
      answer = keep(ensembleTarget(logits, exitWeights(logits.length, recipe.distillation.exitWeights), loss));
      return jointLossOf(recipe, targets, logits);
    },
  };
  for (let i = 1; i < phase.subnetsPerStep; i++) {
    const subnet = i === 1 ? { ...smallestSubnet(space), resolution } : drawSubnet(phase.choices, resolution, random);
    yield {
      subnet,
      exits: 'own',
      dropout: 0,
      loss: ({ logits: [logits] }) => {
        const goal = answer as unknown as tf.Tensor2D;
        const own = logits as tf.Tensor2D;
        return loss === 'ce' ? crossEntropy(goal, own) : tf.mean(tf.squaredDifference(goal, own));
      },
    };
  }
}

function jointLossOf(recipe: Recipe, targets: tf.Tensor2D, logits: readonly tf.Tensor2D[]): tf.Scalar {
  return jointLoss(targets, logits, exitWeights(logits.length, recipe.distillation.exitWeights));
}

function dropoutMasks(rate: number, random: Random): (shape: [number, number]) => tf.Tensor2D | null {
  if (rate === 0) return () => null;
  return ([rows, columns]) =>
    tf.tensor2d(
      Float32Array.from({ length: rows * columns }, () => (random.uniform() < rate ? 0 : 1 / (1 - rate))),
      [rows, columns],
    );
}

function sumAndDispose(parts: tf.Tensor[]): tf.Tensor {
  if (parts.length === 1) return parts[0] as tf.Tensor;
  const sum = tf.addN(parts);
  tf.dispose(parts);
  return sum;
}
