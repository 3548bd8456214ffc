// Depthwise convolutions on WebAssembly, forward and backward: image by image and four channels at a time through a scratch plane.
import * as tf from '@tensorflow/tfjs';
import { geometryOf, type ConvAttributes, type Geometry } from './convolutions.ts';
import { CELL } from './depthwise.ts';
import type { Heap } from './heap.ts';

type Shape4 = [number, number, number, number];
const FLOATS = CELL / 4;

/** x [N, H, W, C], filter [k, k, C, 1] -> [N, h, w, C] */
export function depthwise(heap: Heap, x: tf.Tensor4D, filter: tf.Tensor4D, attributes: ConvAttributes): tf.TensorInfo {
  return inFours([x, 3], [filter, 2], (x4, filter4) => {
    const geometry = geometryOf(x4.shape, filter4.shape, attributes, true);
    const { batch, rows, columns, channels } = geometry;
    const out = heap.tensor<tf.Rank.R4>([batch, rows, columns, channels]);
    correlatePlanes(heap, x4, filter4, out, geometry);
    return out;
  });
}

/** dy [N, h, w, C], filter [k, k, C, 1] -> [N, H, W, C] */
export function depthwiseInputGradient(
  heap: Heap,
  dy: tf.Tensor4D,
  filter: tf.Tensor4D,
  [batch, height, width]: Shape4,
  attributes: ConvAttributes,
): tf.TensorInfo {
  return inFours([dy, 3], [filter, 2], (dy4, filter4) => {
    const shape: Shape4 = [batch, height, width, dy4.shape[3]];
    const geometry = geometryOf(shape, filter4.shape, attributes, true);
    const out = heap.tensor<tf.Rank.R4>(shape);
    const { side, stride, top, left } = geometry;
    if (stride > 1) {
      scatterPlanes(heap, dy4, filter4, out, geometry);
    } else {
      // At stride 1 it is a correlation of dy with the filter turned by 180 degrees.
      const turned = tf.reverse(filter4, [0, 1]);
      const [rows, columns] = [height, width];
      const backwards = { height: geometry.rows, width: geometry.columns, rows, columns, top: side - 1 - top, left: side - 1 - left };
      correlatePlanes(heap, dy4, turned, out, { ...geometry, ...backwards });
    }
    return out;
  });
}

/** x [N, H, W, C], dy [N, h, w, C] -> [k, k, C, 1] */
export function depthwiseFilterGradient(
  heap: Heap,
  x: tf.Tensor4D,
  dy: tf.Tensor4D,
  [side]: Shape4,
  attributes: ConvAttributes,
): tf.TensorInfo {
  return tf.tidy(() => {
    const channels = x.shape[3];
    const [x4, dy4] = [paddedTo4(x, 3), paddedTo4(dy, 3)];
    const shape: Shape4 = [side, side, x4.shape[3], 1];
    const out = heap.tensor<tf.Rank.R4>(shape);
    sumTaps(heap, x4, dy4, out, geometryOf(x4.shape, shape, attributes, true));
    return x4 === x ? out : tf.slice(out, [0, 0, 0, 0], [side, side, channels, 1]);
  });
}

/** The plane that the filter walks over: the input with its zeros, as far as the filter reaches. */
function planeOf({ rows, columns, side, stride, top, left, height, width }: Geometry) {
  const [planeRows, planeColumns] = [(rows - 1) * stride + side, (columns - 1) * stride + side];
  return {
    floats: planeRows * planeColumns * FLOATS,
    row: planeColumns * CELL,
    /** Offset of the input's first pixel, and how much of the input is reached. */
    interior: (top * planeColumns + left) * CELL,
    reachedRows: Math.min(height, planeRows - top),
    reachedColumns: Math.min(width, planeColumns - left),
  };
}

function correlatePlanes(heap: Heap, x: tf.Tensor, filter: tf.Tensor, out: tf.Tensor, geometry: Geometry): void {
  const { batch, height, width, channels, rows, columns, side, stride } = geometry;
  const plane = planeOf(geometry);
  const taps = side * side;
  const pixel = 4 * channels;
  const [from, weights, to] = [heap.address(x), heap.address(filter), heap.address(out)];
  const { copyCells } = heap.call;
  const { correlate } = heap.depthwise(side, stride);
  heap.scratch(plane.floats + taps * FLOATS, (area) => {
    const tapCells = area + 4 * plane.floats;
    heap.floats(area, plane.floats).fill(0);
    for (let c = 0; c < pixel; c += CELL) {
      copyCells(weights + c, 0, pixel, tapCells, 0, CELL, 1, taps);
      for (let n = 0; n < batch; n++) {
        const image = from + n * height * width * pixel + c;
        copyCells(image, width * pixel, pixel, area + plane.interior, plane.row, CELL, plane.reachedRows, plane.reachedColumns);
        correlate(area, plane.row, tapCells, to + n * rows * columns * pixel + c, columns * pixel, pixel, rows, columns);
      }
    }
  });
}

