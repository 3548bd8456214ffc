import { copyFileSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { gunzipSync, gzipSync } from 'node:zlib';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { permutation, SPLIT_SEED, splitOff } from '../../../../controller/supernet/data/dataset.ts';
import { encodeIdxPair, loadIdxFolder, loadIdxPair } from '../../../../controller/supernet/data/idx.ts';
import { images } from './made-images.ts';

const ASSETS = join(import.meta.dirname, '../../../../controller/assets/fashion-mnist-mini');

describe('IDX folders', () => {
  let folder: string;
  beforeEach(() => {
    folder = mkdtempSync(join(tmpdir(), 'idx-'));
    for (const [prefix, count] of [
      ['train', 120],
      ['t10k', 30],
    ] as const) {
      const encoded = encodeIdxPair(images(count, 4, 5));
      writeFileSync(join(folder, `${prefix}-images-idx3-ubyte.gz`), encoded.images);
      writeFileSync(join(folder, `${prefix}-labels-idx1-ubyte.gz`), encoded.labels);
    }
  });
  afterEach(() => rmSync(folder, { recursive: true }));

  it('load with a validation split off the training part and the test part kept apart', () => {
    const loaded = loadIdxFolder(folder);
    if (!loaded.ok) throw new Error(loaded.message);
    const { train, validation, test } = loaded.value;
    expect([train.count, validation.count, test.count]).toEqual([110, 10, 30]);
    expect([train.height, train.width, train.classes]).toEqual([4, 5, 3]);
    expect(test.pixels).toEqual(images(30, 4, 5).pixels);
    expect(loadIdxFolder(folder)).toEqual(loaded);
  });

  it('give each image to one split, with its label', () => {
    const set = {
      ...images(100, 1, 1),
      pixels: Uint8Array.from({ length: 100 }, (_, i) => i),
      labels: Uint8Array.from({ length: 100 }, (_, i) => i),
    };
    const { train, validation } = splitOff(set, 30, SPLIT_SEED);
    expect([...train.pixels, ...validation.pixels].toSorted((a, b) => a - b)).toEqual(Array.from({ length: 100 }, (_, i) => i));
    expect(validation.labels).toEqual(validation.pixels);
    expect([...permutation(5, 1)]).not.toEqual([...permutation(5, 2)]);
  });

  const imagesFile = () => join(folder, 'train-images-idx3-ubyte.gz');
  it.each([
    [
      'its gzip stream is cut',
      () => writeFileSync(imagesFile(), readFileSync(imagesFile()).subarray(0, -20)),
      'CORRUPT_FILE',
      /cannot be unpacked .* cut short/,
    ],
    [
      'its content is cut',
      () => writeFileSync(imagesFile(), gzipSync(gunzipSync(readFileSync(imagesFile())).subarray(0, -1))),
      'CORRUPT_FILE',
      /announces 120x4x5 bytes, it has 2399/,
    ],
    [
      'labels stand where images should',
      () => copyFileSync(join(folder, 'train-labels-idx1-ubyte.gz'), imagesFile()),
      'CORRUPT_FILE',
      /no IDX file of images/,
    ],
    ['it is no gzip', () => writeFileSync(imagesFile(), 'hello'), 'CORRUPT_FILE', /cannot be unpacked/],
    [
      'labels are of another set',
      () => copyFileSync(join(folder, 't10k-labels-idx1-ubyte.gz'), join(folder, 'train-labels-idx1-ubyte.gz')),
      'CORRUPT_FILE',
      /30 labels for the 120 images/,
    ],
    ['it is missing', () => rmSync(imagesFile()), 'NOT_FOUND', /apt-get install dataset-fashion-mnist/],
  ])('are refused in one sentence when %s', (_, damage, reason, message) => {
    damage();
    const loaded = loadIdxFolder(folder);
    expect(loaded).toMatchObject({ ok: false, reason });
    if (!loaded.ok) expect(loaded.message).toMatch(message);
  });
});

describe('the images that ship with the program', () => {
  it('are small, complete and cover every class', () => {
    let bytes = 0;
    for (const [prefix, count] of [
      ['calibration', 500],
      ['validation', 2500],
      ['test', 2500],
    ] as const) {
      const set = loadIdxPair(ASSETS, prefix);
      if (!set.ok) throw new Error(set.message);
      expect([set.value.count, set.value.height, set.value.width, set.value.classes]).toEqual([count, 28, 28, 10]);
      const perClass = Array.from({ length: 10 }, (_, label) => set.value.labels.filter((other) => other === label).length);
      expect(Math.min(...perClass)).toBeGreaterThan(count / 20);
      for (const part of ['images-idx3', 'labels-idx1']) bytes += statSync(join(ASSETS, `${prefix}-${part}-ubyte.gz`)).size;
    }
    expect(bytes).toBeLessThan(3_000_000);
  });
});
