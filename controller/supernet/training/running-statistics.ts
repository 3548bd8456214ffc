// What training leaves in the running statistics of batch norms: a mixture over the subnets that were drawn.
import * as tf from '@tensorflow/tfjs';
import type { Pass } from '../supernet.ts';
import type { Tensors } from './tensors.ts';

/** As PyTorch counts it (Keras would say 0.9): running = 0.9 · running + 0.1 · batch. */
const BATCH_NORM_MOMENTUM = 0.1;

/**
 * Running statistics of each active prefix move a tenth of the way to the batch's mean and unbiased variance. Disposes of the batch's.
 * In plain JavaScript, after one reading of all of them: a thousand operators on short vectors took longer than their work.
 */
export function updateStatistics(weights: Tensors, statistics: Pass['statistics']): void {
  const vectors = [...statistics.values()].flatMap(({ mean, variance }) => [mean, variance]);
  if (vectors.length === 0) return;
  const values = tf.tidy(() => tf.concat1d(vectors).dataSync<'float32'>());
  let at = 0;
  for (const [name, { mean, variance, count }] of statistics) {
    const unbiased = count / Math.max(1, count - 1);
    for (const [key, { size }, factor] of [
      [`${name}.mean`, mean, 1],
      [`${name}.variance`, variance, unbiased],
    ] as const) {
      const running = weights.get(key) as tf.Tensor1D;
      const updated = running.dataSync<'float32'>().slice();
      for (let c = 0; c < size; c++) {
        updated[c] = (1 - BATCH_NORM_MOMENTUM) * (updated[c] as number) + BATCH_NORM_MOMENTUM * factor * (values[at + c] as number);
      }
      at += size;
      weights.set(key, tf.tensor1d(updated));
      running.dispose();
    }
  }
  tf.dispose(vectors);
}
