// CIFAR-10 and CIFAR-100 in their binary versions: records of one label byte (CIFAR-100: the coarse, then the fine label) and 3 x 32 x 32
// bytes, the red plane first (https://www.cs.toronto.edu/~kriz/cifar.html).
import { createHash } from 'node:crypto';
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { failed, ok, type Outcome } from '@ofa-fleet/shared/outcome.ts';
import type { ImageSet } from './dataset.ts';

const SIDE = 32;
const CHANNELS = 3;
const PLANE = SIDE * SIDE;

interface Version {
  readonly title: string;
  readonly train: readonly string[];
  readonly test: string;
  readonly names: string;
  readonly classes: number;
  /** Bytes before the pixels; the last of them is the label. */
  readonly labelBytes: number;
  /** Images in a file as it is published. */
  readonly published: { readonly train: number; readonly test: number };
}

const CIFAR_10: Version = {
  title: 'CIFAR-10',
  train: [1, 2, 3, 4, 5].map((i) => `data_batch_${i}.bin`),
  test: 'test_batch.bin',
  names: 'batches.meta.txt',
  classes: 10,
  labelBytes: 1,
  published: { train: 10_000, test: 10_000 },
};

const CIFAR_100: Version = {
  title: 'CIFAR-100',
  train: ['train.bin'],
  test: 'test.bin',
  names: 'fine_label_names.txt',
  classes: 100,
  labelBytes: 2,
  published: { train: 50_000, test: 10_000 },
};

export interface CifarImages {
  readonly title: string;
  /** Over pixels and labels of the training files, then of the test file. */
  readonly sha256: string;
  readonly train: ImageSet;
  readonly test: ImageSet;
  readonly classNames: readonly string[] | null;
  /** What the user should know of these files. */
  readonly notes: readonly string[];
}

/** Which of the two a folder holds, by its files' names (one of them is enough: a missing one is then named); null: neither. */
export function cifarVersionOf(folder: string): 'cifar-10' | 'cifar-100' | null {
  const holds = (names: readonly string[]) => names.some((name) => existsSync(join(folder, name)));
  if (holds([...CIFAR_10.train, CIFAR_10.test])) return 'cifar-10';
  return holds([...CIFAR_100.train, CIFAR_100.test]) ? 'cifar-100' : null;
}

/** The Python and Matlab versions, which are pickles and .mat files: recognised to be refused with the right words. */
export function holdsOtherCifar(folder: string): boolean {
  return ['data_batch_1', 'data_batch_1.mat', 'batches.meta', 'fine_label_names', 'train.mat'].some((name) =>
    existsSync(join(folder, name)),
  );
}

/** All images of the folder, not yet split. Fails with NOT_FOUND or CORRUPT_FILE. */
export function loadCifar(folder: string, which: 'cifar-10' | 'cifar-100'): Outcome<CifarImages> {
  const version = which === 'cifar-10' ? CIFAR_10 : CIFAR_100;
  const notes: string[] = [];
  const train = readRecords(folder, version.train, version, version.published.train, notes);
  if (!train.ok) return train;
  const test = readRecords(folder, [version.test], version, version.published.test, notes);
  if (!test.ok) return test;
  const hash = createHash('sha256');
  for (const { pixels, labels } of [train.value, test.value]) hash.update(pixels).update(labels);
  return ok({
    title: version.title,
    sha256: hash.digest('hex'),
    train: train.value,
    test: test.value,
    classNames: readNames(join(folder, version.names), version.classes),
    notes,
  });
}

function readRecords(folder: string, names: readonly string[], version: Version, published: number, notes: string[]): Outcome<ImageSet> {
  const recordBytes = version.labelBytes + CHANNELS * PLANE;
  const files: Buffer[] = [];
  for (const name of names) {
    const file = join(folder, name);
    if (!existsSync(file))
      return failed('NOT_FOUND', `There is no ${file}, ${version.title} is not complete without it: unpack its archive again.`);
    const bytes = readFileSync(file);
    if (bytes.length === 0 || bytes.length % recordBytes !== 0) {
      return failed(
        'CORRUPT_FILE',
        `${file} has ${bytes.length} bytes, a whole number of records of ${recordBytes} bytes is needed; it was cut short or is another version: unpack the binary version again.`,
      );
    }
    if (bytes.length !== published * recordBytes)
      notes.push(`${name} holds ${bytes.length / recordBytes} images, as published it is ${published}.`);
    files.push(bytes);
  }
  const count = files.reduce((sum, bytes) => sum + bytes.length / recordBytes, 0);
  const pixels = new Uint8Array(count * PLANE * CHANNELS);
  const labels = new Uint8Array(count);
  let image = 0;
  for (const [f, bytes] of files.entries()) {
    for (let at = 0; at < bytes.length; at += recordBytes, image++) {
      const label = bytes[at + version.labelBytes - 1] as number;
      if (label >= version.classes) {
        return failed(
          'CORRUPT_FILE',
          `${join(folder, names[f] as string)}, image ${at / recordBytes + 1}: label ${label}, ${version.title} has labels up to ${version.classes - 1}; it is garbled or another version: unpack the binary version again.`,
        );
      }
      labels[image] = label;
      const out = image * PLANE * CHANNELS;
      const from = at + version.labelBytes;
      for (let p = 0; p < PLANE; p++) {
        for (let c = 0; c < CHANNELS; c++) pixels[out + p * CHANNELS + c] = bytes[from + c * PLANE + p] as number;
      }
    }
  }
  return ok({ count, height: SIDE, width: SIDE, channels: CHANNELS, pixels, labels, classes: version.classes });
}

function readNames(file: string, classes: number): readonly string[] | null {
  if (!existsSync(file)) return null;
  const names = readFileSync(file, 'utf8')
    .split('\n')
    .map((line) => line.trim())
    .filter((line) => line !== '');
  return names.length === classes ? names : null;
}
