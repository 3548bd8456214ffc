import { copyFileSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { gunzipSync, gzipSync } from 'node:zlib';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { permutation, SPLIT_SEED, splitOff, type ImageSet } from '../../../controller/supernet/data/dataset.ts';
import { encodeIdxPair, loadIdxFolder, loadIdxPair } from '../../../controller/supernet/data/idx.ts';
import { toInput } from '../../../controller/supernet/data/preprocess.ts';
import { TINY } from './tiny.ts';

const ASSETS = join(import.meta.dirname, '../../../controller/assets/fashion-mnist-mini');

function images(count: number, height: number, width: number, channels = 1): ImageSet {
  const pixels = Uint8Array.from({ length: count * height * width * channels }, (_, i) => (i * 37) % 256);
  return { count, height, width, channels, pixels, labels: Uint8Array.from({ length: count }, (_, i) => i % 3), classes: 3 };
}

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

describe('preprocessing', () => {
  /** Undoes the normalisation of TINY. */
  const bytesOf = (input: Float32Array) => Array.from(input, (value) => Math.abs(Math.round((value * 0.4 + 0.3) * 255)));

  it('normalises and keeps pixels where nothing is resized', () => {
    const set = images(2, 6, 6);
    const input = toInput(set, [{ index: 1 }], TINY, 6, 'NHWC');
    input.forEach((value, i) => expect(value).toBeCloseTo(((set.pixels[36 + i] as number) / 255 - 0.3) / 0.4, 6));
  });

  it('interpolates between pixel centres', () => {
    const set: ImageSet = { ...images(1, 1, 2), pixels: Uint8Array.of(0, 200) };
    const grey = bytesOf(toInput(set, [{ index: 0 }], TINY, 4, 'NHWC').subarray(0, 4));
    expect(grey).toEqual([0, 50, 150, 200]);
  });

  it('mirrors and shifts as a view asks, black coming in', () => {
    const set: ImageSet = { ...images(1, 3, 3), pixels: Uint8Array.of(1, 2, 3, 4, 5, 6, 7, 8, 9) };
    const look = (view: object) => bytesOf(toInput(set, [{ index: 0, ...view }], TINY, 3, 'NHWC'));
    expect(look({ flip: true })).toEqual([3, 2, 1, 6, 5, 4, 9, 8, 7]);
    expect(look({ shiftX: 1 })).toEqual([0, 1, 2, 0, 4, 5, 0, 7, 8]);
    expect(look({ shiftY: -1 })).toEqual([4, 5, 6, 7, 8, 9, 0, 0, 0]);
  });

  it('gives the same numbers in either layout', () => {
    const rgb = { ...TINY, inputChannels: 3 as const, mean: [0.1, 0.2, 0.3], std: [1, 0.5, 0.25] };
    const set = images(2, 4, 4, 3);
    const views = [{ index: 0 }, { index: 1, flip: true }];
    const [last, first] = [toInput(set, views, rgb, 5, 'NHWC'), toInput(set, views, rgb, 5, 'NCHW')];
    for (let v = 0; v < 2; v++) {
      for (let p = 0; p < 25; p++) for (let c = 0; c < 3; c++) expect(first[v * 75 + c * 25 + p]).toBe(last[v * 75 + p * 3 + c]);
    }
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
