// Images and data sets that tests make themselves, file by file in each layout.
import { mkdirSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import jpeg from 'jpeg-js';
import { PNG } from 'pngjs';
import type { ImageSet } from '../../../../controller/supernet/data/dataset.ts';

export function images(count: number, height: number, width: number, channels = 1): ImageSet {
  const pixels = Uint8Array.from({ length: count * height * width * channels }, (_, i) => (i * 37) % 256);
  return { count, height, width, channels, pixels, labels: Uint8Array.from({ length: count }, (_, i) => i % 3), classes: 3 };
}

export type Colour = readonly [number, number, number];

function rgba(width: number, height: number, colourAt: (x: number, y: number) => Colour, alpha = 255): Buffer {
  const data = Buffer.alloc(width * height * 4);
  for (let y = 0; y < height; y++) for (let x = 0; x < width; x++) data.set([...colourAt(x, y), alpha], (y * width + x) * 4);
  return data;
}

export function jpegOf(width: number, height: number, colourAt: (x: number, y: number) => Colour): Uint8Array {
  return jpeg.encode({ width, height, data: rgba(width, height, colourAt) }, 95).data;
}

/** Colour type 0 is grey, 2 RGB, 6 RGB with alpha. */
export function pngOf(
  width: number,
  height: number,
  colourAt: (x: number, y: number) => Colour,
  { colorType = 2, bitDepth = 8, alpha = 255 }: { colorType?: 0 | 2 | 6; bitDepth?: 8 | 16; alpha?: number } = {},
): Uint8Array {
  const png = new PNG({ width, height });
  const data = rgba(width, height, colourAt, alpha);
  png.data = bitDepth === 8 ? data : Buffer.from(Uint16Array.from(data, (byte) => byte * 257).buffer);
  return PNG.sync.write(png, { colorType, bitDepth, inputColorType: 6 });
}

/** A picture all of one colour, different for each number. */
export function colourOf(number: number): Colour {
  return [(number * 53) % 256, (number * 97 + 20) % 256, (number * 29 + 40) % 256];
}

export function put(root: string, path: string, content: Uint8Array | string): void {
  mkdirSync(dirname(join(root, path)), { recursive: true });
  writeFileSync(join(root, path), content);
}

/**
 * A baseline JPEG of one colour written by hand, since the encoder at hand writes RGB only: `samples` holds one value for each component
 * (1: grey, 4: CMYK), `adobeTransform` adds Adobe's marker. Each 8x8 block is its mean alone: (sample - 128) * 8 at quantiser 1.
 */
export function flatJpeg(side: number, samples: readonly number[], adobeTransform?: number): Uint8Array {
  if (side % 8 !== 0) throw new Error(`A side of ${side} is no multiple of 8.`);
  const segment = (marker: number, ...content: number[]) => [
    0xff,
    marker,
    (content.length + 2) >> 8,
    (content.length + 2) & 255,
    ...content,
  ];
  const components = samples.map((_, i) => i + 1);
  // mean differences: 4-bit codes for the bit lengths 0 to 11; other coefficients: the 1-bit code 0 says that none follow
  const meanTable = [0x00, 0, 0, 0, 12, ...new Array<number>(12).fill(0), ...Array.from({ length: 12 }, (_, i) => i)];
  const restTable = [0x10, 1, ...new Array<number>(15).fill(0), 0x00];
  let bits = '';
  const previous = samples.map(() => 0);
  for (let block = 0; block < (side / 8) ** 2; block++) {
    samples.forEach((sample, c) => {
      const difference = (sample - 128) * 8 - (previous[c] as number);
      previous[c] = (sample - 128) * 8;
      const length = difference === 0 ? 0 : Math.abs(difference).toString(2).length;
      const value = difference < 0 ? difference + 2 ** length - 1 : difference;
      bits += length.toString(2).padStart(4, '0') + (length === 0 ? '' : value.toString(2).padStart(length, '0')) + '0';
    });
  }
  const data = (bits.padEnd(Math.ceil(bits.length / 8) * 8, '1').match(/.{8}/g) ?? []).flatMap((byte) =>
    byte === '11111111' ? [0xff, 0] : [Number.parseInt(byte, 2)],
  );
  return Uint8Array.from([
    ...[0xff, 0xd8],
    ...(adobeTransform === undefined ? [] : segment(0xee, ...Buffer.from('Adobe'), 0, 100, 0, 0, 0, 0, adobeTransform)),
    ...segment(0xdb, 0, ...new Array<number>(64).fill(1)),
    ...segment(0xc0, 8, side >> 8, side & 255, side >> 8, side & 255, samples.length, ...components.flatMap((id) => [id, 0x11, 0])),
    ...segment(0xc4, ...meanTable),
    ...segment(0xc4, ...restTable),
    ...segment(0xda, samples.length, ...components.flatMap((id) => [id, 0]), 0, 63, 0),
    ...data,
    ...[0xff, 0xd9],
  ]);
}

export const WNIDS = ['n02124075', 'n04067472', 'n01443537'];

const encoded = new Map<string, Uint8Array>();
/** Encoding takes longer than all else, so each picture is encoded once. */
export function flatPicture(...colour: Colour): Uint8Array {
  const key = colour.join();
  const known = encoded.get(key) ?? jpegOf(64, 64, () => colour);
  encoded.set(key, known);
  return known;
}

/** The exact layout of Tiny ImageNet: `perClass` training images a class, 2 validation images a class (one of them grey), an unlabelled test part. */
export function writeTinyImageNet(root: string, perClass = 20): void {
  put(root, 'wnids.txt', WNIDS.map((wnid) => `${wnid}\n`).join(''));
  put(root, 'words.txt', 'n01443537\tgoldfish, Carassius auratus\nn00000001\tentity\nn02124075\tEgyptian cat\nn04067472\treel\n');
  WNIDS.forEach((wnid, w) => {
    put(root, `train/${wnid}/${wnid}_boxes.txt`, `${wnid}_0.JPEG\t0\t10\t63\t58\n`);
    for (let i = 0; i < perClass; i++) put(root, `train/${wnid}/images/${wnid}_${i}.JPEG`, flatPicture(80 * w, 10 * i, 40));
  });
  const lines = Array.from({ length: 6 }, (_, i) => {
    put(root, `val/images/val_${i}.JPEG`, i === 5 ? flatJpeg(64, [99]) : flatPicture(80 * (i % 3), 10 * i, 200));
    return `val_${i}.JPEG\t${WNIDS[i % 3] as string}\t0\t32\t44\t62\n`;
  });
  put(root, 'val/val_annotations.txt', lines.join(''));
  put(root, 'test/images/test_0.JPEG', flatPicture(1, 2, 3));
}
