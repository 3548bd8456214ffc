// Batch norm by the batch's own statistics, activations, and sums and products per channel on WebAssembly, each in as few passes over the
// memory as the mathematics allows. All tensors end in channels, a multiple of 4 of them.
import type * as tf from '@tensorflow/tfjs';
import type { Heap } from './heap.ts';

interface Rows {
  readonly rows: number;
  readonly channels: number;
}

function rowsOf(x: tf.Tensor): Rows {
  const channels = x.shape[x.rank - 1] as number;
  return { rows: x.size / channels, channels };
}

/** Elementwise work needs no channels: the whole tensor as rows of one vector. */
function flat(x: tf.Tensor): Rows {
  return { rows: x.size / 4, channels: 4 };
}

/** Whether the machine code can take it: values in fours, channel by channel. */
export function inFours(x: tf.TensorInfo): boolean {
  return x.dtype === 'float32' && x.shape.length > 0 && (x.shape[x.shape.length - 1] as number) % 4 === 0;
}

/** x [.., C], gamma and beta [C] -> y like x, mean and biased variance [C]. */
export function batchNorm(heap: Heap, x: tf.Tensor, gamma: tf.Tensor, beta: tf.Tensor, epsilon: number): tf.Tensor[] {
  const { rows, channels } = rowsOf(x);
  const [y, mean, variance] = [heap.tensor(x.shape), heap.tensor([channels]), heap.tensor([channels])];
  heap.scratch(2 * channels, (factor) => {
    const shift = factor + 4 * channels;
    const values = (tensor: tf.Tensor) => heap.floats(heap.address(tensor), channels);
    const [means, variances] = [values(mean).fill(0), values(variance).fill(0)];
    heap.call.total(rows, channels, heap.address(x), heap.address(mean));
    for (let c = 0; c < channels; c++) means[c] = (means[c] as number) / rows;
    heap.call.totalOfSquares(rows, channels, heap.address(x), heap.address(mean), heap.address(variance));
    const [gammas, betas] = [values(gamma), values(beta)];
    const [factors, shifts] = [heap.floats(factor, channels), heap.floats(shift, channels)];
    for (let c = 0; c < channels; c++) {
      variances[c] = (variances[c] as number) / rows;
      factors[c] = (gammas[c] as number) / Math.sqrt((variances[c] as number) + epsilon);
      shifts[c] = (betas[c] as number) - (means[c] as number) * (factors[c] as number);
    }
    heap.call.affine(heap.address(y), rows, channels, heap.address(x), factor, shift);
  });
  return [y, mean, variance];
}

/** Gradients to x, gamma and beta; mean and variance as `batchNorm` gave them. */
export function batchNormGradient(
  heap: Heap,
  dy: tf.Tensor,
  x: tf.Tensor,
  gamma: tf.Tensor,
  mean: tf.Tensor,
  variance: tf.Tensor,
  epsilon: number,
): tf.Tensor[] {
  const { rows, channels } = rowsOf(x);
  const [dx, dgamma, dbeta] = [heap.tensor(x.shape), heap.tensor([channels]), heap.tensor([channels])];
  heap.scratch(3 * channels, (a) => {
    const [b, c] = [a + 4 * channels, a + 8 * channels];
    const values = (tensor: tf.Tensor) => heap.floats(heap.address(tensor), channels);
    const [sums, products] = [values(dbeta).fill(0), values(dgamma).fill(0)];
    heap.call.normTotals(rows, channels, heap.address(dy), heap.address(x), heap.address(mean), heap.address(dbeta), heap.address(dgamma));
    const [means, variances, gammas] = [values(mean), values(variance), values(gamma)];
    const [as, bs, cs] = [heap.floats(a, channels), heap.floats(b, channels), heap.floats(c, channels)];
    // dx = gamma / s · (dy - mean(dy) - (x - mean) / s² · mean(dy · (x - mean))), s the standard deviation: linear in dy and x.
    for (let i = 0; i < channels; i++) {
      const deviation = Math.sqrt((variances[i] as number) + epsilon);
      const factor = (gammas[i] as number) / deviation;
      const slope = (-factor * (products[i] as number)) / (rows * deviation * deviation);
      as[i] = factor;
      bs[i] = slope;
      cs[i] = (-factor * (sums[i] as number)) / rows - slope * (means[i] as number);
      products[i] = (products[i] as number) / deviation;
    }
    heap.call.affine2(heap.address(dx), rows, channels, heap.address(dy), heap.address(x), a, b, c);
  });
  return [dx, dgamma, dbeta];
}

/** One of the maps without coefficients, e.g. `hSwishGradient` of dy and x. */
export function elementwise(heap: Heap, name: 'reluGradient' | 'hSwish' | 'hSwishGradient', ...inputs: tf.Tensor[]): tf.Tensor {
  const [first] = inputs as [tf.Tensor];
  const out = heap.tensor(first.shape);
  const { rows, channels } = flat(first);
  heap.call[name](heap.address(out), rows, channels, ...inputs.map((input) => heap.address(input)));
  return out;
}

/** x [N, H, W, C] · factors [N, 1, 1, C] */
export function scaled(heap: Heap, x: tf.Tensor, factors: tf.Tensor): tf.Tensor {
  const out = heap.tensor(x.shape);
  forEachImage(x, (image, pixels, channels, n) => {
    heap.call.scale(heap.address(out) + image, pixels, channels, heap.address(x) + image, heap.address(factors) + 4 * channels * n);
  });
  return out;
}

/** Sum over height and width, times `factor`: [N, H, W, C] -> N · C values in the given shape. */
export function imageSums(heap: Heap, x: tf.Tensor, shape: readonly number[], factor: number): tf.Tensor {
  const out = heap.tensor(shape);
  const sums = heap.floats(heap.address(out), out.size).fill(0);
  forEachImage(x, (image, pixels, channels, n) => {
    heap.call.total(pixels, channels, heap.address(x) + image, heap.address(out) + 4 * channels * n);
  });
  if (factor !== 1) for (let i = 0; i < sums.length; i++) sums[i] = (sums[i] as number) * factor;
  return out;
}

/** `visit` gets the offset of each image in bytes, its pixels, its channels and its number. */
function forEachImage(x: tf.Tensor, visit: (image: number, pixels: number, channels: number, n: number) => void): void {
  const [batch, height, width, channels] = x.shape as [number, number, number, number];
  for (let n = 0; n < batch; n++) visit(4 * n * height * width * channels, height * width, channels, n);
}
