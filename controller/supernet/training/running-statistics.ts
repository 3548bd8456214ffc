// What training leaves in the running statistics of batch norms: a mixture over the subnets that were drawn.
import * as tf from '@tensorflow/tfjs';
import type { Pass } from '../supernet.ts';
import type { Tensors } from './tensors.ts';

/** As PyTorch counts it (Keras would say 0.9): running = 0.9 · running + 0.1 · batch. */
const BATCH_NORM_MOMENTUM = 0.1;

/** Running statistics of each active prefix move a tenth of the way to the batch's mean and unbiased variance. Disposes of the batch's. */
export function updateStatistics(weights: Tensors, statistics: Pass['statistics']): void {
  for (const [name, { mean: batchMean, variance, count }] of statistics) {
    const unbiased = count / Math.max(1, count - 1);
    for (const [key, value, factor] of [
      [`${name}.mean`, batchMean, 1],
      [`${name}.variance`, variance, unbiased],
    ] as const) {
      const running = weights.get(key) as tf.Tensor1D;
      const updated = tf.tidy(() => {
        const active = value.shape[0];
        const head = tf.slice(running, [0], [active]);
        const moved = tf.add(tf.mul(head, 1 - BATCH_NORM_MOMENTUM), tf.mul(value, BATCH_NORM_MOMENTUM * factor));
        return active === running.shape[0] ? moved : tf.concat([moved, tf.slice(running, [active], [-1])]);
      });
      weights.set(key, updated);
      tf.dispose([running, value]);
    }
  }
}
