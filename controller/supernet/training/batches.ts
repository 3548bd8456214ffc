// The images of each step: which ones, at which resolution, seen how. All of it follows from the seed and the step's place in the run, so a
// resumed run sees what the uninterrupted one would have.
import * as tf from '@tensorflow/tfjs';
import type { Space } from '../../space.ts';
import { drawViews } from '../data/augmentation.ts';
import { permutation, type ImageSet } from '../data/dataset.ts';
import { toInput, type View } from '../data/preprocess.ts';
import { smoothedTargets } from './distill.ts';
import type { Phase } from './phases.ts';
import { randomStream, streamSeed } from './random.ts';
import type { Recipe } from './recipe.ts';

export interface Batch {
  readonly resolution: number;
  /** [batch, resolution, resolution, channels] */
  readonly x: tf.Tensor4D;
  /** Smoothed labels [batch, classes]. */
  readonly targets: tf.Tensor2D;
}

/** Views of training images that recalibrate batch norms are drawn with the once-for-all code's seed. */
const CALIBRATION_SEED = 937162211;

/** Gives step `step` of a phase; an epoch is every training image once, those that fill no batch left out. The caller disposes of a batch. */
export function createBatches(space: Space, recipe: Recipe, images: ImageSet, seed: number): (phase: Phase, step: number) => Batch {
  const stepsPerEpoch = Math.floor(images.count / recipe.batch);
  let order = new Uint32Array();
  let orderOf = '';
  return (phase, step) => {
    const epoch = Math.floor(step / stepsPerEpoch);
    if (orderOf !== `${phase.name} ${epoch}`) {
      order = permutation(images.count, streamSeed(seed, 'order', phase.name, epoch)) as typeof order;
      orderOf = `${phase.name} ${epoch}`;
    }
    const indices = order.subarray((step % stepsPerEpoch) * recipe.batch, ((step % stepsPerEpoch) + 1) * recipe.batch);
    const views = drawViews(recipe.augmentation, images, indices, randomStream(seed, 'augmentation', phase.name, step));
    const resolution = phase.only?.resolution ?? randomStream(seed, 'resolution', phase.name, step).of(space.resolutions);
    const labels = Array.from(indices, (i) => images.labels[i] as number);
    return {
      resolution,
      x: inputOf(images, views, space, resolution),
      targets: smoothedTargets(labels, space.classes, recipe.labelSmoothing),
    };
  };
}

/** Training images, augmented as in training, over which batch norms are recalibrated: the same ones for every net. */
export function calibrationViews(recipe: Recipe, training: ImageSet): View[] {
  const indices = permutation(training.count, CALIBRATION_SEED).subarray(0, recipe.validation.calibrationImages);
  return drawViews(recipe.augmentation, training, indices, randomStream(CALIBRATION_SEED, 'calibration'));
}

export function inputOf(set: ImageSet, views: readonly View[], space: Space, resolution: number): tf.Tensor4D {
  return tf.tensor4d(toInput(set, views, space, resolution, 'NHWC'), [views.length, resolution, resolution, space.inputChannels]);
}
