// Random weights and images for the smallest space that has every feature; away from the symmetric initial values.
import * as tf from '@tensorflow/tfjs';
import type { Space } from '../../../controller/space.ts';
import { initialValue, parametersOf } from '../../../controller/supernet/parameters.ts';
import type { PlainTensor } from '../../../controller/supernet/safetensors.ts';
import { randomStream } from '../../../controller/supernet/training/random.ts';
import { TINY } from '../../helpers/spaces.ts';

export { TINY };

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
