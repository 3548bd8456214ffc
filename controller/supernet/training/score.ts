// Accuracy of a subnet inside the supernet, with batch-norm statistics recomputed for it first: the supernet's own running averages are a
// mixture over all subnets and useless for one.
import * as tf from '@tensorflow/tfjs';
import type { Space } from '../../space.ts';
import type { Subnet } from '../../subnet.ts';
import type { ImageSet } from '../data/dataset.ts';
import { toInput, type View } from '../data/preprocess.ts';
import type { Weights } from '../elastic.ts';
import { forward, type Pass } from '../supernet.ts';

const BATCH = 100;

type Statistics = ReadonlyMap<string, { readonly mean: tf.Tensor1D; readonly variance: tf.Tensor1D }>;

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
      ({ statistics } = forward(weights, space, subnet, inputOf(set, batch, space, subnet.resolution), { kind: 'batch' }));
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

/** Top-1 over the first `count` images of `set`, in [0, 1]; null where `signal` aborted. */
export async function accuracyOf(
  weights: Weights,
  space: Space,
  subnet: Subnet,
  statistics: Statistics,
  set: ImageSet,
  count: number,
  signal?: AbortSignal,
): Promise<number | null> {
  let right = 0;
  const total = Math.min(count, set.count);
  for (let start = 0; start < total; start += BATCH) {
    if (await isStopped(signal)) return null;
    const views = Array.from({ length: Math.min(BATCH, total - start) }, (_, i) => ({ index: start + i }));
    const best = tf.tidy(() => {
      const { logits } = forward(weights, space, subnet, inputOf(set, views, space, subnet.resolution), { kind: 'running', statistics });
      return tf.argMax(logits[0] as tf.Tensor2D, 1);
    });
    const predicted = await best.data();
    best.dispose();
    for (const { index } of views) if (predicted[index - start] === set.labels[index]) right++;
  }
  return right / total;
}

export function inputOf(set: ImageSet, views: readonly View[], space: Space, resolution: number): tf.Tensor4D {
  return tf.tensor4d(toInput(set, views, space, resolution, 'NHWC'), [views.length, resolution, resolution, space.inputChannels]);
}

export function disposeStatistics(statistics: Statistics): void {
  for (const { mean, variance } of statistics.values()) tf.dispose([mean, variance]);
}
