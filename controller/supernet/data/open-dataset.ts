// A folder of images, whatever its layout, as the three parts that training works with. What is split off, left out or missing is said.
import { existsSync, readdirSync, statSync } from 'node:fs';
import { homedir } from 'node:os';
import { basename, join, resolve } from 'node:path';
import { failed, ok, type Failure, type Outcome } from '@ofa-fleet/shared/outcome.ts';
import { AUGMENTATIONS, type Augmentation } from './augmentation.ts';
import { cifarVersionOf, holdsOtherCifar, loadCifar } from './cifar.ts';
import { labelsOf, permutation, SPLIT_SEED, splitOff, type Dataset, type ImageSet } from './dataset.ts';
import { decodeFiles, type DecodedFiles, type DecodeProgress } from './decoded-cache.ts';
import { DEBIAN_FASHION_MNIST, loadIdxFolder } from './idx.ts';
import { holdsFolders, isTinyImageNet, listClassFolders, listTinyImageNet, type FileList, type ImageFile } from './image-folder.ts';

/** Where programs keep decoded image files for the next run. */
export const IMAGE_CACHE_DIR = join(homedir(), '.cache', 'ofa-fleet', 'images');

type DatasetLayout = 'idx' | 'cifar-10' | 'cifar-100' | 'tiny-imagenet' | 'class-folders';

export interface OpenOptions {
  /** Shown and kept in the provenance; the folder's own name where not given. */
  readonly name?: string | undefined;
  /** Where decoded image files are kept; one folder serves all data sets. IDX and CIFAR files need none. */
  readonly cacheDir: string;
  /** Of image files: 3 (RGB, the default) or 1 (grey); IDX and CIFAR files are as they are. */
  readonly channels?: 1 | 3 | undefined;
  /** Side in pixels at which image files are kept; not given: the median of their short sides, 256 at most. */
  readonly side?: number | undefined;
  /** Of the training part, in (0, 1); where not given 0.15 (IDX: 5,000 of 60,000). */
  readonly validationShare?: number | undefined;
  /** Of all images where there is no test part, in (0, 1); 0.15 where not given. */
  readonly testShare?: number | undefined;
  readonly signal?: AbortSignal | undefined;
  readonly onProgress?: ((progress: DecodeProgress) => void) | undefined;
}

export interface OpenedDataset extends Dataset {
  readonly layout: DatasetLayout;
  /** By label; null where the files name none. */
  readonly classNames: readonly string[] | null;
  /** Fitting for such images, for recipes that leave it open. */
  readonly augmentation: Augmentation;
  /** Files that could not be read and are in no part. */
  readonly broken: readonly { readonly path: string; readonly why: string }[];
  /** Sentences for the user: first what it is and how it is split, then what is amiss. */
  readonly notes: readonly string[];
}

/** As OFAv2 splits Tiny ImageNet: 15,000 of 100,000. */
const VALIDATION_SHARE = 0.15;
const TEST_SHARE = 0.15;
/** From here on images show a scene rather than one object that fills them, so small crops are wanted (as for ImageNet). */
const SCENE_SIDE = 100;
const BROKEN_NAMED = 5;
/** The folders inside of the published archives. */
const ARCHIVE_FOLDERS = ['cifar-10-batches-bin', 'cifar-100-binary', 'tiny-imagenet-200'];

/**
 * Fails with NOT_FOUND, INVALID_INPUT or CORRUPT_FILE where the folder is none of the layouts, not complete or damaged, with LOW_DISK where
 * the cache finds no room, and with CANCELED where `signal` aborted.
 */
export async function openDataset(folder: string, options: OpenOptions): Promise<Outcome<OpenedDataset>> {
  const misfit = misfitOf(options);
  if (misfit !== null) return failed('INVALID_INPUT', misfit);
  if (statSync(folder, { throwIfNoEntry: false })?.isDirectory() !== true) {
    return failed('NOT_FOUND', `There is no folder ${folder}: ${layoutsText()}`);
  }
  const root = ARCHIVE_FOLDERS.map((name) => join(folder, name)).find((inner) => existsSync(inner)) ?? folder;
  const name = options.name ?? basename(resolve(root));
  const layout = layoutOf(root);
  if (layout === 'idx') return openIdx(root, name, options);
  if (layout === 'cifar-10' || layout === 'cifar-100') return openCifar(root, layout, name, options);
  if (layout === 'tiny-imagenet') return openFiles(root, layout, name, listTinyImageNet(root), options);
  if (holdsOtherCifar(root)) {
    return failed(
      'INVALID_INPUT',
      `${root} holds CIFAR in its Python or Matlab version, its binary version is needed: get cifar-10-binary.tar.gz or cifar-100-binary.tar.gz.`,
    );
  }
  if (layout === 'class-folders') return openFiles(root, layout, name, listClassFolders(root), options);
  return failed('INVALID_INPUT', `${folder} holds no images in a layout that is known: ${layoutsText()}`);
}

