// What TensorFlow.js's WebAssembly backend lacks for training, supplied: it ships without the gradients of convolutions, and does several
// others slowly. Kernels are registered by their names, so that every gradient of TensorFlow.js finds them.
import * as tf from '@tensorflow/tfjs';
import { filterGradient, inputGradient, matrixProduct, pointwise, transposedProduct, type ConvAttributes } from './wasm/convolutions.ts';
import { depthwise, depthwiseFilterGradient, depthwiseInputGradient } from './wasm/depthwise-convolutions.ts';
import { openHeap, type Heap } from './wasm/heap.ts';
import { batchNorm, batchNormGradient, elementwise, imageSums, inFours, scaled } from './wasm/norms.ts';

/** Kernels of our own, beside TensorFlow.js's; `layers.ts` uses them where they are registered. */
export const OWN_KERNELS = {
  /** {x, gamma, beta}, {epsilon} -> y, mean, biased variance */
  batchNorm: 'BatchNormOfBatch',
  /** {dy, x, gamma, mean, variance}, {epsilon} -> gradients to x, gamma, beta */
  batchNormGradient: 'BatchNormOfBatchGradient',
  /** {dy, x} */
  reluGradient: 'ReluGradient',
  /** {x} */
  hSwish: 'HSwish',
  /** {dy, x} */
  hSwishGradient: 'HSwishGradient',
} as const;

type Inputs = Readonly<Record<string, tf.Tensor>>;
type Attributes = Readonly<Record<string, unknown>>;
type Kernel = (inputs: Inputs, attributes: Attributes) => tf.TensorInfo | tf.TensorInfo[];
type Shape4 = [number, number, number, number];

/** Makes the WebAssembly backend, which must be selected and ready, able to train. A second call does nothing. */
export function registerTrainingKernels(): void {
  if (tf.getKernel(OWN_KERNELS.batchNorm, 'wasm') != null) return;
  const heap = openHeap();
  const kernels: Readonly<Record<string, Kernel>> = { ...convolutions(heap), ...own(heap), ...faster(heap) };
  for (const [kernelName, kernel] of Object.entries(kernels)) {
    if (tf.getKernel(kernelName, 'wasm') != null) tf.unregisterKernel(kernelName, 'wasm');
    tf.registerKernel({
      kernelName,
      backendName: 'wasm',
      kernelFunc: ({ inputs, attrs }) => kernel(inputs as unknown as Inputs, attrs ?? {}),
    });
  }
}

function convolutions(heap: Heap): Record<string, Kernel> {
  const conv = (attributes: Attributes) => attributes as unknown as ConvAttributes;
  return {
    Conv2DBackpropFilter: ({ x, dy }, attributes) =>
      filterGradient(heap, x as tf.Tensor4D, dy as tf.Tensor4D, attributes['filterShape'] as Shape4, conv(attributes)),
    Conv2DBackpropInput: ({ dy, filter }, attributes) =>
      inputGradient(heap, dy as tf.Tensor4D, filter as tf.Tensor4D, attributes['inputShape'] as Shape4, conv(attributes)),
    DepthwiseConv2dNative: ({ x, filter }, attributes) => depthwise(heap, x as tf.Tensor4D, filter as tf.Tensor4D, conv(attributes)),
    DepthwiseConv2dNativeBackpropInput: ({ dy, filter }, attributes) =>
      depthwiseInputGradient(heap, dy as tf.Tensor4D, filter as tf.Tensor4D, attributes['inputShape'] as Shape4, conv(attributes)),
    DepthwiseConv2dNativeBackpropFilter: ({ x, dy }, attributes) =>
      depthwiseFilterGradient(heap, x as tf.Tensor4D, dy as tf.Tensor4D, attributes['filterShape'] as Shape4, conv(attributes)),
  };
}

function own(heap: Heap): Record<string, Kernel> {
  const tensors = (inputs: Inputs, ...names: string[]) => names.map((name) => inputs[name] as tf.Tensor);
  return {
    [OWN_KERNELS.batchNorm]: (inputs, { epsilon }) => {
      const [x, gamma, beta] = tensors(inputs, 'x', 'gamma', 'beta') as [tf.Tensor, tf.Tensor, tf.Tensor];
      return batchNorm(heap, x, gamma, beta, epsilon as number);
    },
    [OWN_KERNELS.batchNormGradient]: (inputs, { epsilon }) => {
      const [dy, x, gamma, mean, variance] = tensors(inputs, 'dy', 'x', 'gamma', 'mean', 'variance');
      return batchNormGradient(
        heap,
        ...([dy, x, gamma, mean, variance] as [tf.Tensor, tf.Tensor, tf.Tensor, tf.Tensor, tf.Tensor]),
        epsilon as number,
      );
    },
    [OWN_KERNELS.reluGradient]: (inputs) => elementwise(heap, 'reluGradient', ...tensors(inputs, 'dy', 'x')),
    [OWN_KERNELS.hSwish]: (inputs) => elementwise(heap, 'hSwish', ...tensors(inputs, 'x')),
    [OWN_KERNELS.hSwishGradient]: (inputs) => elementwise(heap, 'hSwishGradient', ...tensors(inputs, 'dy', 'x')),
  };
}

