// Differentiable layers on NHWC tensors: what TensorFlow.js has, with explicit padding, and with the fused kernels of the native backend
// where it computes, since the stock batch norm and relu gradients there take two thirds of a training step.
import * as tf from '@tensorflow/tfjs';
import { BATCH_NORM_EPSILON } from './extracted-net.ts';
import {
  depthwise,
  execute,
  fusedBatchNorm,
  fusedBatchNormGradient,
  hardSwish,
  matrixProduct,
  native,
  pointwise,
  spatialMean,
} from './native-ops.ts';
import { OWN_KERNELS } from './wasm-gradients.ts';

/** Batch statistics of one batch norm: mean and biased variance over `count` values per channel. Kept; the caller disposes of them. */
export interface BatchStatistics {
  readonly mean: tf.Tensor1D;
  readonly variance: tf.Tensor1D;
  readonly count: number;
}

/** Whether WebAssembly computes, made able to train (`wasm-gradients.ts`), and takes values in fours along the channels of x. */
function trainsOnWasm(x: tf.Tensor): boolean {
  return (x.shape.at(-1) as number) % 4 === 0 && tf.getKernel(OWN_KERNELS.batchNorm, tf.getBackend()) != null;
}

function run(kernel: string, inputs: tf.NamedTensorMap, attributes: tf.NamedAttrMap = {}): tf.Tensor[] {
  return ([] as tf.Tensor[]).concat(tf.engine().runKernel(kernel, inputs, attributes));
}

/** So few that a 1x1 convolution costs more than the product of matrices that it is. */
const FEW_PIXELS = 256;

/** a [m, k] · b [k, n] */
export function matMul(a: tf.Tensor2D, b: tf.Tensor2D): tf.Tensor2D {
  const backend = native();
  return backend === null ? tf.matMul(a, b) : matrixProduct(backend, a, b);
}

/** x [N, H, W, in], filter [k, k, in, out] -> [N, ceil(H / stride), ceil(W / stride), out]; floor(k / 2) zeros on each side. */
export function conv(x: tf.Tensor4D, filter: tf.Tensor4D, stride: number): tf.Tensor4D {
  const [batch, height, width] = x.shape;
  const [k] = filter.shape;
  const backend = native();
  if (backend !== null && k === 1 && stride === 1 && batch * height * width <= FEW_PIXELS) return pointwise(backend, x, filter);
  const [padded, mode] = pad(x, k, stride);
  return tf.conv2d(padded, filter, stride, mode);
}

/** x [N, H, W, C], filter [k, k, C, 1]. */
export function depthwiseConv(x: tf.Tensor4D, filter: tf.Tensor4D, stride: number): tf.Tensor4D {
  const reaching = withoutFarTaps(filter, Math.max(x.shape[1], x.shape[2]));
  const backend = native();
  if (backend !== null) return depthwise(backend, x, reaching, stride);
  const [padded, mode] = pad(x, reaching.shape[0], stride);
  return tf.depthwiseConv2d(padded, reaching, stride, mode);
}

/** Taps that lie beyond the map wherever the centre is meet zeros only: of a 7x7 filter on 2x2 pixels, 3x3 are left. */
function withoutFarTaps(filter: tf.Tensor4D, side: number): tf.Tensor4D {
  const [k, , channels] = filter.shape;
  const reach = 2 * side - 1;
  if (k <= reach) return filter;
  const start = (k - reach) / 2;
  return tf.slice(filter, [start, start, 0, 0], [reach, reach, channels, 1]);
}

/** TensorFlow's own 'same' is symmetric at stride 1 only, so the zeros are put there by hand at stride 2. */
function pad(x: tf.Tensor4D, kernel: number, stride: number): [tf.Tensor4D, 'same' | 'valid' | number] {
  const side = Math.floor(kernel / 2);
  if (stride === 1) return [x, 'same'];
  if (trainsOnWasm(x)) return [x, side];
  if (side === 0) return [x, 'valid'];
  return [
    tf.pad(x, [
      [0, 0],
      [side, side],
      [side, side],
      [0, 0],
    ]),
    'valid',
  ];
}

/** Normalises with given statistics (inference). All of shape [C]. */
export function normalise(x: tf.Tensor4D, gamma: tf.Tensor1D, beta: tf.Tensor1D, mean: tf.Tensor1D, variance: tf.Tensor1D): tf.Tensor4D {
  return tf.batchNorm(x, mean, variance, beta, gamma, BATCH_NORM_EPSILON);
}

/** Normalises with the statistics of the batch itself, differentiably, and returns them. */
export function normaliseByBatch(x: tf.Tensor4D, gamma: tf.Tensor1D, beta: tf.Tensor1D): [tf.Tensor4D, BatchStatistics] {
  const count = x.size / x.shape[3];
  const backend = native();
  if (backend === null && trainsOnWasm(x)) return normaliseOnWasm(x, gamma, beta);
  if (backend === null) {
    const { mean, variance } = tf.moments(x, [0, 1, 2]) as { mean: tf.Tensor1D; variance: tf.Tensor1D };
    const y = normalise(x, gamma, beta, mean, variance);
    return [y, { mean: tf.keep(mean.clone()), variance: tf.keep(variance.clone()), count }];
  }
  let statistics: BatchStatistics | null = null;
  const fused = tf.customGrad((...args) => {
    const [input, scale, offset, save] = args as unknown as [tf.Tensor4D, tf.Tensor1D, tf.Tensor1D, tf.GradSaveFunc];
    const { y, mean, variance, reserve } = fusedBatchNorm(backend, input, scale, offset, BATCH_NORM_EPSILON);
    statistics = { mean: tf.keep(mean.clone()), variance: tf.keep(variance.clone()), count };
    save([input, scale, mean, variance, reserve]);
    const gradFunc = (dy: tf.Tensor4D, saved: tf.Tensor[]) => fusedBatchNormGradient(backend, dy, saved, BATCH_NORM_EPSILON);
    return { value: y, gradFunc };
  });
  const y = fused(x, gamma, beta);
  return [y, statistics as unknown as BatchStatistics];
}

