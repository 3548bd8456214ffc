// Convolutions on WebAssembly by matrix products: the pixels under the filter become rows of a matrix where it is larger than 1x1.
import * as tf from '@tensorflow/tfjs';
import type { Heap } from './heap.ts';

export interface ConvAttributes {
  readonly strides: number | [number, number];
  readonly pad: 'same' | 'valid' | number;
  readonly dilations?: number | [number, number];
  readonly dimRoundingMode?: 'floor' | 'round' | 'ceil';
}

export interface Geometry {
  readonly batch: number;
  readonly height: number;
  readonly width: number;
  readonly channels: number;
  /** Side and channels of the result. */
  readonly rows: number;
  readonly columns: number;
  readonly filters: number;
  /** Side of the square filter. */
  readonly side: number;
  readonly stride: number;
  /** Zeros above and left of the input. */
  readonly top: number;
  readonly left: number;
}

type Shape4 = [number, number, number, number];

/** Of the left operand of a product: what stays in the second-level cache while the columns of the right one pass. */
const BLOCK_BYTES = 2 ** 17;

/** x [N, H, W, in], filter [1, 1, in, out] -> [N, H, W, out], undefined where it is another kind of convolution. */
export function pointwise(heap: Heap, x: tf.Tensor4D, filter: tf.Tensor4D, attributes: ConvAttributes): tf.Tensor4D | undefined {
  const [side, , channels, filters] = filter.shape;
  const { strides, dilations = 1 } = attributes;
  if (side !== 1 || [strides, dilations].flat().some((step) => step !== 1) || typeof attributes.pad !== 'string') return undefined;
  return tf.tidy(() => {
    const product = matrixProduct(heap, tf.reshape(x, [-1, channels]), tf.reshape(filter, [channels, filters]));
    return product && tf.reshape(product, [...x.shape.slice(0, 3), filters] as Shape4);
  });
}

/** Throws where the convolution is of a kind that no net of ours has: not square, or dilated. */
export function geometryOf(input: readonly number[], filter: readonly number[], attributes: ConvAttributes, depthwise: boolean): Geometry {
  const { strides, pad, dilations, dimRoundingMode } = attributes;
  const info = tf.backend_util.computeConv2DInfo(
    input as Shape4,
    filter as Shape4,
    strides,
    dilations ?? 1,
    pad,
    dimRoundingMode,
    depthwise,
  );
  const square = info.filterHeight === info.filterWidth && info.strideHeight === info.strideWidth;
  if (!square || info.dilationHeight !== 1 || info.dilationWidth !== 1 || (depthwise && filter[3] !== 1)) {
    throw new Error(
      `Training on WebAssembly knows square filters without dilation, and one filter a channel where depthwise; got filter [${filter.join(', ')}], strides ${String(strides)}, dilations ${String(dilations)}.`,
    );
  }
  return {
    batch: info.batchSize,
    height: info.inHeight,
    width: info.inWidth,
    channels: info.inChannels,
    rows: info.outHeight,
    columns: info.outWidth,
    filters: info.outChannels,
    side: info.filterHeight,
    stride: info.strideHeight,
    top: info.padInfo.top,
    left: info.padInfo.left,
  };
}

/** x [N, H, W, in], dy [N, h, w, out] -> [k, k, in, out] */
export function filterGradient(
  heap: Heap,
  x: tf.Tensor4D,
  dy: tf.Tensor4D,
  filterShape: Shape4,
  attributes: ConvAttributes,
): tf.TensorInfo {
  const geometry = geometryOf(x.shape, filterShape, attributes, false);
  return tf.tidy(() => {
    const pixels = isPointwise(geometry) ? tf.reshape(x, [-1, geometry.channels]) : patches(heap, x, geometry);
    const product = transposedProduct(heap, pixels as tf.Tensor2D, tf.reshape(dy, [-1, geometry.filters]));
    return tf.reshape(product, filterShape);
  });
}

/** dy [N, h, w, out], filter [k, k, in, out] -> [N, H, W, in] */
export function inputGradient(
  heap: Heap,
  dy: tf.Tensor4D,
  filter: tf.Tensor4D,
  inputShape: Shape4,
  attributes: ConvAttributes,
): tf.TensorInfo {
  const geometry = geometryOf(inputShape, filter.shape, attributes, false);
  return tf.tidy(() => {
    const matrix = tf.transpose(tf.reshape<tf.Rank.R2>(filter, [-1, geometry.filters]));
    const pixels = tf.matMul<tf.Tensor2D>(tf.reshape(dy, [-1, geometry.filters]), matrix); // [N·h·w, k·k·in]
    return isPointwise(geometry) ? tf.reshape(pixels, inputShape) : unpatched(heap, pixels, geometry);
  });
}

