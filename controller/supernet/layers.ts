// Differentiable layers on NHWC tensors: what TensorFlow.js has, with explicit padding, and with the fused kernels of the native backend
// where it computes, since the stock batch norm and relu gradients there take two thirds of a training step.
import * as tf from '@tensorflow/tfjs';
import { BATCH_NORM_EPSILON } from './extracted-net.ts';
import { OWN_KERNELS } from './wasm-gradients.ts';

/** Batch statistics of one batch norm: mean and biased variance over `count` values per channel. Kept; the caller disposes of them. */
export interface BatchStatistics {
  readonly mean: tf.Tensor1D;
  readonly variance: tf.Tensor1D;
  readonly count: number;
}

/** The operation interface of the native backend that TensorFlow.js does not declare. */
interface NativeBackend {
  readonly binding: {
    readonly TF_ATTR_TYPE: number;
    readonly TF_ATTR_FLOAT: number;
    readonly TF_ATTR_INT: number;
    readonly TF_ATTR_STRING: number;
    readonly TF_ATTR_BOOL: number;
    readonly TF_FLOAT: number;
  };
  executeSingleOutput(name: string, attributes: readonly object[], inputs: readonly tf.Tensor[]): tf.Tensor;
  executeMultipleOutputs(name: string, attributes: readonly object[], inputs: readonly tf.Tensor[], outputs: number): tf.Tensor[];
}

function native(): NativeBackend | null {
  return tf.getBackend() === 'tensorflow' ? (tf.backend() as unknown as NativeBackend) : null;
}

function floatType(backend: NativeBackend): object {
  return { name: 'T', type: backend.binding.TF_ATTR_TYPE, value: backend.binding.TF_FLOAT };
}

/** Whether WebAssembly computes, made able to train (`wasm-gradients.ts`), and takes values in fours along the channels of x. */
function trainsOnWasm(x: tf.Tensor): boolean {
  return (x.shape.at(-1) as number) % 4 === 0 && tf.getKernel(OWN_KERNELS.batchNorm, tf.getBackend()) != null;
}

function run(kernel: string, inputs: tf.NamedTensorMap, attributes: tf.NamedAttrMap = {}): tf.Tensor[] {
  return ([] as tf.Tensor[]).concat(tf.engine().runKernel(kernel, inputs, attributes));
}

/** x [N, H, W, in], filter [k, k, in, out] -> [N, ceil(H / stride), ceil(W / stride), out]; floor(k / 2) zeros on each side. */
export function conv(x: tf.Tensor4D, filter: tf.Tensor4D, stride: number): tf.Tensor4D {
  const [padded, mode] = pad(x, filter.shape[0], stride);
  return tf.conv2d(padded, filter, stride, mode);
}

/** x [N, H, W, C], filter [k, k, C, 1]. */
export function depthwiseConv(x: tf.Tensor4D, filter: tf.Tensor4D, stride: number): tf.Tensor4D {
  const [padded, mode] = pad(x, filter.shape[0], stride);
  const backend = native();
  if (backend === null || stride === 1 || filter.shape[0] < 5) return tf.depthwiseConv2d(padded, filter, stride, mode);
  const op = tf.customGrad((...args) => {
    const [input, kernel, save] = args as unknown as [tf.Tensor4D, tf.Tensor4D, tf.GradSaveFunc];
    save([input, kernel]);
    const gradFunc = (dy: tf.Tensor4D, saved: tf.Tensor[]) => {
      const [inputSaved, kernelSaved] = saved as [tf.Tensor4D, tf.Tensor4D];
      const sides = tf.tensor1d(inputSaved.shape, 'int32');
      const toInput = backend.executeSingleOutput('DepthwiseConv2dNativeBackpropInput', convAttributes(backend, 2), [
        sides,
        kernelSaved,
        dy,
      ]);
      return [toInput, filterGradientStride2(backend, inputSaved, dy, kernelSaved.shape[0])];
    };
    return { value: tf.depthwiseConv2d(input, kernel, 2, 'valid'), gradFunc };
  });
  return op(padded, filter);
}

function convAttributes(backend: NativeBackend, stride: number): object[] {
  const { TF_ATTR_INT, TF_ATTR_STRING } = backend.binding;
  return [
    floatType(backend),
    { name: 'strides', type: TF_ATTR_INT, value: [1, stride, stride, 1] },
    { name: 'padding', type: TF_ATTR_STRING, value: 'VALID' },
    { name: 'data_format', type: TF_ATTR_STRING, value: 'NHWC' },
    { name: 'dilations', type: TF_ATTR_INT, value: [1, 1, 1, 1] },
  ];
}

/**
 * Gradient to the filter of a depthwise convolution with stride 2. TensorFlow's own kernel is 2 to 5 times slower at 5x5 and 7x7 than
 * the same sum taken apart by parity: taps (2i + a, 2j + b) meet only the pixels of rows of parity a and columns of parity b, at stride 1.
 * x [N, H, W, C] padded, dy [N, h, w, C] -> [k, k, C, 1].
 */
