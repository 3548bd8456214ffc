// Pools of 2x2 pixels at stride 2, for the strided branches of parallel blocks: [batch, H, W, C] -> [batch, ceil(H / 2), ceil(W / 2), C], a last odd row
// or column by itself. Not by TensorFlow.js's own pools, whose gradients are wrong: of the mean at odd sides on the plain backend and WebAssembly, of the
// maximum of negative pixels on WebAssembly.
import * as tf from '@tensorflow/tfjs';

/** Below every activation, and finite: a product with it is a number. */
const LEAST = -1e30;

export function maxOfSquares(x: tf.Tensor4D): tf.Tensor4D {
  const squares = toSquares(evenSided(x, LEAST));
  const [batch, rows, , columns, , channels] = squares.shape as [number, number, number, number, number, number];
  const corner = (a: number, b: number): tf.Tensor4D =>
    tf.reshape(tf.slice(squares, [0, 0, a, 0, b, 0], [batch, rows, 1, columns, 1, channels]), [batch, rows, columns, channels]);
  return tf.maximum(tf.maximum(corner(0, 0), corner(0, 1)), tf.maximum(corner(1, 0), corner(1, 1)));
}

/** Pixels beyond the map count in neither the sum nor the number. */
export function meanOfSquares(x: tf.Tensor4D): tf.Tensor4D {
  const [, height, width] = x.shape;
  const [rows, columns] = [Math.ceil(height / 2), Math.ceil(width / 2)];
  const sums: tf.Tensor4D = tf.sum(toSquares(evenSided(x, 0)), [2, 4]);
  const count = (at: number, side: number) => Math.min(2, side - 2 * at);
  const counts = Float32Array.from(
    { length: rows * columns },
    (_, i) => count(Math.floor(i / columns), height) * count(i % columns, width),
  );
  return tf.div(sums, tf.tensor4d(counts, [1, rows, columns, 1]));
}

/** [batch, 2h, 2w, C] -> [batch, h, 2, w, 2, C] */
function toSquares(x: tf.Tensor4D): tf.Tensor {
  const [batch, height, width, channels] = x.shape;
  return tf.reshape(x, [batch, height / 2, 2, width / 2, 2, channels]);
}

function evenSided(x: tf.Tensor4D, filling: number): tf.Tensor4D {
  const [, height, width] = x.shape;
  if (height % 2 === 0 && width % 2 === 0) return x;
  return tf.pad(
    x,
    [
      [0, 0],
      [0, height % 2],
      [0, width % 2],
      [0, 0],
    ],
    filling,
  );
}