/** a [M, K], b [K, N] -> a · b, [M, N]; undefined where N is no multiple of 4, which the machine code asks for. */
export function matrixProduct(heap: Heap, a: tf.Tensor2D, b: tf.Tensor2D): tf.Tensor2D | undefined {
  const [[rows, inner], [, columns]] = [a.shape, b.shape];
  if (columns % 4 !== 0) return undefined;
  const out = heap.tensor<tf.Rank.R2>([rows, columns]);
  const rowsAtOnce = Math.max(48, Math.floor(BLOCK_BYTES / (4 * inner)));
  const row = 4 * columns;
  heap.scratch(inner * columns, (panels) => {
    const [fromA, fromB, to] = [heap.address(a), heap.address(b), heap.address(out)];
    // Each panel of columns in a row of its own, so that a tile reads it from one place.
    for (let column = 0; column < columns; column += 8) {
      const vectors = Math.min(2, (columns - column) / 4);
      heap.call.copyCells(fromB + 4 * column, row, 16, panels + 4 * column * inner, 16 * vectors, 16, inner, vectors);
    }
    for (let done = 0; done < rows; done += rowsAtOnce) {
      const block = Math.min(rowsAtOnce, rows - done);
      for (let column = 0; column < columns; column += 8) {
        const multiply = columns - column >= 8 ? heap.call.multiply8 : heap.call.multiply4;
        multiply(fromA + 4 * inner * done, panels + 4 * column * inner, to + row * done + 4 * column, block, inner, row);
      }
    }
  });
  return out;
}

/** a [M, I], b [M, O] -> a transposed · b, [I, O] */
export function transposedProduct(heap: Heap, a: tf.Tensor2D, b: tf.Tensor2D): tf.Tensor2D {
  return tf.tidy(() => {
    const [rows, inner] = a.shape;
    const columns = b.shape[1];
    const missing = -columns & 3; // the machine code takes four columns at a time
    const right = missing === 0 ? b : tf.pad(b, [[0, 0], [0, missing]]); // prettier-ignore
    const out = heap.tensor<tf.Rank.R2>([inner, columns + missing]);
    heap.floats(heap.address(out), out.size).fill(0);
    heap.call.transposedProduct(heap.address(a), heap.address(right), heap.address(out), rows, inner, columns + missing);
    return missing === 0 ? out : tf.slice(out, [0, 0], [inner, columns]);
  });
}

function isPointwise({ side, stride, top, left }: Geometry): boolean {
  return side === 1 && stride === 1 && top === 0 && left === 0;
}

/** The pixels under the filter, a row for each pixel of the result: [N, H, W, C] -> [N·h·w, k·k·C]. */
function patches(heap: Heap, x: tf.Tensor4D, geometry: Geometry): tf.Tensor2D {
  const { batch, rows, columns, side, channels } = geometry;
  const out = heap.tensor<tf.Rank.R2>([batch * rows * columns, side * side * channels]);
  const to = heap.floats(heap.address(out), out.size).fill(0);
  const from = heap.floats(heap.address(x), x.size);
  forEachTap(geometry, (pixel, patch) => {
    for (let c = 0; c < channels; c++) to[patch + c] = from[pixel + c] as number;
  });
  return out;
}

/** The sum of all patches at their places: [N·h·w, k·k·C] -> [N, H, W, C]. */
function unpatched(heap: Heap, patchRows: tf.Tensor2D, geometry: Geometry): tf.Tensor4D {
  const { batch, height, width, channels } = geometry;
  const out = heap.tensor<tf.Rank.R4>([batch, height, width, channels]);
  const to = heap.floats(heap.address(out), out.size).fill(0);
  const from = heap.floats(heap.address(patchRows), patchRows.size);
  forEachTap(geometry, (pixel, patch) => {
    for (let c = 0; c < channels; c++) to[pixel + c] = (to[pixel + c] as number) + (from[patch + c] as number);
  });
  return out;
}

/** Indices of the first channel of each pixel that a tap meets, and of the tap in its patch; taps outside of the image are left out. */
function forEachTap(geometry: Geometry, visit: (pixel: number, patch: number) => void): void {
  const { batch, height, width, channels, rows, columns, side, stride, top, left } = geometry;
  let patch = 0;
  for (let n = 0; n < batch; n++) {
    for (let row = 0; row < rows; row++) {
      for (let column = 0; column < columns; column++) {
        for (let i = 0; i < side; i++) {
          const y = row * stride + i - top;
          for (let j = 0; j < side; j++, patch += channels) {
            const x = column * stride + j - left;
            if (y >= 0 && y < height && x >= 0 && x < width) visit(((n * height + y) * width + x) * channels, patch);
          }
        }
      }
    }
  }
}
