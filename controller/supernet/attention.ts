// Attention over 7x7 neighbourhoods, the optional third branch of a parallel block (OFAv2, arXiv 2302.01888; after stand-alone self-attention,
// arXiv 1906.05909), for training. Defined at `Attention` in extracted-net.ts.
import * as tf from '@tensorflow/tfjs';
import { weight, type Weights } from './elastic.ts';
import { ATTENTION_SIDE } from './extracted-net.ts';
import { conv } from './layers.ts';
import { meanOfSquares } from './pools.ts';

/** x [batch, H, W, in] -> [batch, ceil(H / pool), ceil(W / pool), out]; `name` e.g. `stages.0.1.attention`. */
export function attention(weights: Weights, name: string, x: tf.Tensor4D, pool: 1 | 2): tf.Tensor4D {
  const project = (part: string) => conv(x, weight<tf.Rank.R4>(weights, `${name}.${part}.weight`), 1);
  const query = project('query');
  const channels = query.shape[3];
  const rows = tf.reshape(weight(weights, `${name}.rows`), [ATTENTION_SIDE, 1, channels / 2]);
  const columns = tf.reshape(weight(weights, `${name}.columns`), [1, ATTENTION_SIDE, channels / 2]);
  const everywhere = tf.zeros([ATTENTION_SIDE, ATTENTION_SIDE, channels / 2]);
  const offsets = tf.concat([tf.add(rows, everywhere), tf.add(columns, everywhere)], 2); // [7, 7, out]
  // [49, out] -> [1, 1, 1, out, 49]
  const byNeighbour = tf.reshape(tf.transpose(tf.reshape(offsets, [ATTENTION_SIDE ** 2, channels])), [1, 1, 1, channels, -1]);
  const keys = tf.add(neighbourhoods(project('key')), byNeighbour); // [batch, H, W, out, 49]
  const shares = tf.softmax(tf.mul(tf.expandDims(query, 4), keys));
  const y: tf.Tensor4D = tf.sum(tf.mul(shares, neighbourhoods(project('value'))), 4);
  return pool === 1 ? y : meanOfSquares(y);
}

/** [batch, H, W, C] -> [batch, H, W, C, 49], zeros beyond the map; neighbours row by row. */
function neighbourhoods(x: tf.Tensor4D): tf.Tensor {
  const [batch, height, width, channels] = x.shape;
  const side = Math.floor(ATTENTION_SIDE / 2);
  const padded = tf.pad(x, [
    [0, 0],
    [side, side],
    [side, side],
    [0, 0],
  ]);
  const shifts = Array.from({ length: ATTENTION_SIDE ** 2 }, (_, i) => [Math.floor(i / ATTENTION_SIDE), i % ATTENTION_SIDE] as const);
  return tf.stack(
    shifts.map(([row, column]) => tf.slice(padded, [0, row, column, 0], [batch, height, width, channels])),
    4,
  );
}
