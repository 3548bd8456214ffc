// Images in NumPy's file format (https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html): what calibrates a net whose
// training images are not here, bit by bit as the training program fed them.
import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { failed, ok, type Failure, type Outcome } from '@ofa-fleet/shared/outcome.ts';
import type { Space } from '../space.ts';
import type { InputImages, PreparedImages } from './images.ts';

/** A byte u becomes the input value (u - offset) / divisor. */
export interface ByteScale {
  readonly offset: number;
  readonly divisor: number;
}

const MAGIC = '\x93NUMPY';
/** Length of magic, version and the header's length, by major version. */
const PREAMBLE_BYTES: Readonly<Record<number, number>> = { 1: 10, 2: 12, 3: 12 };
const DTYPES: Readonly<Record<string, 'uint8' | 'float32'>> = { '|u1': 'uint8', '<u1': 'uint8', u1: 'uint8', '<f4': 'float32' };
const AS_NEEDED = 'save it with numpy.save as uint8 or float32 of shape [images, channels, height, width]';

/**
 * The images of `file`, [N, C, H, W] of float32 (input values as they are) or uint8, cut to the top left square of side `resolution`. Bytes
 * become input values by `scale`, or where it is null by the space's mean and std of pixels in [0, 1]. Fails with NOT_FOUND, or with
 * CORRUPT_FILE or INVALID_INPUT that name what is in the file and what should be.
 */
export function readNpyImages(file: string, space: Space, resolution: number, scale: ByteScale | null): Outcome<PreparedImages> {
  let bytes: Buffer;
  try {
    bytes = readFileSync(file);
  } catch (error) {
    return failed('NOT_FOUND', `Cannot read ${file} (${messageOf(error)}): name a .npy file that is there.`);
  }
  const array = parseNpy(bytes, file);
  if (!array.ok) return array;
  const { kind, shape, start } = array.value;
  const [count = 0, channels = 0, height = 0, width = 0] = shape;
  const invalid = (what: string): Failure => failed('INVALID_INPUT', `${file} ${what}.`);
  if (shape.length !== 4) return invalid(`has ${shape.length} axes (${shape.join('x')}), 4 are needed: ${AS_NEEDED}`);
  if (channels !== space.inputChannels) {
    const turned = width === space.inputChannels ? '; its channels seem to be last: transpose it to [0, 3, 1, 2]' : '';
    return invalid(
      `has ${channels} channels (${shape.join('x')}), space ${space.name} takes ${space.inputChannels}: ${AS_NEEDED}${turned}`,
    );
  }
  if (count === 0) return invalid('holds 0 images, at least 1 is needed');
  if (height < resolution || width < resolution) {
    return invalid(
      `has images of ${height}x${width}, the subnet takes ${resolution}x${resolution}: give larger ones, or a smaller --resolution`,
    );
  }
  const values = kind === 'float32' ? floatCrop(bytes, start, shape, resolution) : byteCrop(bytes, start, shape, resolution, space, scale);
  const bad = values.findIndex((value) => !Number.isFinite(value));
  if (bad >= 0)
    return invalid(
      `holds ${values[bad]} in image ${Math.floor(bad / (channels * resolution * resolution)) + 1}, only finite numbers can be calibrated with`,
    );
  const images: InputImages = { shape: [channels, resolution, resolution], count, data: values };
  return ok({
    count,
    sha256: createHash('sha256').update(new Uint8Array(values.buffer)).digest('hex'),
    at(asked) {
      if (asked !== resolution) throw new Error(`These images were cut to ${resolution}, not to ${asked}.`);
      return images;
    },
  });
}

interface NpyArray {
  readonly kind: 'uint8' | 'float32';
  readonly shape: readonly number[];
  /** Where the numbers begin. */
  readonly start: number;
}

