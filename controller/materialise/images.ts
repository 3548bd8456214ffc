// Images as a net takes them in: prepared once for each resolution, since every subnet of that resolution sees the same ones.
import { createHash } from 'node:crypto';
import type { Space } from '../space.ts';
import { evaluationView, type Evaluation } from '../supernet/data/augmentation.ts';
import type { ImageSet } from '../supernet/data/dataset.ts';
import { toInput } from '../supernet/data/preprocess.ts';

export interface InputImages {
  /** [channels, side, side] of each. */
  readonly shape: readonly number[];
  readonly count: number;
  /** Normalised values, [count, channels, side, side]. */
  readonly data: Float32Array;
}

export interface ImageBatch {
  readonly count: number;
  /** [count, channels, side, side] */
  readonly shape: readonly number[];
  readonly data: Float32Array;
}

/** A fixed list of images at whatever resolution a net asks. */
export interface PreparedImages {
  readonly count: number;
  /** Over the pixels, in the list's order. */
  readonly sha256: string;
  at(resolution: number): InputImages;
}

/**
 * Prepares on first use and remembers: 4 bytes a value for each resolution asked. `evaluation` is how the supernet's recipe looks at images
 * when it scores (`evaluationOf`); the whole image where none is given.
 */
export function prepareImages(set: ImageSet, space: Space, evaluation: Evaluation = { kind: 'resize' }): PreparedImages {
  const prepared = new Map<number, InputImages>();
  const views = Array.from({ length: set.count }, (_, index) => evaluationView(evaluation, index));
  return {
    count: set.count,
    sha256: createHash('sha256').update(set.pixels).digest('hex'),
    at(resolution) {
      const known = prepared.get(resolution);
      if (known !== undefined) return known;
      const data = toInput(set, views, space, resolution, 'NCHW');
      const images = { shape: [space.inputChannels, resolution, resolution], count: set.count, data };
      prepared.set(resolution, images);
      return images;
    },
  };
}

/** Cuts the images into batches of `size`; the last may be smaller. */
export function* batches(images: InputImages, size: number): Generator<ImageBatch> {
  const values = valuesOfOne(images);
  for (let start = 0; start < images.count; start += size) {
    const count = Math.min(size, images.count - start);
    yield { count, shape: [count, ...images.shape], data: images.data.subarray(start * values, (start + count) * values) };
  }
}

export function firstImages(images: InputImages, count: number): InputImages {
  const kept = Math.min(count, images.count);
  return { ...images, count: kept, data: images.data.subarray(0, kept * valuesOfOne(images)) };
}

function valuesOfOne(images: InputImages): number {
  return images.shape.reduce((product, length) => product * length, 1);
}
