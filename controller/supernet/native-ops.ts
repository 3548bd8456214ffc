// The operators of TensorFlow's native backend that TensorFlow.js does not offer, or offers slowly: batch norm by the batch's statistics, gradients
// of activations, depthwise convolutions.
import * as tf from '@tensorflow/tfjs';

/** The operation interface of the native backend that TensorFlow.js does not declare. */
export interface NativeBackend {
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

/** The backend in use where it is the native one. */
export function native(): NativeBackend | null {
  return tf.getBackend() === 'tensorflow' ? (tf.backend() as unknown as NativeBackend) : null;
}

function floatType({ binding }: NativeBackend): object {
  return { name: 'T', type: binding.TF_ATTR_TYPE, value: binding.TF_FLOAT };
}

/** An operator of float32 tensors and no other attribute, e.g. `ReluGrad` of dy and x. */
export function execute(backend: NativeBackend, name: string, ...inputs: tf.Tensor[]): tf.Tensor {
  return backend.executeSingleOutput(name, [floatType(backend)], inputs);
}

interface Constants {
  readonly three: tf.Tensor;
  readonly sixth: tf.Tensor;
  /** No values at all. */
  readonly none: tf.Tensor;
}
const constants = new WeakMap<NativeBackend, Constants>();

/** Made once: a scalar anew for each of a thousand operators of a step takes as long as a small operator. */
function constantsOf(backend: NativeBackend): Constants {
  const known = constants.get(backend);
  if (known !== undefined) return known;
  const made = { three: tf.keep(tf.scalar(3)), sixth: tf.keep(tf.scalar(1 / 6)), none: tf.keep(tf.tensor1d([])) };
  constants.set(backend, made);
  return made;
}

/** a · b of matrices: `MatMul`, since what TensorFlow.js calls for it hands even the smallest product to other threads. */
function product(backend: NativeBackend, a: tf.Tensor, b: tf.Tensor, transposeA = false, transposeB = false): tf.Tensor {
  const { TF_ATTR_BOOL } = backend.binding;
  const attributes = [
    floatType(backend),
    { name: 'transpose_a', type: TF_ATTR_BOOL, value: transposeA },
    { name: 'transpose_b', type: TF_ATTR_BOOL, value: transposeB },
  ];
  return backend.executeSingleOutput('MatMul', attributes, [a, b]);
}

/** a [m, k] · b [k, n] */
export function matrixProduct(backend: NativeBackend, a: tf.Tensor2D, b: tf.Tensor2D): tf.Tensor2D {
  const op = tf.customGrad((...args) => {
    const [left, right, save] = args as unknown as [tf.Tensor2D, tf.Tensor2D, tf.GradSaveFunc];
    save([left, right]);
    const gradFunc = (dy: tf.Tensor2D, saved: tf.Tensor[]) => {
      const [leftSaved, rightSaved] = saved as [tf.Tensor2D, tf.Tensor2D];
      return [product(backend, dy, rightSaved, false, true), product(backend, leftSaved, dy, true, false)];
    };
    return { value: product(backend, left, right) as tf.Tensor2D, gradFunc };
  });
  return op(a, b);
}

/** 1x1 convolution of few pixels: x [N, H, W, in], filter [1, 1, in, out] -> [N, H, W, out]. */
export function pointwise(backend: NativeBackend, x: tf.Tensor4D, filter: tf.Tensor4D): tf.Tensor4D {
  const [batch, height, width, from] = x.shape;
  const to = filter.shape[3];
  const pixels = batch * height * width;
  const op = tf.customGrad((...args) => {
    const [input, kernel, save] = args as unknown as [tf.Tensor4D, tf.Tensor4D, tf.GradSaveFunc];
    const [rows, matrix] = [tf.reshape(input, [pixels, from]), tf.reshape(kernel, [from, to])];
    save([rows, matrix]);
    const gradFunc = (dy: tf.Tensor4D, saved: tf.Tensor[]) => {
      const [rowsSaved, matrixSaved] = saved as [tf.Tensor, tf.Tensor];
      const change = tf.reshape(dy, [pixels, to]);
      return [
        tf.reshape(product(backend, change, matrixSaved, false, true), x.shape),
        tf.reshape(product(backend, rowsSaved, change, true, false), filter.shape),
      ];
    };
    return { value: tf.reshape<tf.Rank.R4>(product(backend, rows, matrix), [batch, height, width, to]), gradFunc };
  });
  return op(x, filter);
}

/** x · relu6(x + 3) / 6 */
export function hardSwish<T extends tf.Tensor>(backend: NativeBackend, x: T): T {
  const op = tf.customGrad((...args) => {
    const [input, save] = args as unknown as [tf.Tensor, tf.GradSaveFunc];
    const { three, sixth } = constantsOf(backend);
    const gate = execute(backend, 'Relu6', execute(backend, 'Add', input, three));
    save([input, gate]);
    const gradFunc = (dy: tf.Tensor, saved: tf.Tensor[]) => {
      const [inputSaved, gateSaved] = saved as [tf.Tensor, tf.Tensor];
      const direct = execute(backend, 'Mul', dy, gateSaved);
      // The gate lies between 0 and 6 where its argument does.
      const throughGate = execute(backend, 'Relu6Grad', execute(backend, 'Mul', dy, inputSaved), gateSaved);
      return execute(backend, 'Mul', execute(backend, 'Add', direct, throughGate), sixth);
    };
    return { value: execute(backend, 'Mul', execute(backend, 'Mul', input, gate), sixth), gradFunc };
  });
  return op(x) as T;
}

/** x [N, H, W, C], gamma and beta [C] -> y, mean and biased variance as gradients need them, mean and unbiased variance left out. */
export function fusedBatchNorm(backend: NativeBackend, x: tf.Tensor4D, gamma: tf.Tensor1D, beta: tf.Tensor1D, epsilon: number) {
  const { none } = constantsOf(backend);
  const outputs = backend.executeMultipleOutputs('FusedBatchNormV3', normAttributes(backend, epsilon), [x, gamma, beta, none, none], 6);
  const [y, , , mean, variance, reserve] = outputs as [tf.Tensor4D, tf.Tensor, tf.Tensor, tf.Tensor1D, tf.Tensor1D, tf.Tensor];
  return { y, mean, variance, reserve };
}

/** `saved`: x, gamma, mean, variance, reserve. Gradients to x, gamma, beta. */
export function fusedBatchNormGradient(backend: NativeBackend, dy: tf.Tensor4D, saved: readonly tf.Tensor[], epsilon: number): tf.Tensor[] {
  return backend.executeMultipleOutputs('FusedBatchNormGradV3', normAttributes(backend, epsilon), [dy, ...saved], 5).slice(0, 3);
}

function normAttributes(backend: NativeBackend, epsilon: number): object[] {
  const { TF_ATTR_FLOAT, TF_ATTR_STRING, TF_ATTR_BOOL, TF_ATTR_TYPE, TF_FLOAT } = backend.binding;
  return [
    { name: 'epsilon', type: TF_ATTR_FLOAT, value: epsilon },
    { name: 'data_format', type: TF_ATTR_STRING, value: 'NHWC' },
    { name: 'is_training', type: TF_ATTR_BOOL, value: true },
    floatType(backend),
    { name: 'U', type: TF_ATTR_TYPE, value: TF_FLOAT },
  ];
}

/** Mean over height and width, [N, H, W, C] -> [N, C], with a gradient that makes no map of ones. */
export function spatialMean(x: tf.Tensor4D): tf.Tensor2D {
  const { shape } = x;
  const [batch, height, width, channels] = shape;
  const op = tf.customGrad((...args) => {
    const [input] = args as unknown as [tf.Tensor4D];
    const gradFunc = (dy: tf.Tensor) => {
      const part = tf.reshape(tf.mul(dy, 1 / (height * width)), [batch, 1, 1, channels]);
      return height * width === 1 ? part : tf.tile(part, [1, height, width, 1]);
    };
    return { value: tf.mean(input, [1, 2]), gradFunc };
  });
  return op(x) as tf.Tensor2D;
}

/** A number: so many zeros on each of the four sides. */
type Padding = 'SAME' | 'VALID' | number;

function convAttributes(backend: NativeBackend, stride: number, padding: Padding): object[] {
  const { TF_ATTR_INT, TF_ATTR_STRING } = backend.binding;
  const attributes = [
    floatType(backend),
    { name: 'strides', type: TF_ATTR_INT, value: [1, stride, stride, 1] },
    { name: 'padding', type: TF_ATTR_STRING, value: typeof padding === 'string' ? padding : 'EXPLICIT' },
    { name: 'data_format', type: TF_ATTR_STRING, value: 'NHWC' },
    { name: 'dilations', type: TF_ATTR_INT, value: [1, 1, 1, 1] },
  ];
  if (typeof padding === 'string') return attributes;
  const zeros = [0, 0, padding, padding, padding, padding, 0, 0];
  return [...attributes, { name: 'explicit_paddings', type: TF_ATTR_INT, value: zeros }];
}

/**
 * x [N, H, W, C], filter [k, k, C, 1], k odd -> [N, ceil(H / stride), ceil(W / stride), C], floor(k / 2) zeros on each side. TensorFlow has two
 * implementations of each kernel and takes oneDNN's wherever the padding is not `EXPLICIT`; which is faster depends on shapes and directions.
 */
export function depthwise(backend: NativeBackend, x: tf.Tensor4D, filter: tf.Tensor4D, stride: number): tf.Tensor4D {
  const [k] = filter.shape;
  const op = tf.customGrad((...args) => {
    const [input, kernel, save] = args as unknown as [tf.Tensor4D, tf.Tensor4D, tf.GradSaveFunc];
    save([input, kernel]);
    const attributes = convAttributes(backend, stride, stride === 1 ? 'SAME' : Math.floor(k / 2));
    const value = backend.executeSingleOutput('DepthwiseConv2dNative', attributes, [input, kernel]) as tf.Tensor4D;
    const gradFunc = (dy: tf.Tensor4D, saved: tf.Tensor[]) => {
      const [inputSaved, kernelSaved] = saved as [tf.Tensor4D, tf.Tensor4D];
      return [
        depthwiseInputGradient(backend, inputSaved.shape, kernelSaved, dy, stride),
        depthwiseFilterGradient(backend, inputSaved, dy, k, stride),
      ];
    };
    return { value, gradFunc };
  });
  return op(x, filter);
}

/** oneDNN's kernel, on the padded map where the stride is 2, since `SAME` is not symmetric there. */
function depthwiseInputGradient(
  backend: NativeBackend,
  shape: tf.Tensor4D['shape'],
  filter: tf.Tensor4D,
  dy: tf.Tensor4D,
  stride: number,
): tf.Tensor {
  const [batch, height, width, channels] = shape;
  const [k] = filter.shape;
  const run = (sides: number[], padding: Padding) =>
    backend.executeSingleOutput('DepthwiseConv2dNativeBackpropInput', convAttributes(backend, stride, padding), [
      tf.tensor1d(sides, 'int32'),
      filter,
      dy,
    ]);
  if (stride === 1) return run(shape, 'SAME');
  const zeros = Math.floor(k / 2);
  const padded = [batch, height + 2 * zeros, width + 2 * zeros, channels];
  return tf.slice(run(padded, 'VALID'), [0, zeros, zeros, 0], shape);
}

/** Largest side of a map whose filter gradient is computed as a convolution by the gradient map: oneDNN has quick code up to there. */
const LARGEST_FILTER = 16;

/** [k, k, C, 1] out of x [N, H, W, C] and dy [N, h, w, C]. oneDNN's kernel of this gradient is quick for 3x3 alone. */
function depthwiseFilterGradient(backend: NativeBackend, x: tf.Tensor4D, dy: tf.Tensor4D, k: number, stride: number): tf.Tensor {
  const [batch, height, width, channels] = x.shape;
  const zeros = Math.floor(k / 2);
  if (stride === 1 && k > 3 && Math.max(height, width) <= LARGEST_FILTER) {
    // Each image and channel by itself is a convolution of x by the map dy; the sum over images is left.
    const byPlace = (map: tf.Tensor4D) => tf.transpose(map, [1, 2, 0, 3]);
    const maps = tf.reshape(byPlace(x), [1, height, width, batch * channels]);
    const filters = tf.reshape(byPlace(dy), [height, width, batch * channels, 1]);
    const attributes = convAttributes(backend, 1, zeros);
    const each = backend.executeSingleOutput('DepthwiseConv2dNative', attributes, [maps, filters]);
    return tf.reshape(tf.sum(tf.reshape(each, [k, k, batch, channels]), 2), [k, k, channels, 1]);
  }
  const padding = stride === 1 && k === 3 && Math.min(height, width) > 3 ? 'SAME' : zeros;
  return backend.executeSingleOutput('DepthwiseConv2dNativeBackpropFilter', convAttributes(backend, stride, padding), [
    x,
    tf.tensor1d([k, k, channels, 1], 'int32'),
    dy,
  ]);
}
