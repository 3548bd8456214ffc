// Images as a net takes them in.

/** A fixed list of images, prepared for whatever resolution a net asks. */
export interface ImageSet {
  readonly count: number;
  /** Of the list's pixels and their order, before they are prepared. */
  readonly sha256: string;
  at(resolution: number): InputImages;
}

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

/** Cuts the images into batches of `size`; the last may be smaller. */
export function* batches(images: InputImages, size: number): Generator<ImageBatch> {
  const values = images.shape.reduce((product, length) => product * length, 1);
  for (let start = 0; start < images.count; start += size) {
    const count = Math.min(size, images.count - start);
    yield { count, shape: [count, ...images.shape], data: images.data.subarray(start * values, (start + count) * values) };
  }
}

export function firstImages(images: InputImages, count: number): InputImages {
  const kept = Math.min(count, images.count);
  const values = images.shape.reduce((product, length) => product * length, 1);
  return { ...images, count: kept, data: images.data.subarray(0, kept * values) };
}
