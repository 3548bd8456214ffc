// What the trained supernet itself says, in TensorFlow.js: the judge of every exported model. Extraction, layouts and the graph lie
// between the two, so an error in any of them shows.
import * as tf from '@tensorflow/tfjs';
import type { Checkpoint } from '../supernet/checkpoint.ts';
import type { Weights } from '../supernet/elastic.ts';
import { normsOf, type ExtractedNet } from '../supernet/extracted-net.ts';
import { forward } from '../supernet/supernet.ts';
import type { InputImages } from './images.ts';

/** The supernet's tensors on the backend selected; they stay there. */
export function supernetWeights(checkpoint: Checkpoint): Weights {
  return new Map([...checkpoint.tensors].map(([name, { shape, data }]) => [name, tf.tensor(data, [...shape])]));
}

/** Logits [count, classes] of the subnet inside the supernet, its batch norms using the statistics of `net`. */
export async function supernetLogits(weights: Weights, net: ExtractedNet, images: InputImages): Promise<Float32Array> {
  const logits = tf.tidy(() => {
    const statistics = new Map(
      normsOf(net).map(({ mean, variance }) => [
        mean.name.replace(/\.mean$/, ''),
        { mean: tf.tensor1d(mean.data), variance: tf.tensor1d(variance.data) },
      ]),
    );
    const [channels, side] = images.shape as [number, number];
    const input = tf.transpose(tf.tensor4d(images.data, [images.count, channels, side, side]), [0, 2, 3, 1]); // NCHW -> NHWC
    return forward(weights, net.space, net.subnet, input, { kind: 'running', statistics }).logits[0] as tf.Tensor2D;
  });
  const values = await logits.data<'float32'>();
  logits.dispose();
  return values;
}
