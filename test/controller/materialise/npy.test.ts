// Calibration images in NumPy's format: which values a net gets, and what is said of a file that cannot be used.
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { readNpyImages, type ByteScale } from '../../../controller/materialise/npy.ts';
import type { Space } from '../../../controller/space.ts';
import { value } from '../../helpers/outcome.ts';
import { smallSpace } from '../../helpers/spaces.ts';

const coloured: Space = { ...smallSpace, inputChannels: 3, mean: [0, 0.5, 0.25], std: [1, 0.5, 2] };
let file: string;
let dir: string;
beforeAll(() => {
  dir = mkdtempSync(join(tmpdir(), 'ofa-npy-'));
  file = join(dir, 'images.npy');
});
afterAll(() => rmSync(dir, { recursive: true, force: true }));

function npy(descr: string, shape: readonly number[], data: Uint8Array, fortran = 'False', version = 1): Buffer {
  const header = Buffer.from(
    `{'descr': ${descr}, 'fortran_order': ${fortran}, 'shape': (${shape.join(', ')}${shape.length === 1 ? ',' : ''}), }\n`,
  );
  const length = Buffer.alloc(version === 1 ? 2 : 4);
  if (version === 1) length.writeUInt16LE(header.length);
  else length.writeUInt32LE(header.length);
  return Buffer.concat([Buffer.from('\x93NUMPY', 'latin1'), Buffer.from([version, 0]), length, header, data]);
}
const floats = (...values: readonly number[]) => new Uint8Array(Float32Array.from(values).buffer);
const bytes = (count: number) => Uint8Array.from({ length: count }, (_, i) => i);

function read(contents: Uint8Array, resolution: number, scale: ByteScale | null = null, space: Space = smallSpace) {
  writeFileSync(file, contents);
  return readNpyImages(file, space, resolution, scale);
}

describe('images in a .npy file', () => {
  it.each([1, 2])('are cut to the top left square, floats as they are (version %d of the format)', (version) => {
    const images = value(read(npy("'<f4'", [2, 1, 2, 3], floats(1, 2, 3, 4, 5, 6, -1, -2, -3, -4, -5, -6), 'False', version), 2));
    expect(images.at(2)).toEqual({ shape: [1, 2, 2], count: 2, data: Float32Array.of(1, 2, 4, 5, -1, -2, -4, -5) });
  });

  it('are cut at the top left, not in the middle, also of much larger images', () => {
    const images = value(read(npy("'|u1'", [1, 1, 5, 6], bytes(30)), 2, { offset: 0, divisor: 1 }));
    expect(images.at(2).data).toEqual(Float32Array.of(0, 1, 6, 7));
    const whole = value(read(npy("'<f4'", [1, 1, 4, 4], floats(...bytes(16))), 2));
    expect(whole.at(2).data).toEqual(Float32Array.of(0, 1, 4, 5));
  });

  it('become (u - offset) / divisor of their bytes', () => {
    const images = value(read(npy("'|u1'", [1, 1, 2, 2], Uint8Array.of(0, 128, 160, 255)), 2, { offset: 128, divisor: 64 }));
    expect(images.at(2).data).toEqual(Float32Array.of(-2, 0, 0.5, 127 / 64));
  });

  it('are normalised by the mean and std of the space, channel by channel, where no scale is given', () => {
    const images = value(read(npy("'|u1'", [1, 3, 1, 1], Uint8Array.of(51, 51, 51)), 1, null, coloured));
    expect(images.at(1).data).toEqual(Float32Array.of(0.2, (0.2 - 0.5) / 0.5, (0.2 - 0.25) / 2));
  });

  it('have one name for the same values, and another where bytes mean something else', () => {
    const contents = npy("'|u1'", [1, 1, 2, 2], bytes(4));
    const [a, b, c] = [null, null, { offset: 128, divisor: 64 }].map((scale) => value(read(contents, 2, scale)).sha256);
    expect(a).toBe(b);
    expect(c).not.toBe(a);
  });

  it.each<[string, Uint8Array, RegExp]>([
    ['text', Buffer.from('no numpy here'), /is no \.npy file \(it has 13 bytes.*numpy\.save/],
    ['a later version', npy("'|u1'", [1, 1, 2, 2], bytes(4), 'False', 9), /version 9 of the \.npy format/],
    ['a header cut short', npy("'|u1'", [1, 1, 2, 2], bytes(4)).subarray(0, 40), /cut short within its header/],
    ['float64', npy("'<f8'", [1, 1, 2, 2], new Uint8Array(32)), /numbers of kind <f8: .*astype\('float32'\)/],
    ['big-endian floats', npy("'>f4'", [1, 1, 2, 2], new Uint8Array(16)), /numbers of kind >f4/],
    ['records', npy("[('a', '<f4')]", [1, 1, 2, 2], new Uint8Array(16)), /numbers of kind unknown/],
    ['Fortran order', npy("'<f4'", [1, 1, 2, 2], new Uint8Array(16), 'True'), /Fortran order: save numpy\.ascontiguousarray/],
    ['three axes', npy("'|u1'", [1, 2, 2], bytes(4)), /has 3 axes \(1x2x2\), 4 are needed/],
    [
      'channels last',
      npy("'|u1'", [1, 2, 2, 1], bytes(4)),
      /has 2 channels \(1x2x2x1\), space small takes 1: .*transpose it to \[0, 3, 1, 2\]/,
    ],
    ['no image', npy("'|u1'", [0, 1, 2, 2], bytes(0)), /holds 0 images/],
    ['smaller images', npy("'|u1'", [1, 1, 1, 2], bytes(2)), /images of 1x2, the subnet takes 2x2/],
    [
      'fewer bytes than announced',
      npy("'<f4'", [1, 1, 2, 2], new Uint8Array(15)),
      /announces 16 bytes of float32 \(1x1x2x2\) and has 15: it was cut short/,
    ],
    ['more bytes than announced', npy("'|u1'", [1, 1, 2, 2], bytes(5)), /announces 4 bytes of uint8 .* has 5: more was appended/],
    ['a number that is none', npy("'<f4'", [2, 1, 2, 2], floats(1, 2, 3, 4, 5, NaN, 7, 8)), /holds NaN in image 2/],
  ])('are refused with a clear sentence: %s', (_, contents, pattern) => {
    const outcome = read(contents, 2);
    expect(outcome.ok ? '' : outcome.message).toMatch(pattern);
  });

  it('are refused where there is no file', () => {
    expect(readNpyImages(join(dir, 'none.npy'), smallSpace, 2, null)).toMatchObject({ ok: false, reason: 'NOT_FOUND' });
  });
});
