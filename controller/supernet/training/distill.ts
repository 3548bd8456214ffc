// The losses: label smoothing, the joint loss of all exits, and ENS-KD, where the teacher's target is the softmax of the weighted sum of
// its exits' logits (OFAv2, arXiv 2302.01888).
import * as tf from '@tensorflow/tfjs';

/** Weights of exits 1..n, ascending, sum 1: i / (1 + ... + n), the `ascending` scheme of AEP (arXiv 2301.12168), unrounded. */
export function exitWeights(exits: number): number[] {
  return Array.from({ length: exits }, (_, i) => (2 * (i + 1)) / (exits * (exits + 1)));
}

/** (1 - smoothing) · onehot + smoothing / classes: [batch, classes] */
export function smoothedTargets(labels: Uint8Array, classes: number, smoothing: number): tf.Tensor2D {
  const targets = new Float32Array(labels.length * classes).fill(smoothing / classes);
  labels.forEach((label, i) => (targets[i * classes + label] = 1 - smoothing + smoothing / classes));
  return tf.tensor2d(targets, [labels.length, classes]);
}

/** Mean over the batch of -sum(target · log softmax(logits)). */
export function crossEntropy(targets: tf.Tensor2D, logits: tf.Tensor2D): tf.Scalar {
  return tf.neg(tf.mean(tf.sum(tf.mul(targets, tf.logSoftmax(logits)), 1)));
}

/** Full phase: the weighted sum of all exits' cross entropies. */
export function jointLoss(targets: tf.Tensor2D, logits: readonly tf.Tensor2D[]): tf.Scalar {
  const weights = exitWeights(logits.length);
  return tf.addN(logits.map((exit, i) => tf.mul(crossEntropy(targets, exit), weights[i] as number)));
}

/** softmax of the weighted sum of the teacher's logits: [batch, classes] */
export function ensembleTarget(logits: readonly tf.Tensor2D[]): tf.Tensor2D {
  const weights = exitWeights(logits.length);
  return tf.softmax(tf.addN(logits.map((exit, i) => tf.mul(exit, weights[i] as number))));
}

/** ENS-KD with ratio 1: cross entropy to the teacher plus cross entropy to the smoothed labels. */
export function distillationLoss(teacher: tf.Tensor2D, targets: tf.Tensor2D, logits: tf.Tensor2D): tf.Scalar {
  return crossEntropy(tf.add(teacher, targets), logits);
}
