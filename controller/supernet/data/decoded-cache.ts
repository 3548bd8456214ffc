// Image files decoded once: one file with the pixels of all of them at one size, and an index that says which files they were. Training
// reads the pixels in a second where decoding takes minutes. Invariants: the index is written last and names its pixel file by content, so
// that a cache is whole or not there; it counts only while every file's name, size and time of change are as they were.
import { createHash, randomBytes } from 'node:crypto';
import {
  closeSync,
  existsSync,
  fsyncSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  readSync,
  renameSync,
  rmSync,
  statSync,
  writeSync,
} from 'node:fs';
import { basename, join, resolve } from 'node:path';
import { z } from 'zod';
import { failed, ok, type Failure, type Outcome } from '@ofa-fleet/shared/outcome.ts';
import { writeAtomically, writeFailure } from '../checkpoint.ts';
import { decodeImage, imageSizeOf, squareOf } from './image-file.ts';

/** Changes when the same files would be decoded to other pixels. */
const DECODER = 1;
const MAX_FILE_BYTES = 256 * 2 ** 20;
/** Of all pixels together: they are held in memory while training. */
const MAX_PIXEL_BYTES = 8 * 2 ** 30;
const MAX_DEFAULT_SIDE = 256;
const FILES_SAMPLED = 200;
/** Files decoded between two looks at the signal. */
const STRIDE = 32;
const BUFFER_BYTES = 8 * 2 ** 20;
/** A draft that nobody has written to for so long is of a process that was killed. */
const ABANDONED_MS = 3_600_000;

const indexSchema = z.strictObject({
  fingerprint: z.string(),
  pixelFile: z.string().regex(/^[\w.-]+$/),
  sha256: z.string(),
  side: z.int().min(1),
  /** Files that could not be decoded, by position in the list; the others' pixels follow each other. */
  broken: z.array(z.strictObject({ file: z.int().min(0), why: z.string() })),
});

type Index = Readonly<z.infer<typeof indexSchema>>;

export interface DecodeRequest {
  readonly root: string;
  /** Relative to `root`; the order of the pixels. */
  readonly files: readonly string[];
  readonly channels: number;
  /** Side of the square that each image becomes; null: the median of the short sides, 256 at most. */
  readonly side: number | null;
  readonly cacheDir: string;
  readonly signal?: AbortSignal | undefined;
  readonly onProgress?: ((progress: DecodeProgress) => void) | undefined;
}

export interface DecodeProgress {
  readonly decoded: number;
  readonly files: number;
  /** Files skipped so far since they cannot be read. */
  readonly broken: number;
}

export interface DecodedFiles {
  readonly side: number;
  readonly broken: Index['broken'];
  /** Of the index, which lists the broken files. */
  readonly indexFile: string;
  /**
   * Hands out each image's [side, side, channels] pixels in order, broken files left out; they are valid during the call. Returns the hash
   * over all of them, or a failure where the cache is not what was written: then it is removed.
   */
  readPixels(take: (image: number, pixels: Uint8Array) => void): Outcome<ReturnType<typeof createHash>>;
}

