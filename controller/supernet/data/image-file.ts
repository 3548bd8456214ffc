// One JPEG or PNG file's bytes to pixels. What a file is, its first bytes say, not its name; a file that cannot be read says why.
import jpeg from 'jpeg-js';
import { PNG } from 'pngjs';
import { failed, ok, type Outcome } from '@ofa-fleet/shared/outcome.ts';
import { centreWindow, createResampler } from './resample.ts';

/** What decoding may take: 25 bytes a pixel in jpeg-js, so 800 MB. */
const MAX_MEGAPIXELS = 32;
const MAX_DECODER_MB = 1024;
const SMALLER = 'make it smaller or take it out';

export interface ImageSize {
  readonly format: 'JPEG' | 'PNG';
  readonly width: number;
  readonly height: number;
}

export interface DecodedImage {
  readonly width: number;
  readonly height: number;
  /** 1 (grey, ITU-R BT.601 luma) or 3 (RGB). */
  readonly channels: number;
  /** uint8, [height, width, channels]. */
  readonly pixels: Uint8Array;
}

/** Format and size from the header alone; null where the bytes begin no JPEG or PNG, or end before the size. */
export function imageSizeOf(bytes: Uint8Array): ImageSize | null {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const isPng = bytes.length >= 24 && view.getUint32(0) === 0x89504e47 && view.getUint32(4) === 0x0d0a1a0a;
  if (isPng) return { format: 'PNG', width: view.getUint32(16), height: view.getUint32(20) };
  if (bytes.length < 4 || view.getUint16(0) !== 0xffd8) return null;
  // JPEG: segments of a marker and a length, up to the frame header (ITU-T T.81, B.2.2)
  for (let at = 2; at + 9 <= bytes.length;) {
    if (bytes[at] !== 0xff) return null;
    const marker = bytes[at + 1] as number;
    if (marker === 0xff) {
      at++; // a fill byte
      continue;
    }
    const isFrame = marker >= 0xc0 && marker <= 0xcf && marker !== 0xc4 && marker !== 0xc8 && marker !== 0xcc;
    if (isFrame) return { format: 'JPEG', height: view.getUint16(at + 5), width: view.getUint16(at + 7) };
    at += 2 + view.getUint16(at + 2);
  }
  return null;
}

/**
 * Grey files become RGB and colour files grey as `channels` asks; CMYK (as Adobe writes it) becomes RGB, 16-bit samples 8-bit. An alpha
 * channel and an EXIF orientation are ignored, as the published recipes' loaders do. Fails with CORRUPT_FILE or INVALID_INPUT; the
 * message does not name the file.
 */
export function decodeImage(bytes: Uint8Array, channels: number): Outcome<DecodedImage> {
  const size = imageSizeOf(bytes);
  if (size === null) return failed('CORRUPT_FILE', bytes.length === 0 ? 'it is empty' : 'it does not begin as a JPEG or PNG file does');
  const { format, width, height } = size;
  if (width === 0 || height === 0) return failed('CORRUPT_FILE', `its header says ${width}x${height} pixels`);
  if (width * height > MAX_MEGAPIXELS * 1e6) {
    return failed('INVALID_INPUT', `it has ${width}x${height} pixels, the limit is ${MAX_MEGAPIXELS} million: ${SMALLER}`);
  }
  try {
    if (format === 'PNG') return ok(repacked(PNG.sync.read(Buffer.from(bytes)), 4, channels));
    const decoded = jpeg.decode(bytes, {
      useTArray: true,
      formatAsRGBA: false,
      tolerantDecoding: false,
      maxResolutionInMP: MAX_MEGAPIXELS,
      maxMemoryUsageInMB: MAX_DECODER_MB,
    });
    return ok(repacked(decoded, 3, channels));
  } catch (error) {
    return failed(
      'CORRUPT_FILE',
      `it is cut short, damaged or of a kind not known (${error instanceof Error ? error.message : String(error)})`,
    );
  }
}

/** The image with its short side resized to `side` and the square in its middle, [side, side, channels]; one of that size as it is. */
export function squareOf({ width, height, channels, pixels }: DecodedImage, side: number): Uint8Array {
  if (width === side && height === side) return pixels;
  const values = createResampler().resample({ pixels, start: 0, width, height, channels }, centreWindow(width, height, side, side));
  return Uint8Array.from(values, Math.round);
}

/** `data` holds red, green, blue and perhaps alpha for each pixel. */
function repacked(
  { width, height, data }: { width: number; height: number; data: Uint8Array },
  stride: number,
  channels: number,
): DecodedImage {
  if (stride === channels) return { width, height, channels, pixels: data };
  const pixels = new Uint8Array(width * height * channels);
  for (let i = 0, from = 0; i < pixels.length; i += channels, from += stride) {
    const [red, green, blue] = [data[from] as number, data[from + 1] as number, data[from + 2] as number];
    if (channels === 1) {
      pixels[i] = Math.round(0.299 * red + 0.587 * green + 0.114 * blue);
    } else {
      pixels[i] = red;
      pixels[i + 1] = green;
      pixels[i + 2] = blue;
    }
  }
  return { width, height, channels, pixels };
}
