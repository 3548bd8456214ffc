// The IDX format of the MNIST family, gzipped: reading (a folder, a pair of files) and writing.
import { createHash } from 'node:crypto';
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { gunzipSync, gzipSync } from 'node:zlib';
import { failed, ok, type Outcome } from '@ofa-fleet/shared/outcome.ts';
import { SPLIT_SEED, splitOff, type Dataset, type ImageSet } from './dataset.ts';

const MAGIC_IMAGES = 2051;
const MAGIC_LABELS = 2049;
const VALIDATION_IMAGES = 5_000;
/** Of the images: the format as the MNIST family uses it is grey. */
const IDX_CHANNELS = 1;
const GET_AGAIN = 'download or copy it again';

/** Where Debian's package dataset-fashion-mnist puts the images. */
export const DEBIAN_FASHION_MNIST = '/usr/share/datasets/fashion-mnist';

/**
 * A folder with `{train,t10k}-{images-idx3,labels-idx1}-ubyte.gz`. 5,000 images of the training part become the validation split (a
 * twelfth of it where it is smaller than 60,000), or the share given. Fails with NOT_FOUND, CORRUPT_FILE or INVALID_INPUT.
 */
export function loadIdxFolder(folder: string, validationShare: number | null = null): Outcome<Dataset> {
  const [train, test] = [loadIdxPair(folder, 'train'), loadIdxPair(folder, 't10k')];
  if (!train.ok) return train;
  if (!test.ok) return test;
  const hash = createHash('sha256');
  for (const { pixels, labels } of [train.value, test.value]) hash.update(pixels).update(labels);
  const classes = Math.max(train.value.classes, test.value.classes);
  const validationCount =
    validationShare === null
      ? Math.min(VALIDATION_IMAGES, Math.floor(train.value.count / 12))
      : Math.max(1, Math.round(train.value.count * validationShare));
  const split = splitOff({ ...train.value, classes }, validationCount, SPLIT_SEED);
  const name = folder.split('/').findLast((part) => part !== '') ?? folder;
  return ok({ name, sha256: hash.digest('hex'), ...split, test: { ...test.value, classes } });
}

/** `{prefix}-images-idx3-ubyte.gz` and its labels. */
export function loadIdxPair(folder: string, prefix: string): Outcome<ImageSet> {
  const imagesFile = join(folder, `${prefix}-images-idx3-ubyte.gz`);
  const labelsFile = join(folder, `${prefix}-labels-idx1-ubyte.gz`);
  const images = readIdx(imagesFile, MAGIC_IMAGES, 3);
  if (!images.ok) return images;
  const labels = readIdx(labelsFile, MAGIC_LABELS, 1);
  if (!labels.ok) return labels;
  const [count = 0, height = 0, width = 0] = images.value.sides;
  if (labels.value.sides[0] !== count) {
    return failed(
      'CORRUPT_FILE',
      `${labelsFile} has ${labels.value.sides[0] ?? 0} labels for the ${count} images of ${imagesFile}: ${GET_AGAIN}.`,
    );
  }
  if (count === 0 || height === 0 || width === 0)
    return failed('INVALID_INPUT', `${imagesFile} holds no images, at least 1 is needed: choose another folder with --data.`);
  const classes = labels.value.data.reduce((most, label) => Math.max(most, label + 1), 0);
  return ok({ count, height, width, channels: IDX_CHANNELS, pixels: images.value.data, labels: labels.value.data, classes });
}

/** `file`, or the same without its gzip: some downloads come unpacked. */
function readIdx(file: string, magic: number, rank: number): Outcome<{ sides: number[]; data: Uint8Array }> {
  const unpacked = file.replace(/\.gz$/, '');
  if (!existsSync(file) && !existsSync(unpacked)) {
    return failed(
      'NOT_FOUND',
      `There is no ${file}; on Debian \`apt-get install dataset-fashion-mnist\` puts one in ${DEBIAN_FASHION_MNIST}.`,
    );
  }
  let bytes: Buffer;
  try {
    bytes = existsSync(file) ? gunzipSync(readFileSync(file)) : readFileSync(unpacked);
  } catch (error) {
    return failed(
      'CORRUPT_FILE',
      `${file} cannot be unpacked (${error instanceof Error ? error.message : String(error)}); it is cut short or no gzip file: ${GET_AGAIN}.`,
    );
  }
  const headerBytes = 4 + 4 * rank;
  if (bytes.length < headerBytes || bytes.readUInt32BE(0) !== magic) {
    return failed(
      'CORRUPT_FILE',
      `${file} is no IDX file of ${rank === 1 ? 'labels' : 'images'} (it should begin with ${magic}): ${GET_AGAIN}.`,
    );
  }
  const sides = Array.from({ length: rank }, (_, i) => bytes.readUInt32BE(4 + 4 * i));
  const size = sides.reduce((product, side) => product * side, 1);
  if (bytes.length !== headerBytes + size) {
    return failed(
      'CORRUPT_FILE',
      `${file} announces ${sides.join('x')} bytes, it has ${bytes.length - headerBytes}; it was cut short or garbled: ${GET_AGAIN}.`,
    );
  }
  return ok({ sides, data: Uint8Array.from(bytes.subarray(headerBytes)) });
}

/** The two gzipped files of a set of grey images of at most 256 classes. */
export function encodeIdxPair(set: ImageSet): { readonly images: Uint8Array; readonly labels: Uint8Array } {
  if (!(set.labels instanceof Uint8Array)) throw new Error(`IDX files hold labels up to 255, ${set.classes} classes were given.`);
  const encode = (magic: number, sides: readonly number[], data: Uint8Array) => {
    const header = Buffer.alloc(4 + 4 * sides.length);
    header.writeUInt32BE(magic, 0);
    sides.forEach((side, i) => header.writeUInt32BE(side, 4 + 4 * i));
    return gzipSync(Buffer.concat([header, data]), { level: 9 });
  };
  return {
    images: encode(MAGIC_IMAGES, [set.count, set.height, set.width], set.pixels),
    labels: encode(MAGIC_LABELS, [set.count], set.labels),
  };
}