/** Kernels that the backend has, with a quick way for the shapes that training meets, and its own way for all others. */
function faster(heap: Heap): Record<string, Kernel> {
  const shipped = (name: string) => {
    const config = tf.getKernel(name, 'wasm');
    const backend = tf.backend();
    return (inputs: Inputs, attributes: Attributes) => config.kernelFunc({ inputs: inputs, attrs: attributes as tf.NamedAttrMap, backend });
  };
  const [conv, matMul, multiply, sum, mean] = ['Conv2D', 'BatchMatMul', 'Multiply', 'Sum', 'Mean'].map(shipped) as [
    Kernel,
    Kernel,
    Kernel,
    Kernel,
    Kernel,
  ];

  /** Sums over height and width of [N, H, W, C]. */
  const overImages =
    (otherwise: Kernel, factor: (pixels: number) => number): Kernel =>
    (inputs, attributes) => {
      const x = inputs['x'] as tf.Tensor;
      const axes = tf.util.parseAxisParam(attributes['axis'] as number[], x.shape);
      if (x.rank !== 4 || !inFours(x) || axes.join() !== '1,2') return otherwise(inputs, attributes);
      const [batch, height, width, channels] = x.shape as Shape4;
      const shape = attributes['keepDims'] === true ? [batch, 1, 1, channels] : [batch, channels];
      return imageSums(heap, x, shape, factor(height * width));
    };

  return {
    Conv2D: (inputs, attributes) => {
      const [x, filter] = [inputs['x'] as tf.Tensor4D, inputs['filter'] as tf.Tensor4D];
      return pointwise(heap, x, filter, attributes as unknown as ConvAttributes) ?? conv(inputs, attributes);
    },
    BatchMatMul: (inputs, attributes) => {
      const { transposeA, transposeB } = attributes;
      const [a, b] = [inputs['a'] as tf.Tensor, inputs['b'] as tf.Tensor];
      const single = [a, b].every(({ size, shape }) => size === (shape.at(-1) as number) * (shape.at(-2) as number));
      if (!single || a.rank !== b.rank) return matMul(inputs, attributes);
      const product = tf.tidy(() => {
        const matrix = (t: tf.Tensor) => tf.reshape<tf.Rank.R2>(t, t.shape.slice(-2) as [number, number]);
        const right = transposeB === true ? tf.transpose(matrix(b)) : matrix(b);
        const result = transposeA === true ? transposedProduct(heap, matrix(a), right) : matrixProduct(heap, matrix(a), right);
        return result && tf.reshape(result, [...a.shape.slice(0, -2), ...result.shape]);
      });
      return product ?? matMul(inputs, attributes);
    },
    // The shipped kernel copies, and every tensor kept for a gradient goes through it.
    Identity: ({ x }) => {
      const { dataId, shape, dtype } = x as tf.Tensor;
      (tf.backend() as unknown as { incRef(dataId: object): void }).incRef(dataId);
      return { dataId, shape, dtype };
    },
    // Squeeze-and-excitation scales every channel of an image.
    Multiply: (inputs, attributes) => {
      const [a, b] = [inputs['a'] as tf.Tensor, inputs['b'] as tf.Tensor];
      /** x [N, H, W, C], by [N, 1, 1, C] */
      const scales = (x: tf.Tensor, by: tf.Tensor) => {
        const [batch, height, width, channels] = x.shape;
        const broadcast = x.rank === 4 && by.shape.join() === [batch, 1, 1, channels].join() && height !== 1 && width !== 1;
        return broadcast && inFours(x) && inFours(by);
      };
      if (scales(a, b)) return scaled(heap, a, b);
      return scales(b, a) ? scaled(heap, b, a) : multiply(inputs, attributes);
    },
    Sum: overImages(sum, () => 1),
    Mean: overImages(mean, (pixels) => 1 / pixels),
  };
}
