// Images as bytes, and the three splits that everything else keeps apart: train, validation (chosen on), test (only reported on).
import { xoroshiro128plus } from 'pure-rand/generator/xoroshiro128plus';
import { uniformInt } from 'pure-rand/distribution/uniformInt';

/** One class number an image; two bytes each where there are more than 256 classes. */
export type Labels = Uint8Array | Uint16Array;

export interface ImageSet {
  readonly count: number;
  readonly height: number;
  readonly width: number;
  readonly channels: number;
  /** uint8, [count, height, width, channels]. */
  readonly pixels: Uint8Array;
  /** [count], each below `classes`. */
  readonly labels: Labels;
  readonly classes: number;
}

export interface Dataset {
  readonly name: string;
  /** Over pixels and labels as they were read, before any split. */
  readonly sha256: string;
  readonly train: ImageSet;
  readonly validation: ImageSet;
  readonly test: ImageSet;
}

/** The once-for-all splits use this seed; ours too, so that nobody's validation images slip into training by another choice. */
export const SPLIT_SEED = 2147483647;

export function labelsOf(count: number, classes: number): Labels {
  return classes <= 256 ? new Uint8Array(count) : new Uint16Array(count);
}

/** A random order of 0..count-1 (Fisher-Yates), the same for the same seed. */
export function permutation(count: number, seed: number): Uint32Array {
  const rng = xoroshiro128plus(seed);
  const order = Uint32Array.from({ length: count }, (_, i) => i);
  for (let i = count - 1; i > 0; i--) {
    const j = uniformInt(rng, 0, i);
    [order[i], order[j]] = [order[j] as number, order[i] as number];
  }
  return order;
}

/** The images at `indices`, in that order. */
export function pick(set: ImageSet, indices: ArrayLike<number>): ImageSet {
  const size = set.height * set.width * set.channels;
  const pixels = new Uint8Array(indices.length * size);
  const labels = set.labels instanceof Uint8Array ? new Uint8Array(indices.length) : new Uint16Array(indices.length);
  for (let i = 0; i < indices.length; i++) {
    const index = indices[i] as number;
    pixels.set(set.pixels.subarray(index * size, (index + 1) * size), i * size);
    labels[i] = set.labels[index] as number;
  }
  return { ...set, count: indices.length, pixels, labels };
}

/** The first `count` images of a seeded order become the validation split, the rest stays for training. */
export function splitOff(set: ImageSet, count: number, seed: number): { readonly train: ImageSet; readonly validation: ImageSet } {
  const order = permutation(set.count, seed);
  return { validation: pick(set, order.subarray(0, count)), train: pick(set, order.subarray(count)) };
}
