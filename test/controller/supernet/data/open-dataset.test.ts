import { existsSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { AUGMENTATIONS } from '../../../../controller/supernet/data/augmentation.ts';
import type { Dataset } from '../../../../controller/supernet/data/dataset.ts';
import { encodeIdxPair, loadIdxFolder } from '../../../../controller/supernet/data/idx.ts';
import { openDataset, type OpenOptions } from '../../../../controller/supernet/data/open-dataset.ts';
import { value } from '../../../helpers/outcome.ts';
import { colourOf, flatJpeg, flatPicture, images, jpegOf, pngOf, put, WNIDS, writeTinyImageNet, type Colour } from './made-images.ts';

let scratch: string;
let root: string;
beforeEach(() => {
  scratch = mkdtempSync(join(tmpdir(), 'data-'));
  root = join(scratch, 'pictures');
  put(root, 'README.txt', 'made by a test');
});
afterEach(() => rmSync(scratch, { recursive: true }));

const open = (options: Partial<OpenOptions> = {}, folder = root) => openDataset(folder, { cacheDir: join(scratch, 'cache'), ...options });
const opened = async (options: Partial<OpenOptions> = {}) => value(await open(options));

/** The sentence of a refusal. */
async function refusal(options: Partial<OpenOptions> = {}, folder = root): Promise<{ reason: string; message: string }> {
  const outcome = await open(options, folder);
  if (outcome.ok) throw new Error(`It was opened: ${outcome.value.notes.join(' ')}`);
  return outcome;
}

const flat = (colour: Colour, side = 8) => pngOf(side, side, () => colour);
/** Each image of one colour: what part it is in, and with which label. */
function content(dataset: Dataset): Map<string, { part: string; label: number }> {
  const found = new Map<string, { part: string; label: number }>();
  for (const part of ['train', 'validation', 'test'] as const) {
    const { count, height, width, channels, pixels, labels } = dataset[part];
    for (let i = 0; i < count; i++) {
      const start = i * height * width * channels;
      const colour = pixels.subarray(start, start + channels).join(',');
      expect(found.has(colour), `${colour} is in two places`).toBe(false);
      found.set(colour, { part, label: labels[i] as number });
    }
  }
  return found;
}
const counts = ({ train, validation, test }: Dataset) => [train.count, validation.count, test.count];

describe('a folder of class folders', () => {
  /** Classes `ant`, `bee`, `cat` of 20 images each; image n has colour n. */
  function putClasses(base: string, perClass = 20, first = 0): void {
    ['cat', 'ant', 'bee'].forEach((name, c) => {
      for (let i = 0; i < perClass; i++) {
        const number = first + c * perClass + i;
        put(root, `${base}${name}/${i}.${i % 2 === 0 ? 'png' : 'PNG'}`, flat(colourOf(number)));
      }
    });
  }

  it('is split at random, always alike, into training, validation and test parts with the labels of the sorted folder names', async () => {
    putClasses('');
    const dataset = await opened();
    expect(counts(dataset)).toEqual([43, 8, 9]);
    expect(dataset.classNames).toEqual(['ant', 'bee', 'cat']);
    expect([dataset.layout, dataset.name, dataset.train.classes, dataset.train.width]).toEqual(['class-folders', 'pictures', 3, 8]);
    const found = content(dataset);
    for (let n = 0; n < 60; n++) expect(found.get(colourOf(n).join(','))?.label).toBe([2, 0, 1][Math.floor(n / 20)]);
    expect(dataset.notes).toEqual([
      'pictures (class folders): 3 classes of 8x8 colour images; 43 to train on, 8 to choose by (a random 15 % of the training part), 9 to test on (a random 15 % of all, since there is no test folder).',
    ]);
    expect(await opened()).toEqual(dataset);
    rmSync(join(scratch, 'cache'), { recursive: true });
    expect(await opened()).toEqual(dataset);
  });

  it('takes the shares asked', async () => {
    putClasses('');
    expect(counts(await opened({ validationShare: 0.5, testShare: 0.2 }))).toEqual([24, 24, 12]);
  });

  it.each([['val'], ['test']])('with train/ and %s/ splits only the validation part off', async (folder) => {
    putClasses('train/');
    putClasses(`${folder}/`, 4, 60);
    const dataset = await opened();
    expect(counts(dataset)).toEqual([51, 9, 12]);
    const found = content(dataset);
    for (let n = 60; n < 72; n++) expect(found.get(colourOf(n).join(','))?.part).toBe('test');
    expect(dataset.notes[0]).toContain('12 to test on (a folder of its own)');
  });

  it('with train/, val/ and test/ splits nothing, and a test part need not have every class', async () => {
    putClasses('train/');
    putClasses('val/', 2, 60);
    put(root, 'test/bee/1.png', flat(colourOf(70)));
    const dataset = await opened();
    expect(counts(dataset)).toEqual([60, 6, 1]);
    expect(content(dataset).get(colourOf(70).join(','))).toEqual({ part: 'test', label: 1 });
    expect(dataset.notes[1]).toMatch(/no image of class "ant"/);
  });

  it('leaves out a test/ without labels, files of other kinds and what archives leave behind, and says so', async () => {
    putClasses('train/');
    put(root, 'train/ant/deeper/20.png', flat(colourOf(80)));
    put(root, 'train/ant/._0.png', 'resource fork');
    put(root, 'train/.git/1.png', 'no class');
    put(root, 'train/bee/x.webp', 'RIFF');
    put(root, 'train/bee/list.txt', 'x');
    put(root, 'test/images/1.png', flat(colourOf(81)));
    const dataset = await opened();
    expect(counts(dataset).reduce((sum, count) => sum + count)).toBe(61);
    expect(content(dataset).get(colourOf(80).join(','))?.label).toBe(0);
    expect(dataset.notes.slice(1).join('\n')).toMatch(
      /test has no folder named as a class.*\n1 images of other formats.*train\/bee\/x\.webp/,
    );
  });

  it('names, skips and counts broken files', async () => {
    putClasses('');
    put(root, 'ant/broken.jpg', jpegOf(8, 8, () => [1, 2, 3]).subarray(0, 300));
    put(root, 'bee/empty.jpeg', '');
    const dataset = await opened();
    expect(counts(dataset).reduce((sum, count) => sum + count)).toBe(60);
    expect(dataset.broken.map(({ path }) => path)).toEqual([join(root, 'ant/broken.jpg'), join(root, 'bee/empty.jpeg')]);
    expect(dataset.notes[1]).toMatch(
      /^2 of 62 image files cannot be read and are left out: .*broken\.jpg \(it is cut short.*empty\.jpeg \(it is empty\)\.$/,
    );
    const found = content(dataset);
    for (let n = 0; n < 60; n++) expect(found.get(colourOf(n).join(','))?.label).toBe([2, 0, 1][Math.floor(n / 20)]);
    expect(await opened()).toEqual(dataset);
  });

  it('reads JPEG files, grey ones and those of other sizes, at the common side or the one asked', async () => {
    for (let i = 0; i < 6; i++) {
      put(
        root,
        `ant/${i}.jpg`,
        jpegOf(32, 32, () => [200, 30, 30]),
      );
      put(root, `bee/${i}.jpeg`, flatJpeg(48, [90]));
    }
    put(
      root,
      'bee/long.jpg',
      jpegOf(64, 40, () => [90, 90, 90]),
    );
    const dataset = await opened();
    expect([dataset.train.width, dataset.train.height, dataset.train.channels]).toEqual([40, 40, 3]);
    for (let i = 0; i < dataset.train.count; i++) {
      const pixel = [...dataset.train.pixels.subarray(i * 4800 + 999, i * 4800 + 1002)];
      const wanted = dataset.train.labels[i] === 0 ? [200, 30, 30] : [90, 90, 90];
      pixel.forEach((channel, c) => expect(Math.abs(channel - (wanted[c] as number))).toBeLessThan(4));
    }
    const small = await opened({ side: 16, channels: 1 });
    expect([small.train.width, small.train.channels, small.train.pixels.length]).toEqual([16, 1, small.train.count * 256]);
    expect(small.sha256).not.toBe(dataset.sha256);
  });

  it('may have more than 256 classes', async () => {
    for (let c = 0; c < 300; c++) {
      put(root, `train/${String(c).padStart(3, '0')}/1.png`, flat([c % 256, c >> 8, 9], 2));
      put(root, `val/${String(c).padStart(3, '0')}/1.png`, flat([c % 256, c >> 8, 10], 2));
      put(root, `test/${String(c).padStart(3, '0')}/1.png`, flat([c % 256, c >> 8, 11], 2));
    }
    const { test } = await opened();
    expect([test.classes, test.count, test.labels[299], test.pixels[299 * 12]]).toEqual([300, 300, 299, 299 % 256]);
  });

  it.each<[string, () => void, string, RegExp]>([
    ['a class has no image', () => put(root, 'dog/notes.txt', 'x'), 'INVALID_INPUT', /Class "dog" in .* has no \.jpg/],
    [
      'none of a class can be read',
      () => put(root, 'dog/1.png', 'x'),
      'INVALID_INPUT',
      /Class "dog" .* none of its 1 images can be read, e\.g\. dog\/1\.png/,
    ],
    [
      'there is one class',
      () => ['bee', 'cat'].forEach((name) => rmSync(join(root, name), { recursive: true })),
      'INVALID_INPUT',
      /has 1 class folder\(s\), 2 are needed/,
    ],
    [
      'there is no class',
      () => ['ant', 'bee', 'cat'].forEach((name) => rmSync(join(root, name), { recursive: true })),
      'INVALID_INPUT',
      /no images in a layout that is known: give a folder of IDX files/,
    ],
  ])('is refused when %s', async (_, damage, reason, message) => {
    putClasses('');
    damage();
    const refused = await refusal();
    expect(refused.reason).toBe(reason);
    expect(refused.message).toMatch(message);
  });

  it('is refused when a class is so small that no image of it is left to train on', async () => {
    for (const name of ['ant', 'bee']) put(root, `${name}/1.png`, flat(colourOf(name.length)));
    expect((await refusal()).message).toMatch(/Class "(ant|bee)" of .* no image to train on; its 1 images all fell to validation and test/);
  });

  it('is refused when test/ has a class that train/ has not', async () => {
    putClasses('train/');
    putClasses('test/', 1, 60);
    put(root, 'test/cats/1.png', flat([1, 1, 1]));
    expect((await refusal()).message).toMatch(/test has "cats", train\/ has no such class/);
  });
});

describe('Tiny ImageNet', () => {
  const putTinyImageNet = () => writeTinyImageNet(root);

  it('gives 15 % of its training images to validation, and its official validation images are the test part', async () => {
    putTinyImageNet();
    const dataset = await opened({ name: 'tiny' });
    expect(counts(dataset)).toEqual([51, 9, 6]);
    expect([dataset.layout, dataset.train.width, dataset.train.channels]).toEqual(['tiny-imagenet', 64, 3]);
    expect(dataset.classNames).toEqual(['goldfish, Carassius auratus', 'Egyptian cat', 'reel']);
    expect(dataset.augmentation).toEqual(AUGMENTATIONS['tiny-imagenet']);
    // labels follow the sorted wnids; red says which wnid it was
    for (const part of ['train', 'validation', 'test'] as const) {
      const { count, pixels, labels } = dataset[part];
      for (let i = 0; i < count; i++) {
        const [red, , blue] = pixels.subarray(i * 64 * 64 * 3, i * 64 * 64 * 3 + 3) as unknown as [number, number, number];
        if (blue === 99) expect([part, red, labels[i]]).toEqual(['test', 99, 0]);
        else expect(labels[i]).toBe([1, 2, 0][Math.round(red / 80)]);
        if (blue !== 99) expect(blue > 100).toBe(part === 'test');
      }
    }
    expect(dataset.notes).toHaveLength(1);
    expect(dataset.notes[0]).toMatch(
      /^tiny \(Tiny ImageNet\): 3 classes of 64x64 colour images; 51 to train on, 9 to choose by \(a random 15 %/,
    );
  });

  it('opens by its archive folder, and with the test part sorted into class folders', async () => {
    root = join(root, 'tiny-imagenet-200');
    putTinyImageNet();
    const annotated = value(await open({}, join(scratch, 'pictures')));
    rmSync(join(root, 'val'), { recursive: true });
    for (let i = 0; i < 6; i++) put(root, `val/${WNIDS[i % 3] as string}/images/val_${i}.JPEG`, flatPicture(80 * (i % 3), 10 * i, 200));
    const sorted = await opened();
    expect(counts(sorted)).toEqual(counts(annotated));
    expect([...sorted.test.labels]).toEqual([0, 0, 1, 1, 2, 2]);
  });

  it.each<[string, () => void, string, RegExp]>([
    [
      'a class has no folder',
      () => rmSync(join(root, 'train', 'n04067472'), { recursive: true }),
      'INVALID_INPUT',
      /Class "n04067472" in .*train has no/,
    ],
    [
      'an annotation is of no class',
      () => put(root, 'val/val_annotations.txt', 'val_0.JPEG\tn09999999\t0\n'),
      'CORRUPT_FILE',
      /line 1: "val_0\.JPEG/,
    ],
    ['an annotation leaves the folder', () => put(root, 'val/val_annotations.txt', '../x.JPEG\tn04067472\t0\n'), 'CORRUPT_FILE', /line 1/],
    [
      'its test images are gone',
      () => rmSync(join(root, 'val'), { recursive: true }),
      'NOT_FOUND',
      /val_annotations\.txt, nor are there images/,
    ],
    ['wnids.txt names a class twice', () => put(root, 'wnids.txt', 'n02124075\nn02124075\n'), 'CORRUPT_FILE', /n02124075 twice/],
  ])('is refused when %s', async (_, damage, reason, message) => {
    putTinyImageNet();
    damage();
    const refused = await refusal();
    expect(refused.reason).toBe(reason);
    expect(refused.message).toMatch(message);
  });
});

describe('CIFAR in its binary version', () => {
  /** Images of one colour, plane after plane. */
  const record = (labels: readonly number[], [red, green, blue]: Colour) =>
    Buffer.concat([Buffer.from(labels), Buffer.alloc(1024, red), Buffer.alloc(1024, green), Buffer.alloc(1024, blue)]);

  function putCifar10(): void {
    for (let batch = 1; batch <= 5; batch++) {
      const records = Array.from({ length: 20 }, (_, i) => record([i % 10], colourOf(20 * (batch - 1) + i)));
      put(root, `data_batch_${batch}.bin`, Buffer.concat(records));
    }
    put(root, 'test_batch.bin', Buffer.concat(Array.from({ length: 10 }, (_, i) => record([9 - i], colourOf(100 + i)))));
    put(root, 'batches.meta.txt', 'airplane\nautomobile\nbird\ncat\ndeer\ndog\nfrog\nhorse\nship\ntruck\n\n');
  }

  it('10 gives its five batches to training and validation and keeps its labels and colours', async () => {
    putCifar10();
    const dataset = await opened();
    expect(counts(dataset)).toEqual([85, 15, 10]);
    expect([dataset.layout, dataset.train.width, dataset.train.channels, dataset.train.classes]).toEqual(['cifar-10', 32, 3, 10]);
    expect(dataset.classNames?.[3]).toBe('cat');
    expect(dataset.augmentation).toEqual(AUGMENTATIONS.cifar);
    const found = content(dataset);
    for (let n = 0; n < 100; n++) expect(found.get(colourOf(n).join(','))?.label).toBe(n % 10);
    for (let n = 100; n < 110; n++) expect(found.get(colourOf(n).join(','))).toEqual({ part: 'test', label: 109 - n });
    expect(dataset.train.pixels.subarray(0, 3072)).toEqual(
      Uint8Array.from({ length: 3072 }, (_, i) => dataset.train.pixels[i % 3] as number),
    );
    expect(dataset.notes.join('\n')).toMatch(/data_batch_1\.bin holds 20 images, as published it is 10000/);
    expect(existsSync(join(scratch, 'cache'))).toBe(false);
  });

  it('100 takes the fine labels', async () => {
    put(root, 'cifar-100-binary/train.bin', Buffer.concat(Array.from({ length: 200 }, (_, i) => record([i % 20, i % 100], colourOf(i)))));
    put(root, 'cifar-100-binary/test.bin', Buffer.concat(Array.from({ length: 7 }, (_, i) => record([19, 99 - i], colourOf(200 + i)))));
    const dataset = await opened();
    expect(counts(dataset)).toEqual([170, 30, 7]);
    expect([...dataset.test.labels]).toEqual([99, 98, 97, 96, 95, 94, 93]);
    expect([dataset.layout, dataset.name, dataset.classNames]).toEqual(['cifar-100', 'cifar-100-binary', null]);
  });

  it.each<[string, () => void, string, RegExp]>([
    ['a batch is missing', () => rmSync(join(root, 'data_batch_3.bin')), 'NOT_FOUND', /no .*data_batch_3\.bin, CIFAR-10 is not complete/],
    [
      'a batch is cut',
      () => put(root, 'data_batch_2.bin', Buffer.alloc(5000)),
      'CORRUPT_FILE',
      /data_batch_2\.bin has 5000 bytes, a whole number of records of 3073/,
    ],
    ['a batch is empty', () => put(root, 'data_batch_2.bin', ''), 'CORRUPT_FILE', /has 0 bytes/],
    [
      'a label is out of range',
      () => put(root, 'test_batch.bin', record([10], [1, 2, 3])),
      'CORRUPT_FILE',
      /image 1: label 10, CIFAR-10 has labels up to 9/,
    ],
    [
      'it is the Python version',
      () => {
        rmSync(root, { recursive: true });
        put(root, 'data_batch_1', 'pickle');
      },
      'INVALID_INPUT',
      /Python or Matlab version, its binary version is needed/,
    ],
  ])('is refused when %s', async (_, damage, reason, message) => {
    putCifar10();
    damage();
    const refused = await refusal();
    expect(refused.reason).toBe(reason);
    expect(refused.message).toMatch(message);
  });
});

describe('a folder of IDX files', () => {
  function putIdx(folder: string): void {
    for (const [prefix, count] of [
      ['train', 120],
      ['t10k', 30],
    ] as const) {
      const encoded = encodeIdxPair(images(count, 4, 5));
      put(folder, `${prefix}-images-idx3-ubyte.gz`, encoded.images);
      put(folder, `${prefix}-labels-idx1-ubyte.gz`, encoded.labels);
    }
  }

  it('has the same parts and hash as it always had', async () => {
    putIdx(root);
    const dataset = await opened();
    expect(dataset).toMatchObject(value(loadIdxFolder(root)));
    expect(counts(dataset)).toEqual([110, 10, 30]);
    expect(counts(await opened({ validationShare: 0.25 }))).toEqual([90, 30, 30]);
  });

  it('is mirrored in training where it is clothes, not where it may be digits', async () => {
    putIdx(root);
    putIdx(join(scratch, 'fashion-mnist'));
    expect((await opened()).augmentation).toEqual(AUGMENTATIONS.digits);
    expect(value(await open({}, join(scratch, 'fashion-mnist'))).augmentation).toEqual(AUGMENTATIONS['fashion-mnist']);
  });
});

describe('opening', () => {
  it('refuses a folder that is not there, and settings that make no sense', async () => {
    expect(await refusal({}, join(scratch, 'nowhere'))).toMatchObject({ reason: 'NOT_FOUND' });
    expect((await refusal({ validationShare: 1 })).message).toMatch(/validation share is 1, it must be between 0 and 1/);
    expect((await refusal({ testShare: Number.NaN })).message).toMatch(/test share is NaN/);
    expect((await refusal({ side: 0.5 })).message).toMatch(/side of images is 0\.5/);
  });

  it('refuses what would not fit into memory, with the side that would', async () => {
    for (const name of ['ant', 'bee']) for (let i = 0; i < 5; i++) put(root, `${name}/${i}.png`, flat([1, 2, 3]));
    expect((await refusal({ side: 20_000 })).message).toMatch(
      /10 images .* at 20000x20000 take 11\.2 GiB of memory, the limit is 8\.0 GiB: .*side 16921 fits/,
    );
  });

  it('keeps calibration and training apart from what is chosen or tested by: no image is in two parts, whatever the layout', async () => {
    // `content` fails on an image in two places; here with the cache written in another run
    for (const name of ['ant', 'bee'])
      for (let i = 0; i < 40; i++) put(root, `${name}/${i}.png`, flat(colourOf(name === 'ant' ? i : 40 + i)));
    await opened();
    expect(content(await opened()).size).toBe(80);
    expect(readdirSync(join(scratch, 'cache'))).toHaveLength(2);
    writeFileSync(join(root, 'ant', '0.png'), flat([255, 254, 253]));
    expect(content(await opened()).has('255,254,253')).toBe(true);
    expect(readdirSync(join(scratch, 'cache'))).toHaveLength(2);
  });
});
