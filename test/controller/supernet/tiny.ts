// The smallest space that has every feature (elastic kernels, widths, depths, exits, dense skips, both activations, squeeze-and-excitation)
// and random weights for it, away from the symmetric initial values.
import * as tf from '@tensorflow/tfjs';
import type { Space } from '../../../controller/space.ts';
import { initialValue, parametersOf } from '../../../controller/supernet/parameters.ts';
import type { PlainTensor } from '../../../controller/supernet/safetensors.ts';
import { randomStream } from '../../../controller/supernet/training/random.ts';

export const TINY: Space = {
  name: 'tiny',
  inputChannels: 1,
  classes: 3,
  mean: [0.3],
  std: [0.4],
  resolutions: [9, 12],
  stem: { channels: 8, stride: 1 },
  stages: [
    { channels: 8, stride: 2, activation: 'relu', squeezeExcite: true },
    { channels: 16, stride: 2, activation: 'h_swish', squeezeExcite: false },
  ],
  kernels: [3, 5, 7],
  expands: [2, 3, 4],
  depths: [1, 2, 3],
  exits: 'early',
  denseSkips: true,
  head: { expand: 2, mix: 2 },
};

export function randomTensors(space: Space, seed: number): Map<string, PlainTensor> {
  return new Map(
    parametersOf(space).map((parameter) => {
      const random = randomStream(seed, parameter.name);
      const data = initialValue(parameter, () => random.uniform()).map((value) => value + 0.3 * (random.uniform() - 0.5));
      return [parameter.name, { shape: parameter.shape, data }];
    }),
  );
}

export function toWeights(tensors: ReadonlyMap<string, PlainTensor>): Map<string, tf.Tensor> {
  return new Map([...tensors].map(([name, { shape, data }]) => [name, tf.tensor(data, [...shape])]));
}

/** [count, side, side, 1], values around 0. */
export function randomInput(count: number, side: number, seed: number): tf.Tensor4D {
  const random = randomStream(seed, 'input');
  return tf.tensor4d(
    Float32Array.from({ length: count * side * side }, () => 2 * random.uniform() - 1),
    [count, side, side, 1],
  );
}
