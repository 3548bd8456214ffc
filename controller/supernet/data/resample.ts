// Bilinear resampling of byte images, separable: a table of weights for each axis, then two passes over typed arrays. Where an image
// shrinks, the triangle is widened by the same factor, so that no source pixel is skipped (as Pillow's BILINEAR does, which the published
// recipes resize with; between the two passes nothing is rounded here). Where it grows this is plain interpolation between pixel centres.

/** A rectangle of whole source pixels. */
export interface Box {
  readonly left: number;
  readonly top: number;
  readonly width: number;
  readonly height: number;
}

/** `box` resized to `scaledWidth` x `scaledHeight`, of which the square of `side` pixels at (`offsetX`, `offsetY`) is kept. */
export interface Window {
  readonly box: Box;
  readonly scaledWidth: number;
  readonly scaledHeight: number;
  readonly offsetX: number;
  readonly offsetY: number;
  readonly side: number;
}

/** Where the pixels lie: [height, width, channels] from `start` on. */
interface Source {
  readonly pixels: Uint8Array;
  readonly start: number;
  readonly width: number;
  readonly height: number;
  readonly channels: number;
}

/** For output i, `counts[i]` source positions from `starts[i]` on, weighed by `weights[i * taps ...]`, which sum to 1. */
interface Axis {
  readonly taps: number;
  readonly starts: Int32Array;
  readonly counts: Int32Array;
  readonly weights: Float64Array;
}

export interface Resampler {
  /** The window's pixels in [0, 255], not rounded, [side, side, channels]; valid until the next call. `flip` mirrors left and right. */
  resample(source: Source, window: Window, flip?: boolean): Float32Array;
}

/** Keeps its tables and buffers: one for a batch of images. */
export function createResampler(): Resampler {
  const axes = new Map<string, Axis>();
  let rows = new Float32Array(0);
  let result = new Float32Array(0);
  const axisOf = (length: number, scaled: number, offset: number, side: number): Axis => {
    const key = `${length} ${scaled} ${offset} ${side}`;
    let axis = axes.get(key);
    if (axis === undefined) axes.set(key, (axis = weigh(length, scaled, offset, side)));
    return axis;
  };
  return {
    resample({ pixels, start, width, channels }, { box, scaledWidth, scaledHeight, offsetX, offsetY, side }, flip = false) {
      const across = axisOf(box.width, scaledWidth, offsetX, side);
      const down = axisOf(box.height, scaledHeight, offsetY, side);
      const firstRow = down.starts[0] as number;
      const lastRow = (down.starts[side - 1] as number) + (down.counts[side - 1] as number);
      const rowLength = side * channels;
      const values = (lastRow - firstRow) * rowLength;
      if (rows.length < values) rows = new Float32Array(values);
      if (result.length !== side * rowLength) result = new Float32Array(side * rowLength);

      for (let y = firstRow; y < lastRow; y++) {
        const from = start + ((box.top + y) * width + box.left) * channels;
        const to = (y - firstRow) * rowLength;
        for (let x = 0; x < side; x++) {
          const count = across.counts[x] as number;
          const weight = x * across.taps;
          const pixel = from + (across.starts[x] as number) * channels;
          const out = to + (flip ? side - 1 - x : x) * channels;
          for (let c = 0; c < channels; c++) {
            let sum = 0;
            for (let k = 0; k < count; k++) sum += (across.weights[weight + k] as number) * (pixels[pixel + k * channels + c] as number);
            rows[out + c] = sum;
          }
        }
      }
      for (let y = 0; y < side; y++) {
        const count = down.counts[y] as number;
        const weight = y * down.taps;
        const from = ((down.starts[y] as number) - firstRow) * rowLength;
        const to = y * rowLength;
        for (let i = 0; i < rowLength; i++) {
          let sum = 0;
          for (let k = 0; k < count; k++) sum += (down.weights[weight + k] as number) * (rows[from + k * rowLength + i] as number);
          result[to + i] = sum;
        }
      }
      return result;
    },
  };
}

/** Weights of `side` outputs from `offset` on, of an axis of `length` pixels resized to `scaled`. */
function weigh(length: number, scaled: number, offset: number, side: number): Axis {
  const step = length / scaled;
  const radius = Math.max(step, 1);
  const taps = 2 * Math.ceil(radius) + 1;
  const axis = { taps, starts: new Int32Array(side), counts: new Int32Array(side), weights: new Float64Array(side * taps) };
  for (let i = 0; i < side; i++) {
    const centre = (i + offset + 0.5) * step;
    // the pixels whose centres lie within the radius; those beyond the edge are left out, the others take their share
    const first = Math.max(0, Math.floor(centre - radius + 0.5));
    const end = Math.min(length, Math.floor(centre + radius + 0.5));
    let sum = 0;
    for (let x = first; x < end; x++) sum += axis.weights[i * taps + x - first] = Math.max(0, 1 - Math.abs(x + 0.5 - centre) / radius);
    for (let k = 0; k < end - first; k++) (axis.weights[i * taps + k] as number) /= sum;
    axis.starts[i] = first;
    axis.counts[i] = end - first;
  }
  return axis;
}

/** The whole image with its short side resized to `short`, and the square of `side` in its middle. */
export function centreWindow(width: number, height: number, short: number, side: number): Window {
  const shortest = Math.min(width, height);
  // the long side is rounded down, an odd remainder goes by rounding half to even: so the published evaluation does
  const scaledWidth = width === shortest ? short : Math.floor((short * width) / shortest);
  const scaledHeight = height === shortest ? short : Math.floor((short * height) / shortest);
  return {
    box: { left: 0, top: 0, width, height },
    scaledWidth,
    scaledHeight,
    offsetX: halfToEven((scaledWidth - side) / 2),
    offsetY: halfToEven((scaledHeight - side) / 2),
    side,
  };
}

function halfToEven(value: number): number {
  const down = Math.floor(value);
  if (value - down !== 0.5) return Math.round(value);
  return down % 2 === 0 ? down : down + 1;
}
