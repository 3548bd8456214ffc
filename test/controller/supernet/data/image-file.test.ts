import { describe, expect, it } from 'vitest';
import { decodeImage, imageSizeOf, squareOf } from '../../../../controller/supernet/data/image-file.ts';
import { value } from '../../../helpers/outcome.ts';
import { flatJpeg, jpegOf, pngOf } from './made-images.ts';

const firstPixel = (bytes: Uint8Array, channels: number) => [...value(decodeImage(bytes, channels)).pixels.subarray(0, channels)];

describe('an image file', () => {
  it('tells format and size by its header, whatever it is called', () => {
    expect(imageSizeOf(jpegOf(30, 20, () => [1, 2, 3]))).toEqual({ format: 'JPEG', width: 30, height: 20 });
    expect(imageSizeOf(pngOf(7, 9, () => [1, 2, 3]))).toEqual({ format: 'PNG', width: 7, height: 9 });
    expect(imageSizeOf(Buffer.from('GIF89a-and-what-follows-it-here'))).toBeNull();
    expect(imageSizeOf(jpegOf(30, 20, () => [1, 2, 3]).subarray(0, 30))).toBeNull();
  });

  it('is decoded to the pixels that were encoded: exactly from PNG, closely from JPEG', () => {
    const colourAt = (x: number, y: number) => [x * 8, y * 8, 100] as const;
    const wanted = Array.from({ length: 16 * 16 }, (_, i) => colourAt(i % 16, Math.floor(i / 16))).flat();
    expect([...value(decodeImage(pngOf(16, 16, colourAt), 3)).pixels]).toEqual(wanted);
    const decoded = value(decodeImage(jpegOf(16, 16, colourAt), 3));
    expect([decoded.width, decoded.height, decoded.channels]).toEqual([16, 16, 3]);
    expect(Math.max(...decoded.pixels.map((v, i) => Math.abs(v - (wanted[i] as number))))).toBeLessThan(12);
  });

  it('becomes RGB where it is grey, 16 bits deep, CMYK or has an alpha channel', () => {
    expect(firstPixel(flatJpeg(16, [200]), 3)).toEqual([200, 200, 200]);
    expect(
      firstPixel(
        pngOf(4, 4, () => [90, 90, 90], { colorType: 0 }),
        3,
      ),
    ).toEqual([90, 90, 90]);
    expect(
      firstPixel(
        pngOf(4, 4, () => [10, 20, 30], { bitDepth: 16 }),
        3,
      ),
    ).toEqual([10, 20, 30]);
    expect(
      firstPixel(
        pngOf(4, 4, () => [10, 20, 30], { colorType: 6, alpha: 128 }),
        3,
      ),
    ).toEqual([10, 20, 30]);
    // Adobe stores inks inverted: 255 is none of it. No cyan, full magenta and yellow, no black: red.
    expect(firstPixel(flatJpeg(8, [255, 0, 0, 255], 0), 3)).toEqual([255, 0, 0]);
    expect(firstPixel(flatJpeg(8, [255, 255, 255, 51], 0), 3)).toEqual([51, 51, 51]);
  });

  it('becomes grey by luma where one channel is asked', () => {
    expect(
      firstPixel(
        pngOf(4, 4, () => [255, 0, 0]),
        1,
      ),
    ).toEqual([76]);
    expect(firstPixel(flatJpeg(8, [77]), 1)).toEqual([77]);
  });

  it.each([
    ['it is empty', new Uint8Array(), 'CORRUPT_FILE', /empty/],
    ['it is text', Buffer.from('<html>not found</html>, said the server'), 'CORRUPT_FILE', /does not begin as a JPEG or PNG/],
    ['its JPEG is cut', jpegOf(32, 32, (x, y) => [x * 7, y * 7, 9]).subarray(0, -40), 'CORRUPT_FILE', /cut short, damaged/],
    ['its PNG is cut', pngOf(32, 32, (x, y) => [x * 7, y * 7, 9]).subarray(0, -40), 'CORRUPT_FILE', /cut short, damaged/],
    ['its four colours are not said to be CMYK', flatJpeg(8, [1, 2, 3, 4]), 'CORRUPT_FILE', /kind not known/],
    ['its header announces a huge picture', hugePng(), 'INVALID_INPUT', /60000x60000 pixels, the limit is 32 million/],
  ])('is refused with the reason when %s', (_, bytes, reason, message) => {
    const decoded = decodeImage(bytes, 3);
    expect(decoded).toMatchObject({ ok: false, reason });
    if (!decoded.ok) expect(decoded.message).toMatch(message);
  });

  it('of another size is shrunk by its short side, and its middle is kept', () => {
    // blue bars of 16 pixels left and right of a red square of 32
    const picture = value(
      decodeImage(
        pngOf(64, 32, (x) => (x >= 16 && x < 48 ? [255, 0, 0] : [0, 0, 255])),
        3,
      ),
    );
    const square = squareOf(picture, 8);
    expect(square.length).toBe(8 * 8 * 3);
    const pixel = (x: number, y: number) => [...square.subarray((y * 8 + x) * 3, (y * 8 + x) * 3 + 3)];
    for (let y = 0; y < 8; y++) for (let x = 1; x < 7; x++) expect(pixel(x, y)).toEqual([255, 0, 0]);
    expect(
      squareOf(
        value(
          decodeImage(
            pngOf(8, 8, (x, y) => [x, y, 5]),
            3,
          ),
        ),
        8,
      ),
    ).toEqual(
      value(
        decodeImage(
          pngOf(8, 8, (x, y) => [x, y, 5]),
          3,
        ),
      ).pixels,
    );
  });
});

function hugePng(): Uint8Array {
  const bytes = Buffer.from(pngOf(4, 4, () => [1, 2, 3]));
  bytes.writeUInt32BE(60_000, 16);
  bytes.writeUInt32BE(60_000, 20);
  return bytes;
}
