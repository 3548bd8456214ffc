// Value and gradients of a loss with respect to a supernet's weights, by name; weights that the loss does not use have no entry.
import * as tf from '@tensorflow/tfjs';
import type { Weights } from '../elastic.ts';

export interface LossAndGradients {
  readonly loss: tf.Scalar;
  readonly gradients: ReadonlyMap<string, tf.Tensor>;
}

/** The caller disposes of the loss and the gradients. */
export function lossAndGradients(weights: Weights, names: readonly string[], loss: () => tf.Scalar): LossAndGradients {
  const tensors = names.map((name) => weights.get(name) as tf.Tensor);
  const { value, grads } = tf.engine().gradients(loss, tensors, undefined, true) as { value: tf.Scalar; grads: (tf.Tensor | undefined)[] };
  const gradients = new Map<string, tf.Tensor>();
  grads.forEach((gradient, i) => {
    if (gradient != null) gradients.set(names[i] as string, gradient);
  });
  return { loss: value, gradients };
}