function normaliseOnWasm(x: tf.Tensor4D, gamma: tf.Tensor1D, beta: tf.Tensor1D): [tf.Tensor4D, BatchStatistics] {
  let statistics: BatchStatistics | null = null;
  const op = tf.customGrad((...args) => {
    const [input, scale, offset, save] = args as unknown as [tf.Tensor4D, tf.Tensor1D, tf.Tensor1D, tf.GradSaveFunc];
    const attributes = { epsilon: BATCH_NORM_EPSILON };
    const outputs = run(OWN_KERNELS.batchNorm, { x: input, gamma: scale, beta: offset }, attributes);
    const [y, mean, variance] = outputs as [tf.Tensor4D, tf.Tensor1D, tf.Tensor1D];
    statistics = { mean: tf.keep(mean.clone()), variance: tf.keep(variance.clone()), count: x.size / x.shape[3] };
    save([input, scale, mean, variance]);
    return {
      value: y,
      gradFunc: (dy: tf.Tensor4D, saved: tf.Tensor[]) => {
        const [xSaved, gammaSaved, meanSaved, varianceSaved] = saved as [tf.Tensor, tf.Tensor, tf.Tensor, tf.Tensor];
        const inputs = { dy, x: xSaved, gamma: gammaSaved, mean: meanSaved, variance: varianceSaved };
        return run(OWN_KERNELS.batchNormGradient, inputs, attributes);
      },
    };
  });
  const y = op(x, gamma, beta);
  return [y, statistics as unknown as BatchStatistics];
}

export function relu<T extends tf.Tensor>(x: T): T {
  const backend = native();
  if (backend === null && trainsOnWasm(x)) {
    return withGradient(x, tf.relu, (dy, input) => run(OWN_KERNELS.reluGradient, { dy, x: input })[0] as tf.Tensor);
  }
  if (backend === null) return tf.relu(x);
  return withGradient(
    x,
    (input) => execute(backend, 'Relu', input),
    (dy, input) => execute(backend, 'ReluGrad', dy, input),
  );
}

/** x · relu6(x + 3) / 6 */
export function hSwish<T extends tf.Tensor>(x: T): T {
  if (trainsOnWasm(x)) {
    return withGradient(
      x,
      (input) => run(OWN_KERNELS.hSwish, { x: input })[0] as tf.Tensor,
      (dy, input) => run(OWN_KERNELS.hSwishGradient, { dy, x: input })[0] as tf.Tensor,
    );
  }
  const backend = native();
  if (backend !== null) return hardSwish(backend, x);
  const value = (input: tf.Tensor) => tf.mul(tf.mul(input, tf.relu6(tf.add(input, 3))), 1 / 6);
  return withGradient(x, value, (dy, input) => {
    const shifted = tf.add(input, 3);
    const direct = tf.mul(dy, tf.relu6(shifted));
    return tf.mul(tf.add(direct, relu6Gradient(tf.mul(dy, input), shifted)), 1 / 6);
  });
}

/** relu6(x + 3) / 6 */
export function hSigmoid<T extends tf.Tensor>(x: T): T {
  const value = (input: tf.Tensor) => tf.mul(tf.relu6(tf.add(input, 3)), 1 / 6);
  return withGradient(x, value, (dy, input) => tf.mul(relu6Gradient(dy, tf.add(input, 3)), 1 / 6));
}

function relu6Gradient(dy: tf.Tensor, x: tf.Tensor): tf.Tensor {
  const backend = native();
  if (backend !== null) return execute(backend, 'Relu6Grad', dy, x);
  return tf.mul(dy, tf.cast(tf.logicalAnd(tf.greater(x, 0), tf.less(x, 6)), 'float32'));
}

/** x [N, C] + bias [C] */
export function addBias(x: tf.Tensor2D, bias: tf.Tensor1D): tf.Tensor2D {
  const op = tf.customGrad((...args) => {
    const [input, offset] = args as unknown as [tf.Tensor2D, tf.Tensor1D];
    return { value: tf.add<tf.Tensor2D>(input, offset), gradFunc: (dy: tf.Tensor2D) => [dy.clone(), tf.sum(dy, 0)] };
  });
  return op(x, bias);
}

function withGradient<T extends tf.Tensor>(
  x: T,
  value: (x: tf.Tensor) => tf.Tensor,
  gradient: (dy: tf.Tensor, x: tf.Tensor) => tf.Tensor,
): T {
  const op = tf.customGrad((...args) => {
    const [input, save] = args as unknown as [tf.Tensor, tf.GradSaveFunc];
    save([input]);
    return { value: value(input), gradFunc: (dy: tf.Tensor, [saved]: tf.Tensor[]) => gradient(dy, saved as tf.Tensor) };
  });
  return op(x) as T;
}

/** Mean over height and width: [N, H, W, C] -> [N, C]. */
export function globalMean(x: tf.Tensor4D): tf.Tensor2D {
  return native() === null ? tf.mean(x, [1, 2]) : spatialMean(x);
}