function filterGradientStride2(backend: NativeBackend, x: tf.Tensor4D, dy: tf.Tensor4D, k: number): tf.Tensor4D {
  const [batch, height, width, channels] = x.shape;
  const [, rows, columns] = dy.shape;
  const even = tf.pad(x, [
    [0, 0],
    [0, height % 2],
    [0, width % 2],
    [0, 0],
  ]);
  const byParity = tf.reshape(even, [batch, Math.ceil(height / 2), 2, Math.ceil(width / 2), 2, channels]);
  const half = Math.ceil(k / 2);
  const parts = [0, 1].flatMap((a) =>
    [0, 1].map((b) => {
      const [taps, tapsAcross] = [Math.ceil((k - a) / 2), Math.ceil((k - b) / 2)];
      const [h, w] = [rows + taps - 1, columns + tapsAcross - 1];
      const pixels = tf.reshape(tf.slice(byParity, [0, 0, a, 0, b, 0], [batch, h, 1, w, 1, channels]), [batch, h, w, channels]);
      const sides = tf.tensor1d([taps, tapsAcross, channels, 1], 'int32');
      const part = backend.executeSingleOutput('DepthwiseConv2dNativeBackpropFilter', convAttributes(backend, 1), [pixels, sides, dy]);
      return tf.pad(tf.reshape(part, [taps, tapsAcross, channels]), [
        [0, half - taps],
        [0, half - tapsAcross],
        [0, 0],
      ]);
    }),
  );
  const woven = tf.transpose(tf.reshape(tf.stack(parts), [2, 2, half, half, channels]), [2, 0, 3, 1, 4]);
  return tf.reshape(tf.slice(tf.reshape(woven, [2 * half, 2 * half, channels]), [0, 0, 0], [k, k, channels]), [k, k, channels, 1]);
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
  const { TF_ATTR_FLOAT, TF_ATTR_STRING, TF_ATTR_BOOL, TF_ATTR_TYPE, TF_FLOAT } = backend.binding;
  const attributes = [
    { name: 'epsilon', type: TF_ATTR_FLOAT, value: BATCH_NORM_EPSILON },
    { name: 'data_format', type: TF_ATTR_STRING, value: 'NHWC' },
    { name: 'is_training', type: TF_ATTR_BOOL, value: true },
    floatType(backend),
    { name: 'U', type: TF_ATTR_TYPE, value: TF_FLOAT },
  ];
  let statistics: BatchStatistics | null = null;
  const fused = tf.customGrad((...args) => {
    const [input, scale, offset, save] = args as unknown as [tf.Tensor4D, tf.Tensor1D, tf.Tensor1D, tf.GradSaveFunc];
    const none = tf.tensor1d([]);
    const outputs = backend.executeMultipleOutputs('FusedBatchNormV3', attributes, [input, scale, offset, none, none], 6);
    const [y, , , mean, variance, reserve] = outputs as [tf.Tensor4D, tf.Tensor, tf.Tensor, tf.Tensor1D, tf.Tensor1D, tf.Tensor];
    statistics = { mean: tf.keep(mean.clone()), variance: tf.keep(variance.clone()), count };
    save([input, scale, mean, variance, reserve]);
    return {
      value: y,
      gradFunc: (dy: tf.Tensor4D, saved: tf.Tensor[]) =>
        backend.executeMultipleOutputs('FusedBatchNormGradV3', attributes, [dy, ...saved], 5).slice(0, 3),
    };
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

export function relu(x: tf.Tensor4D): tf.Tensor4D {
  const backend = native();
  if (backend === null && trainsOnWasm(x)) {
    return withGradient(x, tf.relu, (dy, input) => run(OWN_KERNELS.reluGradient, { dy, x: input })[0] as tf.Tensor);
  }
  if (backend === null) return tf.relu(x);
  return withGradient(x, tf.relu, (dy, input) => backend.executeSingleOutput('ReluGrad', [floatType(backend)], [dy, input]));
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
  const value = (input: tf.Tensor) => tf.mul(tf.mul(input, tf.relu6(tf.add(input, 3))), 1 / 6);
  return withGradient(x, value, (dy, input) => {
    const shifted = tf.add(input, 3);
    const direct = tf.mul(dy, tf.relu6(shifted));
    return tf.mul(tf.add(direct, relu6Gradient(tf.mul(dy, input), shifted)), 1 / 6);
  });
}

/** relu6(x + 3) / 6 */
export function hSigmoid(x: tf.Tensor4D): tf.Tensor4D {
  return tf.mul(tf.relu6(tf.add(x, 3)), 1 / 6);
}

function relu6Gradient(dy: tf.Tensor, x: tf.Tensor): tf.Tensor {
  const backend = native();
  if (backend !== null) return backend.executeSingleOutput('Relu6Grad', [floatType(backend)], [dy, x]);
  return tf.mul(dy, tf.cast(tf.logicalAnd(tf.greater(x, 0), tf.less(x, 6)), 'float32'));
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
  return tf.mean(x, [1, 2]);
}