function scatterPlanes(heap: Heap, dy: tf.Tensor, filter: tf.Tensor, out: tf.Tensor, geometry: Geometry): void {
  const { batch, height, width, channels, rows, columns, side, stride } = geometry;
  const plane = planeOf(geometry);
  const taps = side * side;
  const pixel = 4 * channels;
  const [from, weights, to] = [heap.address(dy), heap.address(filter), heap.address(out)];
  const { copyCells } = heap.call;
  const { scatter } = heap.depthwise(side, stride);
  if (plane.reachedRows < height || plane.reachedColumns < width) heap.floats(to, out.size).fill(0);
  heap.scratch(plane.floats + (taps + rows * columns) * FLOATS, (area) => {
    const tapCells = area + 4 * plane.floats;
    const dyCells = tapCells + taps * CELL;
    const cells = heap.floats(area, plane.floats);
    for (let c = 0; c < pixel; c += CELL) {
      copyCells(weights + c, 0, pixel, tapCells, 0, CELL, 1, taps);
      for (let n = 0; n < batch; n++) {
        cells.fill(0);
        copyCells(from + n * rows * columns * pixel + c, 0, pixel, dyCells, 0, CELL, 1, rows * columns);
        scatter(area, plane.row, tapCells, dyCells, rows, columns);
        const image = to + n * height * width * pixel + c;
        copyCells(area + plane.interior, plane.row, CELL, image, width * pixel, pixel, plane.reachedRows, plane.reachedColumns);
      }
    }
  });
}

function sumTaps(heap: Heap, x: tf.Tensor, dy: tf.Tensor, out: tf.Tensor, geometry: Geometry): void {
  const { batch, height, width, channels, rows, columns, side, stride } = geometry;
  const plane = planeOf(geometry);
  const taps = side * side;
  const pixel = 4 * channels;
  const [from, fromDy, to] = [heap.address(x), heap.address(dy), heap.address(out)];
  const { copyCells } = heap.call;
  const { gatherTaps } = heap.depthwise(side, stride);
  heap.scratch(plane.floats + (taps + rows * columns) * FLOATS, (area) => {
    const tapCells = area + 4 * plane.floats;
    const dyCells = tapCells + taps * CELL;
    heap.floats(area, plane.floats).fill(0);
    for (let c = 0; c < pixel; c += CELL) {
      heap.floats(tapCells, taps * FLOATS).fill(0);
      for (let n = 0; n < batch; n++) {
        const image = from + n * height * width * pixel + c;
        copyCells(image, width * pixel, pixel, area + plane.interior, plane.row, CELL, plane.reachedRows, plane.reachedColumns);
        copyCells(fromDy + n * rows * columns * pixel + c, 0, pixel, dyCells, 0, CELL, 1, rows * columns);
        gatherTaps(area, plane.row, dyCells, rows, columns, tapCells);
      }
      copyCells(tapCells, 0, CELL, to + c, 0, pixel, 1, taps);
    }
  });
}

/** Zeros after the last channel up to a multiple of 4; the tensor itself where it is one. */
function paddedTo4<T extends tf.Tensor>(x: T, axis: number): T {
  const missing = -(x.shape[axis] as number) & 3;
  if (missing === 0) return x;
  return tf.pad(
    x,
    x.shape.map((_, i): [number, number] => [0, i === axis ? missing : 0]),
  );
}

/** Runs `kernel` with channels filled up to a multiple of 4, and cuts its result [.., C] back. */
function inFours(
  [a, axisA]: readonly [tf.Tensor4D, number],
  [b, axisB]: readonly [tf.Tensor4D, number],
  kernel: (a: tf.Tensor4D, b: tf.Tensor4D) => tf.Tensor4D,
): tf.TensorInfo {
  return tf.tidy(() => {
    const result = kernel(paddedTo4(a, axisA), paddedTo4(b, axisB));
    const channels = a.shape[axisA] as number;
    return result.shape[3] === channels ? result : tf.slice(result, [0, 0, 0, 0], [...result.shape.slice(0, 3), channels] as Shape4);
  });
}