/** The files' pixels, from the cache where it fits, else decoded now. Fails with CANCELED, LOW_DISK, INVALID_INPUT or CORRUPT_FILE. */
export async function decodeFiles(request: DecodeRequest): Promise<Outcome<DecodedFiles>> {
  const { root, channels, side, cacheDir } = request;
  const place = createHash('sha256')
    .update(`${resolve(root)}\n${channels}\n${String(side)}`)
    .digest('hex')
    .slice(0, 12);
  const name = `${basename(resolve(root)).replaceAll(/[^\w.-]/g, '_')}-${place}`;
  const indexFile = join(cacheDir, `${name}.json`);
  const fingerprint = fingerprintOf(request);
  const known = readIndex(indexFile);
  if (known !== null && known.fingerprint === fingerprint && isWhole(known, request)) return ok(decodedFiles(known, request, indexFile));

  const chosen = side === null ? commonSide(request) : ok(side);
  if (!chosen.ok) return chosen;
  const bytes = request.files.length * chosen.value ** 2 * channels;
  if (bytes > MAX_PIXEL_BYTES) {
    return failed(
      'INVALID_INPUT',
      `${request.files.length} images of ${root} at ${chosen.value}x${chosen.value} take ${gigabytes(bytes)} of memory, the limit is ${gigabytes(MAX_PIXEL_BYTES)}: store them smaller (side ${Math.floor(Math.sqrt(MAX_PIXEL_BYTES / request.files.length / channels))} fits) or take fewer.`,
    );
  }
  const draft = join(cacheDir, `${name}.${randomBytes(4).toString('hex')}.tmp`);
  try {
    mkdirSync(cacheDir, { recursive: true });
    const decoded = await decodeTo(draft, request, chosen.value);
    removeAbandoned(cacheDir, name, statSync(draft).mtimeMs);
    if (decoded === null)
      return failed('CANCELED', `Stopped while decoding the images of ${root}; the same command begins with them again.`);
    const pixelFile = `${name}.${decoded.sha256.slice(0, 12)}.pixels`;
    renameSync(draft, join(cacheDir, pixelFile));
    const index: Index = { fingerprint, pixelFile, side: chosen.value, ...decoded };
    const written = writeAtomically(indexFile, Buffer.from(`${JSON.stringify(index)}\n`));
    if (!written.ok) return written;
    if (known !== null && known.pixelFile !== pixelFile) rmSync(join(cacheDir, known.pixelFile), { force: true });
    return ok(decodedFiles(index, request, indexFile));
  } catch (error) {
    return cacheFailure(error, draft, bytes);
  } finally {
    if (existsSync(draft)) rmSync(draft);
  }
}

function removeAbandoned(cacheDir: string, name: string, nowMs: number): void {
  for (const each of readdirSync(cacheDir)) {
    const isDraft = each.startsWith(`${name}.`) && each.endsWith('.tmp');
    const file = join(cacheDir, each);
    const writtenMs = isDraft ? statSync(file, { throwIfNoEntry: false })?.mtimeMs : undefined;
    if (writtenMs !== undefined && nowMs - writtenMs > ABANDONED_MS) rmSync(file, { force: true });
  }
}

function gigabytes(bytes: number): string {
  return `${(bytes / 2 ** 30).toFixed(1)} GiB`;
}

function cacheFailure(error: unknown, file: string, bytes: number): Failure {
  if ((error as NodeJS.ErrnoException).code === 'EFBIG') {
    return failed(
      'LOW_DISK',
      `${file} may not grow to ${bytes} bytes here (EFBIG): raise the limit on file sizes (ulimit -f) or choose another folder for the cache.`,
    );
  }
  return writeFailure(error, file, bytes);
}

/** Over everything that decides what the pixels are, the files' contents by their size and time of change. */
function fingerprintOf({ root, files, channels, side }: DecodeRequest): string {
  const hash = createHash('sha256').update(JSON.stringify({ decoder: DECODER, channels, side }));
  for (const file of files) {
    const found = statSync(join(root, file), { throwIfNoEntry: false });
    hash.update(`\n${file}\n${found === undefined ? 'gone' : `${found.size} ${found.mtimeMs}`}`);
  }
  return hash.digest('hex');
}

function readIndex(file: string): Index | null {
  try {
    return indexSchema.parse(JSON.parse(readFileSync(file, 'utf8')));
  } catch {
    return null; // none yet, or not one of ours: it is made anew
  }
}

function isWhole({ pixelFile, side, broken }: Index, { files, channels, cacheDir }: DecodeRequest): boolean {
  const bytes = (files.length - broken.length) * side * side * channels;
  return statSync(join(cacheDir, pixelFile), { throwIfNoEntry: false })?.size === bytes;
}

