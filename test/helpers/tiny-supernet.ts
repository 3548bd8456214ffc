// A supernet that is small enough to evaluate in milliseconds, with random weights, and images to go with it: for tests of what happens
// around a model, not in it.
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { xoroshiro128plus } from 'pure-rand/generator/xoroshiro128plus';
import { uniformFloat64 } from 'pure-rand/distribution/uniformFloat64';
import type { Space } from '../../controller/space.ts';
import { writeCheckpoint } from '../../controller/supernet/checkpoint.ts';
import { encodeIdxPair } from '../../controller/supernet/data/idx.ts';
import { initialWeights } from '../../controller/supernet/training/initial-weights.ts';
import { TINY_SPACE } from './spaces.ts';

export { TINY_SPACE };

/** Writes a checkpoint of random weights; equal seeds give equal files. */
export function writeTinyCheckpoint(file: string, seed = 1, space: Space = TINY_SPACE): void {
  writeCheckpoint(file, { space, tensors: initialWeights(space, seed), recipe: null, provenance: null });
}

/** Writes the four IDX files: 8 x 8 pixels, a bright square in one of four corners on noise. */
export function writeTinyImages(
  folder: string,
  counts: { readonly train: number; readonly test: number } = { train: 720, test: 500 },
): void {
  const rng = xoroshiro128plus(7);
  mkdirSync(folder, { recursive: true });
  for (const [prefix, count] of [
    ['train', counts.train],
    ['t10k', counts.test],
  ] as const) {
    // prettier-ignore
    const pixels = new Uint8Array(count * 64);
    const labels = new Uint8Array(count);
    for (let i = 0; i < count; i++) {
      const label = i % 4;
      labels[i] = label;
      for (let p = 0; p < 64; p++) {
        const corner = (p % 8 < 4 ? 0 : 1) + (p < 32 ? 0 : 2);
        pixels[i * 64 + p] = Math.floor(uniformFloat64(rng) * 100) + (corner === label ? 120 : 0);
      }
    }
    const pair = encodeIdxPair({ count, height: 8, width: 8, channels: 1, pixels, labels, classes: 4 });
    writeFileSync(join(folder, `${prefix}-images-idx3-ubyte.gz`), pair.images);
    writeFileSync(join(folder, `${prefix}-labels-idx1-ubyte.gz`), pair.labels);
  }
}
