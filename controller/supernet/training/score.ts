// Accuracy of a subnet inside the supernet, with batch-norm statistics recomputed for it first: the supernet's own running averages are a
// mixture over all subnets and useless for one.
import * as tf from '@tensorflow/tfjs';
import type { Space } from '../../space.ts';
import type { Subnet } from '../../subnet.ts';
import { evaluationView, type Evaluation } from '../data/augmentation.ts';
import type { ImageSet } from '../data/dataset.ts';
import type { View } from '../data/preprocess.ts';
import type { Weights } from '../elastic.ts';
import { forward, type Pass } from '../supernet.ts';
import { inputOf } from './batches.ts';
import { ensembleLogits } from './distill.ts';

const BATCH = 100;

/** By norm name; of the convolutions of every exit on the way too. */
export type Statistics = ReadonlyMap<string, { readonly mean: tf.Tensor1D; readonly variance: tf.Tensor1D }>;

/** Lets signals in between two batches; whether to stop. */
async function isStopped(signal: AbortSignal | undefined): Promise<boolean> {
  await new Promise(setImmediate);
  return signal?.aborted === true;
}

/**
 * Mean and biased variance of each batch norm, averaged over the views' batches weighted by their size. The caller disposes of them. null
 * where `signal` aborted.
 */
export async function calibratedStatistics(
  weights: Weights,
  space: Space,
  subnet: Subnet,
  set: ImageSet,
  views: readonly View[],
  signal?: AbortSignal,
): Promise<Statistics | null> {
  const sums = new Map<string, { mean: tf.Tensor1D; variance: tf.Tensor1D }>();
  for (let start = 0; start < views.length; start += BATCH) {
    if (await isStopped(signal)) {
      disposeStatistics(sums);
      return null;
    }
    const batch = views.slice(start, start + BATCH);
    const share = batch.length / views.length;
    let statistics: Pass['statistics'] = new Map();
    tf.tidy(() => {
      ({ statistics } = forward(weights, space, subnet, inputOf(set, batch, space, subnet.resolution), { kind: 'batch' }, 'all'));
    });
    for (const [name, { mean, variance }] of statistics) {
      const before = sums.get(name);
      const add = (sum: tf.Tensor1D | undefined, value: tf.Tensor1D): tf.Tensor1D =>
        tf.tidy(() => (sum === undefined ? tf.mul(value, share) : tf.add(sum, tf.mul(value, share))));
      sums.set(name, { mean: add(before?.mean, mean), variance: add(before?.variance, variance) });
      tf.dispose([mean, variance, ...(before === undefined ? [] : [before.mean, before.variance])]);
    }
  }
  return sums;
}

export interface Scores {
  /** Top-1 in [0, 1] of each exit on the way, first stage first; of the last alone where the space has single exits. */
  readonly exits: readonly number[];
  /** Top-1 of the weighted sum of all those exits' logits. */
  readonly ensemble: number;
}

/** Over the first `count` images of `set`, each exit weighed by `weights` in the ensemble; null where `signal` aborted. */
export async function scoresOf(
  weights: Weights,
  space: Space,
  subnet: Subnet,
  statistics: Statistics,
  images: { readonly set: ImageSet; readonly count: number; readonly evaluation: Evaluation },
  exitWeights: readonly number[],
  signal?: AbortSignal,
): Promise<Scores | null> {
  const { set, evaluation } = images;
  const total = Math.min(images.count, set.count);
  const right = new Array<number>(exitWeights.length + 1).fill(0);
  for (let start = 0; start < total; start += BATCH) {
    if (await isStopped(signal)) return null;
    const views = Array.from({ length: Math.min(BATCH, total - start) }, (_, i) => evaluationView(evaluation, start + i));
    const answers = tf.tidy(() => {
      const { logits } = forward(
        weights,
        space,
        subnet,
        inputOf(set, views, space, subnet.resolution),
        { kind: 'running', statistics },
        'all',
      );
      const nets = logits.length === 1 ? logits : [...logits, ensembleLogits(logits, exitWeights)];
      return tf.stack(nets.map((net) => tf.argMax(net, 1)));
    });
    const predicted = await answers.data(); // net by net, image by image
    answers.dispose();
    predicted.forEach((answer, i) => {
      if (answer === set.labels[start + (i % views.length)])
        right[Math.floor(i / views.length)] = (right[Math.floor(i / views.length)] ?? 0) + 1;
    });
  }
  const shares = right.map((count) => count / total);
  const exits = shares.slice(0, exitWeights.length);
  return { exits, ensemble: (exits.length === 1 ? exits[0] : shares[exits.length]) as number };
}

export function disposeStatistics(statistics: Statistics): void {
  for (const { mean, variance } of statistics.values()) tf.dispose([mean, variance]);
}