function misfitOf({ channels, side, validationShare, testShare }: OpenOptions): string | null {
  for (const [what, share] of [
    ['validation', validationShare],
    ['test', testShare],
  ] as const) {
    if (share !== undefined && !(share > 0 && share < 1)) return `The ${what} share is ${share}, it must be between 0 and 1, e.g. 0.15.`;
  }
  if (side !== undefined && !(Number.isInteger(side) && side > 0))
    return `The side of images is ${side}, a whole number of pixels is needed, e.g. 64.`;
  if (channels !== undefined && ![1, 3].includes(channels))
    return `Images with ${String(channels)} channels were asked for, 1 or 3 are possible.`;
  return null;
}

function layoutOf(root: string): DatasetLayout | null {
  if (readdirSync(root).some((name) => /-idx[13]-ubyte(\.gz)?$/.test(name))) return 'idx';
  return cifarVersionOf(root) ?? (isTinyImageNet(root) ? 'tiny-imagenet' : holdsFolders(root) ? 'class-folders' : null);
}

function layoutsText(): string {
  return (
    'give a folder of IDX files (train-images-idx3-ubyte.gz ...), of CIFAR in its binary version (data_batch_1.bin ... or train.bin), ' +
    'Tiny ImageNet (wnids.txt, train/, val/), or one with a folder of JPEG or PNG images for each class, plainly or in train/ with test/ or val/ beside it; ' +
    `on Debian \`apt-get install dataset-fashion-mnist\` puts IDX files in ${DEBIAN_FASHION_MNIST}.`
  );
}

function openIdx(root: string, name: string, options: OpenOptions): Outcome<OpenedDataset> {
  const loaded = loadIdxFolder(root, options.validationShare ?? null);
  if (!loaded.ok) return loaded;
  const dataset = { ...loaded.value, name };
  // unknown symbols may be digits: only what is known to be clothes is mirrored
  const augmentation = AUGMENTATIONS[/fashion/i.test(`${name} ${root}`) ? 'fashion-mnist' : 'digits'];
  const summary = summaryOf(dataset, 'IDX files', 'split off the training part', 'its own part');
  return ok({ ...dataset, layout: 'idx', classNames: null, augmentation, broken: [], notes: [summary] });
}

function openCifar(root: string, layout: 'cifar-10' | 'cifar-100', name: string, options: OpenOptions): Outcome<OpenedDataset> {
  const loaded = loadCifar(root, layout);
  if (!loaded.ok) return loaded;
  const { title, sha256, test, classNames, notes } = loaded.value;
  const validationCount = shareOf(loaded.value.train.count, options.validationShare ?? VALIDATION_SHARE);
  const dataset = { name, sha256, ...splitOff(loaded.value.train, validationCount, SPLIT_SEED), test };
  const summary = summaryOf(dataset, title, 'split off the training part', 'its own part');
  return ok({ ...dataset, layout, classNames, augmentation: AUGMENTATIONS.cifar, broken: [], notes: [summary, ...notes] });
}

async function openFiles(
  root: string,
  layout: 'tiny-imagenet' | 'class-folders',
  name: string,
  listed: Outcome<FileList>,
  options: OpenOptions,
): Promise<Outcome<OpenedDataset>> {
  if (!listed.ok) return listed;
  const { classNames, train, validation, test } = listed.value;
  const { channels = 3, side = null, cacheDir, signal, onProgress } = options;
  const files = [...train, ...(validation ?? []), ...(test ?? [])];
  const decoded = await decodeFiles({ root, files: files.map(({ path }) => path), channels, side, cacheDir, signal, onProgress });
  if (!decoded.ok) return decoded;
  const whyBroken = new Map(decoded.value.broken.map(({ file, why }) => [file, why]));
  const intact = (part: readonly ImageFile[] | null, from: number): number[] | null =>
    part === null ? null : Array.from(part, (_, i) => from + i).filter((file) => !whyBroken.has(file));
  const all = {
    train: intact(train, 0) as number[],
    validation: intact(validation, train.length),
    test: intact(test, train.length + (validation?.length ?? 0)),
  };
  const parts = split(all, options);
  const missing = classWithout(parts.train, files, classNames.length);
  if (missing !== null) return noImageLeft(root, classNames[missing] as string, missing, train, whyBroken);
  const empty = (['validation', 'test'] as const).find((part) => parts[part].length === 0);
  if (empty !== undefined)
    return failed('INVALID_INPUT', `${root} has too few readable images for a ${empty} part of its own: give more images.`);

  const sets = readParts(decoded.value, files, whyBroken, parts, channels, classNames.length);
  if (!sets.ok) return sets;
  const dataset: Dataset = { name, ...sets.value };
  const broken = decoded.value.broken.map(({ file, why }) => ({ path: join(root, (files[file] as ImageFile).path), why }));
  const notes = [
    summaryOf(
      dataset,
      layout === 'tiny-imagenet' ? 'Tiny ImageNet' : 'class folders',
      validation === null ? `a random ${percent(options.validationShare ?? VALIDATION_SHARE)} of the training part` : 'a folder of its own',
      test === null ? `a random ${percent(options.testShare ?? TEST_SHARE)} of all, since there is no test folder` : 'a folder of its own',
    ),
    ...brokenNote(broken, files.length, decoded.value.indexFile),
    ...listed.value.notes,
  ];
  const unseen = classWithout(parts.test, files, classNames.length);
  if (unseen !== null) notes.push(`The test part has no image of class "${classNames[unseen] as string}", perhaps of others neither.`);
  const scene = decoded.value.side >= SCENE_SIDE ? 'imagenet' : 'tiny-imagenet';
  return ok({ ...dataset, layout, classNames, augmentation: AUGMENTATIONS[scene], broken, notes });
}

