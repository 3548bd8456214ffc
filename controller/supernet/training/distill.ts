// The losses: label smoothing, the joint loss of all exits, and ENS-KD, where the teacher's target is the weighted sum of its exits'
// logits (OFAv2, arXiv 2302.01888).
import * as tf from '@tensorflow/tfjs';
import { exitWeights } from './exit-weights.ts';
import type { DistillationLoss } from './recipe.ts';

/** (1 - smoothing) · onehot + smoothing / classes: [batch, classes] */
export function smoothedTargets(labels: ArrayLike<number>, classes: number, smoothing: number): tf.Tensor2D {
  const targets = new Float32Array(labels.length * classes).fill(smoothing / classes);
  for (let i = 0; i < labels.length; i++) targets[i * classes + (labels[i] as number)] = 1 - smoothing + smoothing / classes;
  return tf.tensor2d(targets, [labels.length, classes]);
}

/** Mean over the batch of -sum(target · log softmax(logits)). */
export function crossEntropy(targets: tf.Tensor2D, logits: tf.Tensor2D): tf.Scalar {
  return tf.neg(tf.mean(tf.sum(tf.mul(targets, tf.logSoftmax(logits)), 1)));
}

/** Full phase: the weighted sum of all exits' cross entropies. */
export function jointLoss(
  targets: tf.Tensor2D,
  logits: readonly tf.Tensor2D[],
  weights: readonly number[] = exitWeights(logits.length),
): tf.Scalar {
  return tf.addN(logits.map((exit, i) => tf.mul(crossEntropy(targets, exit), weights[i] as number)));
}

/** Weighted sum of the exits' logits, exits of weight 0 left out: [batch, classes] */
export function ensembleLogits(logits: readonly tf.Tensor2D[], weights: readonly number[] = exitWeights(logits.length)): tf.Tensor2D {
  const parts = logits.flatMap((exit, i) => ((weights[i] as number) === 0 ? [] : [tf.mul(exit, weights[i] as number)]));
  return tf.addN(parts) as tf.Tensor2D;
}

/** What the student learns from: the teacher's probabilities for `ce`, its logits for `mse`. [batch, classes] */
export function ensembleTarget(
  logits: readonly tf.Tensor2D[],
  weights: readonly number[] = exitWeights(logits.length),
  loss: DistillationLoss = 'ce',
): tf.Tensor2D {
  const ensemble = ensembleLogits(logits, weights);
  return loss === 'ce' ? tf.softmax(ensemble) : ensemble;
}

/** ENS-KD with ratio 1: the distance to the teacher plus the cross entropy to the smoothed labels. */
export function distillationLoss(
  teacher: tf.Tensor2D,
  targets: tf.Tensor2D,
  logits: tf.Tensor2D,
  loss: DistillationLoss = 'ce',
): tf.Scalar {
  if (loss === 'ce') return crossEntropy(tf.add(teacher, targets), logits);
  return tf.add(tf.mean(tf.squaredDifference(teacher, logits)), crossEntropy(targets, logits));
}
