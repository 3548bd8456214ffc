// The elastic operators of Once-For-All (arXiv 1908.09791): kernels through learned transforms, channels as prefixes of sorted ones.
import * as tf from '@tensorflow/tfjs';
import { matMul } from './layers.ts';
import { kernelMatrixName } from './parameters.ts';

/** Tensors of a supernet by parameter name. */
export type Weights = ReadonlyMap<string, tf.Tensor>;

export function weight<R extends tf.Rank>(weights: Weights, name: string): tf.Tensor<R> {
  const tensor = weights.get(name);
  if (tensor === undefined) throw new Error(`The supernet has no tensor "${name}".`);
  return tensor as tf.Tensor<R>;
}

/** The first `length` entries along `axis`; the tensor itself where that is all. */
export function prefix<T extends tf.Tensor>(tensor: T, axis: number, length: number): T {
  return prefixes(
    tensor,
    tensor.shape.map((side, i) => (i === axis ? length : side)),
  );
}

/** The first entries along every axis, as many as `shape` says; the tensor itself where that is all. */
export function prefixes<T extends tf.Tensor>(tensor: T, shape: readonly number[]): T {
  if (shape.every((side, i) => side === tensor.shape[i])) return tensor;
  return tf.slice(tensor, new Array<number>(tensor.rank).fill(0), [...shape]);
}

/**
 * Depthwise filter [kernel, kernel, channels, 1] out of the stored largest one [K, K, C, 1]. Each step down takes the centre of the
 * previous, already transformed kernel and multiplies it, flattened row by row, by a matrix that all channels share.
 * `kernels` ascends and ends with K.
 */
export function elasticFilter(
  weights: Weights,
  depthwise: string,
  kernels: readonly number[],
  kernel: number,
  channels: number,
): tf.Tensor4D {
  let filter = prefix(weight<tf.Rank.R4>(weights, `${depthwise}.weight`), 2, channels);
  for (let i = kernels.length - 1; i > 0 && (kernels[i] as number) > kernel; i--) {
    const [to, from] = [kernels[i - 1] as number, kernels[i] as number];
    const start = (from - to) / 2;
    const centre = tf.slice(filter, [start, start, 0, 0], [to, to, channels, 1]);
    const matrix = weight<tf.Rank.R2>(weights, kernelMatrixName(depthwise, from, to));
    filter = tf.reshape(matMul(matrix, tf.reshape(centre, [to * to, channels])), [to, to, channels, 1]);
  }
  return filter;
}
