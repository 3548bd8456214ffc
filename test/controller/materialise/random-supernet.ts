// A supernet and pictures that nobody trained or took, for tests of what is done with them.
import type { Space } from '../../../controller/space.ts';
import type { Checkpoint } from '../../../controller/supernet/checkpoint.ts';
import type { ImageSet } from '../../../controller/supernet/data/dataset.ts';
import { parametersOf } from '../../../controller/supernet/parameters.ts';
import { uniformNumbers } from './random-net.ts';

/** Weights as far from their first values as training takes them: kernel matrices and statistics that do something. */
export function randomCheckpoint(space: Space, seed: number): Checkpoint {
  const next = uniformNumbers(seed);
  const tensors = parametersOf(space).map(({ name, kind, shape }) => {
    const length = shape.reduce((product, side) => product * side, 1);
    const fanIn = kind === 'conv' && shape[3] !== 1 ? length / (shape[3] as number) : kind === 'linear' ? (shape[0] as number) : 9;
    const values: Record<typeof kind, (i: number) => number> = {
      // nothing normalises the products of query and key, and where they are large the softmax over them amplifies float32 rounding
      conv: () => next() * Math.sqrt(6 / fanIn) * (/\.(query|key)\./.test(name) ? 0.2 : 1),
      linear: () => next() * Math.sqrt(6 / fanIn),
      'kernel-matrix': (i) => (i % ((shape[0] as number) + 1) === 0 ? 1 : 0) + 0.1 * next(),
      gamma: () => 1 + 0.3 * next(),
      variance: () => 1 + 0.3 * next(),
      bias: () => 0.2 * next(),
      beta: () => 0.2 * next(),
      mean: () => 0.2 * next(),
      offset: () => 0.5 * next(),
    };
    return [name, { shape, data: Float32Array.from({ length }, (_, i) => values[kind](i)) }] as const;
  });
  return { space, tensors: new Map(tensors), recipe: null, provenance: null };
}

/** Noise in the format of Fashion-MNIST. */
export function randomPictures(count: number, seed: number): ImageSet {
  const next = uniformNumbers(seed);
  const pixels = Uint8Array.from({ length: count * 28 * 28 }, () => 128 + 127 * next());
  return { count, height: 28, width: 28, channels: 1, pixels, labels: new Uint8Array(count), classes: 10 };
}
