// Where training starts: random weights, others for each seed.
import type { Space } from '../../space.ts';
import { initialValue, parametersOf } from '../parameters.ts';
import type { PlainTensor } from '../safetensors.ts';
import { randomStream } from './random.ts';

/** Every parameter of the supernet by name; each has a random stream of its own. */
export function initialWeights(space: Space, seed: number): ReadonlyMap<string, PlainTensor> {
  return new Map(
    parametersOf(space).map((parameter) => {
      const random = randomStream(seed, 'initial', parameter.name);
      return [parameter.name, { shape: parameter.shape, data: initialValue(parameter, () => random.uniform()) }];
    }),
  );
}
