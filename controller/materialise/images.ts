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

export interface StreamedImages extends PreparedImages {
  /** The same, without holding all values at once where they are many. */
  streamAt(resolution: number): ImageStream;
}

/** Images that come batch by batch, as often as asked. */
export interface ImageStream {
  /** [channels, side, side] of each. */
  readonly shape: readonly number[];
  readonly count: number;
  batches(size: number): Iterable<ImageBatch>;
}

/** 15,000 images of 64 x 64 x 3 take 737 MB: so many are prepared anew for each net that is scored. */
const REMEMBERED_BYTES = 2 ** 28;

/**
 * Prepares on first use and remembers: 4 bytes a value for each resolution asked. `evaluation` is how the supernet's recipe looks at images
 * when it scores (`evaluationOf`); the whole image where none is given.
 */
export function prepareImages(set: ImageSet, space: Space, evaluation: Evaluation = { kind: 'resize' }): StreamedImages {
  const prepared = new Map<number, InputImages>();
  const views = Array.from({ length: set.count }, (_, index) => evaluationView(evaluation, index));
  const shapeAt = (resolution: number) => [space.inputChannels, resolution, resolution];
  const at = (resolution: number): InputImages => {
    const known = prepared.get(resolution);
    if (known !== undefined) return known;
    const images = { shape: shapeAt(resolution), count: set.count, data: toInput(set, views, space, resolution, 'NCHW') };
    prepared.set(resolution, images);
    return images;
  };
  return {
    count: set.count,
    sha256: createHash('sha256').update(set.pixels).digest('hex'),
    at,
    streamAt(resolution) {
      const shape = shapeAt(resolution);
      const values = shape.reduce((product, length) => product * length, set.count);
      if (prepared.has(resolution) || values * Float32Array.BYTES_PER_ELEMENT <= REMEMBERED_BYTES) return streamOf(at(resolution));
      return {
        shape,
        count: set.count,
        *batches(size) {
          for (let start = 0; start < set.count; start += size) {
            const some = views.slice(start, start + size);
            yield { count: some.length, shape: [some.length, ...shape], data: toInput(set, some, space, resolution, 'NCHW') };
          }
        },
      };
    },
  };
}

export function streamOf(images: InputImages): ImageStream {
  return { shape: images.shape, count: images.count, batches: (size) => batches(images, size) };
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