function parseNpy(bytes: Buffer, file: string): Outcome<NpyArray> {
  const corrupt = (what: string): Failure => failed('CORRUPT_FILE', `${file} ${what}.`);
  const preamble = PREAMBLE_BYTES[bytes[6] ?? 0] ?? 0;
  if (bytes.subarray(0, MAGIC.length).toString('latin1') !== MAGIC)
    return corrupt(`is no .npy file (it has ${bytes.length} bytes and another beginning): ${AS_NEEDED}`);
  if (preamble === 0) return corrupt(`is of version ${bytes[6] ?? '?'} of the .npy format, 1 to 3 are read`);
  if (bytes.length < preamble) return corrupt('is cut short within its header: copy it again');
  const start = preamble + (preamble === 10 ? bytes.readUInt16LE(8) : bytes.readUInt32LE(8));
  if (bytes.length < start) return corrupt('is cut short within its header: copy it again');
  const header = bytes.subarray(preamble, start).toString('latin1');
  const descr = /'descr'\s*:\s*'([^']*)'/.exec(header)?.[1];
  const order = /'fortran_order'\s*:\s*(True|False)/.exec(header)?.[1];
  const sides = /'shape'\s*:\s*\(([\d\s,]*)\)/.exec(header)?.[1];
  if (order === undefined || sides === undefined) return corrupt('has a header without order or shape: copy it again');
  const kind = descr === undefined ? undefined : DTYPES[descr];
  if (kind === undefined)
    return failed('INVALID_INPUT', `${file} holds numbers of kind ${descr ?? 'unknown'}: ${AS_NEEDED}, e.g. array.astype('float32').`);
  if (order === 'True') return failed('INVALID_INPUT', `${file} is in Fortran order: save numpy.ascontiguousarray(array) instead.`);
  const shape = (sides.match(/\d+/g) ?? []).map(Number);
  const needed = shape.reduce((product, side) => product * side, kind === 'uint8' ? 1 : 4);
  const held = bytes.length - start;
  if (held !== needed) {
    const why = held < needed ? 'it was cut short' : 'more was appended';
    return corrupt(`announces ${needed} bytes of ${kind} (${shape.join('x')}) and has ${held}: ${why}; copy it again`);
  }
  return ok({ kind, shape, start });
}

/** Calls `row` for each row of each channel of each crop: where it begins among the stored elements, where among the values, its channel. */
function eachRow(shape: readonly number[], side: number, row: (from: number, to: number, channel: number) => void): void {
  const [count = 0, channels = 0, height = 0, width = 0] = shape;
  for (let plane = 0; plane < count * channels; plane++) {
    for (let y = 0; y < side; y++) row((plane * height + y) * width, (plane * side + y) * side, plane % channels);
  }
}

function cropLength([count = 0, channels = 0]: readonly number[], side: number): number {
  return count * channels * side * side;
}

function floatCrop(bytes: Buffer, start: number, shape: readonly number[], side: number): Float32Array<ArrayBuffer> {
  const values = new Float32Array(cropLength(shape, side));
  const target = new Uint8Array(values.buffer); // copied as bytes, since the file's floats need not lie aligned
  eachRow(shape, side, (from, to) => target.set(bytes.subarray(start + 4 * from, start + 4 * (from + side)), 4 * to));
  return values;
}

function byteCrop(
  bytes: Buffer,
  start: number,
  shape: readonly number[],
  side: number,
  space: Space,
  scale: ByteScale | null,
): Float32Array<ArrayBuffer> {
  const values = new Float32Array(cropLength(shape, side));
  const tables = Array.from({ length: space.inputChannels }, (_, channel) => {
    const [mean, std] = [space.mean[channel] as number, space.std[channel] as number];
    return Float32Array.from({ length: 256 }, (_value, u) =>
      scale === null ? (u / 255 - mean) / std : (u - scale.offset) / scale.divisor,
    );
  });
  eachRow(shape, side, (from, to, channel) => {
    const table = tables[channel] as Float32Array;
    for (let x = 0; x < side; x++) values[to + x] = table[bytes[start + from + x] as number] as number;
  });
  return values;
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