/** Median of the short sides of a spread of files, from their headers. */
function commonSide({ root, files }: DecodeRequest): Outcome<number> {
  const sampled = files.filter((_, i) => i % Math.ceil(files.length / FILES_SAMPLED) === 0);
  const sides = sampled
    .map((file) => {
      const bytes = bytesOf(join(root, file));
      const size = bytes.ok ? imageSizeOf(bytes.value) : null;
      return size === null ? 0 : Math.min(size.width, size.height);
    })
    .filter((side) => side > 0)
    .sort((a, b) => a - b);
  const median = sides[Math.floor(sides.length / 2)];
  if (median !== undefined) return ok(Math.min(median, MAX_DEFAULT_SIDE));
  return failed(
    'CORRUPT_FILE',
    `None of ${sampled.length} image files tried in ${root} is a JPEG or PNG, e.g. ${sampled[0] ?? ''}: give another folder.`,
  );
}

function bytesOf(path: string): Outcome<Uint8Array> {
  try {
    const { size } = statSync(path);
    if (size > MAX_FILE_BYTES) return failed('INVALID_INPUT', `it has ${size} bytes, the limit is ${MAX_FILE_BYTES}`);
    return ok(readFileSync(path));
  } catch (error) {
    return failed('NOT_FOUND', `it cannot be read (${error instanceof Error ? error.message : String(error)})`);
  }
}

async function decodeTo(draft: string, request: DecodeRequest, side: number): Promise<Pick<Index, 'sha256' | 'broken'> | null> {
  const { root, files, channels, signal, onProgress } = request;
  const hash = createHash('sha256');
  const broken: Index['broken'] = [];
  const imageBytes = side * side * channels;
  const buffer = Buffer.alloc(Math.max(1, Math.floor(BUFFER_BYTES / imageBytes)) * imageBytes);
  let filled = 0;
  const descriptor = openSync(draft, 'w');
  const flush = () => {
    for (let written = 0; written < filled;) written += writeSync(descriptor, buffer, written, filled - written);
    hash.update(buffer.subarray(0, filled));
    filled = 0;
  };
  try {
    for (const [f, file] of files.entries()) {
      if (f % STRIDE === 0) {
        onProgress?.({ decoded: f, files: files.length, broken: broken.length });
        await new Promise(setImmediate); // lets signals and other work in
        if (signal?.aborted === true) return null;
      }
      const bytes = bytesOf(join(root, file));
      const image = bytes.ok ? decodeImage(bytes.value, channels) : bytes;
      if (!image.ok) {
        broken.push({ file: f, why: image.message });
        continue;
      }
      buffer.set(squareOf(image.value, side), filled);
      filled += imageBytes;
      if (filled === buffer.length) flush();
    }
    flush();
    fsyncSync(descriptor);
  } finally {
    closeSync(descriptor);
  }
  onProgress?.({ decoded: files.length, files: files.length, broken: broken.length });
  return { sha256: hash.digest('hex'), broken };
}

function decodedFiles(index: Index, { files, channels, cacheDir }: DecodeRequest, indexFile: string): DecodedFiles {
  const { side, broken, sha256, pixelFile } = index;
  return {
    side,
    broken,
    indexFile,
    readPixels(take) {
      const path = join(cacheDir, pixelFile);
      const imageBytes = side * side * channels;
      const images = files.length - broken.length;
      const perRead = Math.max(1, Math.floor(BUFFER_BYTES / imageBytes));
      const buffer = Buffer.alloc(perRead * imageBytes);
      const hash = createHash('sha256');
      const descriptor = openSync(path, 'r');
      try {
        for (let first = 0; first < images; first += perRead) {
          const wanted = Math.min(perRead, images - first) * imageBytes;
          let read = 0;
          for (let more = -1; read < wanted && more !== 0; read += more) more = readSync(descriptor, buffer, read, wanted - read, null);
          hash.update(buffer.subarray(0, read));
          for (let i = 0; (i + 1) * imageBytes <= read; i++) take(first + i, buffer.subarray(i * imageBytes, (i + 1) * imageBytes));
        }
      } finally {
        closeSync(descriptor);
      }
      if (hash.copy().digest('hex') === sha256) return ok(hash);
      rmSync(indexFile, { force: true });
      return failed(
        'CORRUPT_FILE',
        `${path} is not as it was written (its SHA-256 differs); it counts no more: start the same command again, it decodes the images anew.`,
      );
    },
  };
}