interface Parts<T> {
  readonly train: T;
  readonly validation: T;
  readonly test: T;
}

/** Positions in the list of files. Of one random order the first are the validation part, the next (where none is given) the test part. */
function split({ train, validation, test }: Parts<number[] | null> & { readonly train: number[] }, options: OpenOptions): Parts<number[]> {
  const testCount = test === null ? shareOf(train.length, options.testShare ?? TEST_SHARE) : 0;
  const validationCount = validation === null ? shareOf(train.length - testCount, options.validationShare ?? VALIDATION_SHARE) : 0;
  if (testCount + validationCount === 0) return { train, validation: validation ?? [], test: test ?? [] };
  const order = Array.from(permutation(train.length, SPLIT_SEED), (i) => train[i] as number);
  return {
    validation: validation ?? order.slice(0, validationCount),
    test: test ?? order.slice(validationCount, validationCount + testCount),
    train: order.slice(validationCount + testCount),
  };
}

function shareOf(count: number, share: number): number {
  return Math.max(1, Math.round(count * share));
}

/** The first class of which `part` has no image. */
function classWithout(part: readonly number[], files: readonly ImageFile[], classes: number): number | null {
  const seen = new Set(part.map((file) => files[file]?.label));
  const first = Array.from({ length: classes }, (_, label) => label).find((label) => !seen.has(label));
  return first ?? null;
}

function noImageLeft(root: string, name: string, label: number, train: readonly ImageFile[], broken: ReadonlyMap<number, string>): Failure {
  const own = Array.from(train.entries()).filter(([, file]) => file.label === label);
  const unread = own.filter(([file]) => broken.has(file));
  const why =
    unread.length === own.length
      ? `none of its ${own.length} images can be read, e.g. ${unread[0]?.[1].path ?? ''}: ${broken.get(unread[0]?.[0] ?? -1) ?? ''}`
      : `its ${own.length - unread.length} images all fell to validation and test: give more of them`;
  return failed('INVALID_INPUT', `Class "${name}" of ${root} has no image to train on; ${why}.`);
}

/** The pixels go from the cache to their places, so that they are never held twice. */
function readParts(
  decoded: DecodedFiles,
  files: readonly ImageFile[],
  broken: ReadonlyMap<number, string>,
  parts: Parts<readonly number[]>,
  channels: number,
  classes: number,
): Outcome<Omit<Dataset, 'name'>> {
  const { side } = decoded;
  const imageBytes = side * side * channels;
  const places: ({ readonly set: ImageSet; readonly at: number } | undefined)[] = new Array<undefined>(files.length);
  const fill = (part: readonly number[]): ImageSet => {
    const count = part.length;
    const labels = labelsOf(count, classes);
    const set = { count, height: side, width: side, channels, pixels: new Uint8Array(count * imageBytes), labels, classes };
    part.forEach((file, at) => {
      labels[at] = (files[file] as ImageFile).label;
      places[file] = { set, at };
    });
    return set;
  };
  const sets = { train: fill(parts.train), validation: fill(parts.validation), test: fill(parts.test) };
  const intact = Array.from(files.keys()).filter((file) => !broken.has(file));
  const read = decoded.readPixels((image, pixels) => {
    const place = places[intact[image] as number];
    place?.set.pixels.set(pixels, place.at * imageBytes);
  });
  if (!read.ok) return read;
  const labels = labelsOf(intact.length, classes);
  intact.forEach((file, i) => (labels[i] = (files[file] as ImageFile).label));
  return ok({ sha256: read.value.update(labels).digest('hex'), ...sets });
}

function summaryOf({ name, train, validation, test }: Dataset, title: string, ofValidation: string, ofTest: string): string {
  const kind = `${train.width}x${train.height} ${train.channels === 1 ? 'grey' : 'colour'} images`;
  return (
    `${name} (${title}): ${train.classes} classes of ${kind}; ${thousands(train.count)} to train on, ` +
    `${thousands(validation.count)} to choose by (${ofValidation}), ${thousands(test.count)} to test on (${ofTest}).`
  );
}

function brokenNote(broken: OpenedDataset['broken'], files: number, indexFile: string): string[] {
  if (broken.length === 0) return [];
  const named = broken.slice(0, BROKEN_NAMED).map(({ path, why }) => `${path} (${why})`);
  const rest = broken.length > named.length ? `, ...; all are listed in ${indexFile}` : '';
  return [`${thousands(broken.length)} of ${thousands(files)} image files cannot be read and are left out: ${named.join(', ')}${rest}.`];
}

function percent(share: number): string {
  return `${Number((share * 100).toPrecision(3))} %`;
}

function thousands(count: number): string {
  return count.toLocaleString('en-US');
}
