// Which image files a folder holds and what they show: a folder for each class, plainly or in train/ with val/ and test/ beside it, and
// Tiny ImageNet as it is published. Only names are looked at here.
import { readdirSync, readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { failed, ok, type Outcome } from '@ofa-fleet/shared/outcome.ts';

export interface ImageFile {
  /** Relative to the data set's folder. */
  readonly path: string;
  /** Position in `classNames`. */
  readonly label: number;
}

export interface FileList {
  /** As people call the classes, in the order of the labels, which is that of the folders' names. */
  readonly classNames: readonly string[];
  readonly train: readonly ImageFile[];
  /** null: there is no such part. */
  readonly validation: readonly ImageFile[] | null;
  readonly test: readonly ImageFile[] | null;
  /** What the user should know of these files. */
  readonly notes: readonly string[];
}

const IMAGE = /\.(jpe?g|png)$/i;
const OTHER_IMAGE = /\.(webp|gif|bmp|tiff?|avif|heic)$/i;
const VALIDATION_FOLDERS = ['val', 'valid', 'validation'];
const ANNOTATIONS = 'val_annotations.txt';

/** By the list of its classes, which no other layout has. */
export function isTinyImageNet(root: string): boolean {
  return isFile(join(root, 'wnids.txt')) && isFolder(join(root, 'train'));
}

/** Whether there are folders in it that may be classes. */
export function holdsFolders(root: string): boolean {
  return foldersIn(root).length > 0;
}

/**
 * `train/<class>/` with `test/` or `val/` or both beside it, else `<class>/`; images may lie deeper in a class's folder. One of `test` and
 * `val` is the test part, of both `val` is the validation part. Fails with NOT_FOUND or INVALID_INPUT.
 */
export function listClassFolders(root: string): Outcome<FileList> {
  const hasTrain = foldersIn(join(root, 'train')).length > 0;
  const base = hasTrain ? 'train' : '';
  const names = foldersIn(join(root, base));
  const ignored: string[] = [];
  const train = listClasses(root, base, names, ignored);
  if (!train.ok) return train;
  const notes: string[] = [];
  const part = (folder: string): Outcome<readonly ImageFile[] | null> => {
    const found = foldersIn(join(root, folder));
    if (found.length === 0) return ok(null);
    const unknown = found.filter((name) => !names.includes(name));
    if (unknown.length === found.length) {
      notes.push(`${join(root, folder)} has no folder named as a class of train/ is, so its images have no labels and are left out.`);
      return ok(null);
    }
    if (unknown.length > 0) {
      return failed(
        'INVALID_INPUT',
        `${join(root, folder)} has ${quoted(unknown)}, train/ has no such class: rename or remove what does not belong there.`,
      );
    }
    const files = names.flatMap((name, label) => filesOf(root, `${folder}/${name}`, label, ignored));
    return ok(files.length === 0 ? null : files);
  };
  const validationFolder = VALIDATION_FOLDERS.find((name) => isFolder(join(root, name)));
  const validation = !hasTrain || validationFolder === undefined ? ok(null) : part(validationFolder);
  if (!validation.ok) return validation;
  const test = hasTrain ? part('test') : ok(null);
  if (!test.ok) return test;
  if (ignored.length > 0) {
    notes.push(
      `${ignored.length} images of other formats than JPEG and PNG are left out, e.g. ${ignored[0] ?? ''}: convert them to be used.`,
    );
  }
  const parts = test.value === null ? { validation: null, test: validation.value } : { validation: validation.value, test: test.value };
  return ok({ classNames: names, train: train.value, ...parts, notes });
}

/**
 * `wnids.txt`, `words.txt`, `train/<wnid>/images/`, and the official validation images, which are the test part (as OFAv2 takes them):
 * `val/images/` with `val_annotations.txt`, or sorted into `val/<wnid>/` as many copies are. Labels follow the sorted wnids, as those of
 * other loaders do. Fails with NOT_FOUND, INVALID_INPUT or CORRUPT_FILE.
 */
export function listTinyImageNet(root: string): Outcome<FileList> {
  const wnids = linesOf(join(root, 'wnids.txt')).sort();
  const repeated = wnids.find((wnid, i) => wnid === wnids[i + 1]);
  if (repeated !== undefined)
    return failed('CORRUPT_FILE', `${join(root, 'wnids.txt')} names ${repeated} twice: unpack the archive again.`);
  const train = listClasses(root, 'train', wnids, []);
  if (!train.ok) return train;
  const test = isFile(join(root, 'val', ANNOTATIONS)) ? listAnnotated(root, wnids) : listSorted(root, wnids);
  if (!test.ok) return test;
  const words = new Map(
    linesOf(join(root, 'words.txt')).map((line) => {
      const [wnid = '', name = wnid] = line.split('\t');
      return [wnid, name];
    }),
  );
  const classNames = wnids.map((wnid) => words.get(wnid) ?? wnid);
  return ok({ classNames, train: train.value, validation: null, test: test.value, notes: [] });
}

function listAnnotated(root: string, wnids: readonly string[]): Outcome<readonly ImageFile[]> {
  const labels = new Map(wnids.map((wnid, label) => [wnid, label]));
  const files: ImageFile[] = [];
  for (const [i, line] of linesOf(join(root, 'val', ANNOTATIONS)).entries()) {
    const [name = '', wnid = ''] = line.split('\t');
    const label = labels.get(wnid);
    if (!IMAGE.test(name) || name.includes('/') || label === undefined) {
      return failed(
        'CORRUPT_FILE',
        `${join(root, 'val', ANNOTATIONS)}, line ${i + 1}: "${line.slice(0, 80)}" is no image's name and a wnid of wnids.txt with a tab between: unpack the archive again.`,
      );
    }
    files.push({ path: `val/images/${name}`, label });
  }
  if (files.length > 0) return ok(files);
  return failed('CORRUPT_FILE', `${join(root, 'val', ANNOTATIONS)} is empty: unpack the archive again.`);
}

function listSorted(root: string, wnids: readonly string[]): Outcome<readonly ImageFile[]> {
  const files = wnids.flatMap((wnid, label) => filesOf(root, `val/${wnid}`, label, []));
  if (files.length > 0) return ok(files);
  return failed(
    'NOT_FOUND',
    `There is no ${join(root, 'val', ANNOTATIONS)}, nor are there images in val/<wnid>/: the test images are not complete, unpack the archive again.`,
  );
}

/** Every class has an image, and there are two classes at least. */
function listClasses(root: string, base: string, names: readonly string[], ignored: string[]): Outcome<readonly ImageFile[]> {
  const folder = join(root, base);
  if (names.length < 2) {
    return failed(
      'INVALID_INPUT',
      `${folder} has ${names.length} class folder(s), 2 are needed to tell apart: put each class's images in a folder of its own.`,
    );
  }
  const files = names.map((name, label) => filesOf(root, base === '' ? name : `${base}/${name}`, label, ignored));
  const empty = names.filter((_, label) => files[label]?.length === 0);
  if (empty.length > 0) {
    const others = ignored.length === 0 ? '' : ` (${ignored.length} files are images of other formats, e.g. ${ignored[0] ?? ''})`;
    return failed(
      'INVALID_INPUT',
      `${empty.length === 1 ? 'Class' : 'Classes'} ${quoted(empty)} in ${folder} ${empty.length === 1 ? 'has' : 'have'} no .jpg, .jpeg or .png image${others}: put images there or remove the folder.`,
    );
  }
  return ok(files.flat());
}

function filesOf(root: string, folder: string, label: number, ignored: string[]): ImageFile[] {
  if (!isFolder(join(root, folder))) return [];
  const files: ImageFile[] = [];
  for (const entry of readdirSync(join(root, folder), { recursive: true, encoding: 'utf8' }).sort()) {
    const path = `${folder}/${entry}`;
    if (isHidden(path.slice(folder.length))) continue;
    if (IMAGE.test(entry)) files.push({ path, label });
    else if (OTHER_IMAGE.test(entry)) ignored.push(path);
  }
  return files;
}

/** Of macOS archives and editors: `._cat.jpg` is no picture. */
function isHidden(path: string): boolean {
  return /(^|\/)(\.|__MACOSX)/.test(path);
}

function foldersIn(folder: string): string[] {
  if (!isFolder(folder)) return [];
  return readdirSync(folder)
    .filter((name) => !isHidden(name) && isFolder(join(folder, name)))
    .sort();
}

function linesOf(file: string): string[] {
  if (!isFile(file)) return [];
  return readFileSync(file, 'utf8')
    .split(/\r?\n/)
    .filter((line) => line.trim() !== '');
}

function isFolder(path: string): boolean {
  return statSync(path, { throwIfNoEntry: false })?.isDirectory() === true;
}

function isFile(path: string): boolean {
  return statSync(path, { throwIfNoEntry: false })?.isFile() === true;
}

/** At most ten names. */
function quoted(names: readonly string[]): string {
  const shown = names.slice(0, 10).map((name) => `"${name}"`);
  return names.length > shown.length ? `${shown.join(', ')} and ${names.length - shown.length} more` : shown.join(', ');
}
