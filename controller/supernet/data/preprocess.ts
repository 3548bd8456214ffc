// Bytes to network input, in one place and in plain arithmetic, so that training, calibration, evaluation and a deployed model's caller
// feed bit-equal numbers without TensorFlow.js.
import type { Space } from '../../space.ts';
import type { ImageSet } from './dataset.ts';
import { centreWindow, createResampler, type Box, type Resampler } from './resample.ts';

/**
 * Which image to take, and how to look at it. Plainly the whole of it is resized to the net's square (pixel centres, no smoothing), moved
 * by whole pixels (black comes in) or mirrored. With `crop` it is that box, with `centre` the middle of the image whose short side was
 * resized to ceil(side / centre); these two are smoothed where they shrink.
 */
export interface View {
  readonly index: number;
  readonly shiftX?: number;
  readonly shiftY?: number;
  readonly flip?: boolean;
  readonly crop?: Box;
  readonly centre?: number;
  /** Applied to a crop in this order. */
  readonly jitter?: readonly Jitter[];
}

/** Values times `factor`, or each pixel's distance to its grey value times `factor`; cut to [0, 255] after each. */
export interface Jitter {
  readonly kind: 'brightness' | 'saturation';
  readonly factor: number;
}

export type Layout = 'NHWC' | 'NCHW';

/**
 * The views as float32 input of `space` at side `resolution`, (x / 255 - mean) / std per channel: [views, r, r, C] or [views, C, r, r].
 * `into` (of just that many values) is filled where given, so that a training loop need not allocate.
 */
export function toInput(
  set: ImageSet,
  views: readonly View[],
  space: Space,
  resolution: number,
  layout: Layout,
  into?: Float32Array,
): Float32Array {
  const channels = space.inputChannels;
  if (set.channels !== channels) throw new Error(`Images have ${set.channels} channels, space ${space.name} wants ${channels}.`);
  const length = resolution * resolution * channels;
  const input = into ?? new Float32Array(views.length * length);
  if (input.length !== views.length * length) throw new Error(`${input.length} values given for ${views.length} inputs of ${length}.`);
  const writer: Writer = {
    input,
    pixelStride: layout === 'NHWC' ? channels : 1,
    channelStride: layout === 'NHWC' ? 1 : resolution * resolution,
    means: space.mean,
    scales: space.std.map((std) => 1 / std),
  };
  const columns = taps(set.width, resolution);
  const rows = taps(set.height, resolution);
  const resampler = createResampler();
  views.forEach((view, v) => {
    if (view.crop === undefined && view.centre === undefined) writeWhole(set, view, columns, rows, writer, v * length);
    else writeWindow(set, view, resampler, resolution, writer, v * length);
  });
  return input;
}

interface Writer {
  readonly input: Float32Array;
  readonly pixelStride: number;
  readonly channelStride: number;
  readonly means: readonly number[];
  readonly scales: readonly number[];
}

/** For each output: two source positions, and the weight of the second. */
interface Taps {
  readonly low: Int32Array;
  readonly high: Int32Array;
  readonly weight: Float64Array;
}

function taps(from: number, to: number): Taps {
  const table = { low: new Int32Array(to), high: new Int32Array(to), weight: new Float64Array(to) };
  for (let i = 0; i < to; i++) {
    const centre = Math.min(Math.max(((i + 0.5) * from) / to - 0.5, 0), from - 1);
    const low = Math.floor(centre);
    table.low[i] = low;
    table.high[i] = Math.min(low + 1, from - 1);
    table.weight[i] = centre - low;
  }
  return table;
}

function writeWhole(set: ImageSet, view: View, columns: Taps, rows: Taps, writer: Writer, start: number): void {
  const { width, height, channels, pixels } = set;
  const { shiftX = 0, shiftY = 0, flip = false } = view;
  const side = columns.low.length;
  const base = view.index * height * width * channels;
  // offsets of the shifted and mirrored columns; -1 where black comes in
  const place = (x: number): number => {
    const source = (flip ? width - 1 - x : x) - shiftX;
    return source < 0 || source >= width ? -1 : source * channels;
  };
  const [left, right] = [columns.low.map(place), columns.high.map(place)];
  const rowAt = (y: number): number => (y - shiftY < 0 || y - shiftY >= height ? -1 : base + (y - shiftY) * width * channels);
  const at = (row: number, column: number, c: number): number => (row < 0 || column < 0 ? 0 : (pixels[row + column + c] as number));
  for (let c = 0; c < channels; c++) {
    const [mean, scale] = [writer.means[c] as number, writer.scales[c] as number];
    let out = start + c * writer.channelStride;
    for (let y = 0; y < side; y++) {
      const [upper, lower, fy] = [rowAt(rows.low[y] as number), rowAt(rows.high[y] as number), rows.weight[y] as number];
      for (let x = 0; x < side; x++, out += writer.pixelStride) {
        const x0 = left[x] as number;
        const x1 = right[x] as number;
        const fx = columns.weight[x] as number;
        const top = at(upper, x0, c) * (1 - fx) + at(upper, x1, c) * fx;
        const bottom = at(lower, x0, c) * (1 - fx) + at(lower, x1, c) * fx;
        writer.input[out] = ((top * (1 - fy) + bottom * fy) / 255 - mean) * scale;
      }
    }
  }
}

function writeWindow(set: ImageSet, view: View, resampler: Resampler, side: number, writer: Writer, start: number): void {
  const { width, height, channels } = set;
  const { crop, centre = 1, flip = false, jitter = [] } = view;
  const window =
    crop === undefined
      ? centreWindow(width, height, Math.ceil(side / centre), side)
      : { box: crop, scaledWidth: side, scaledHeight: side, offsetX: 0, offsetY: 0, side };
  const source = { pixels: set.pixels, start: view.index * height * width * channels, width, height, channels };
  const values = resampler.resample(source, window, flip);
  for (const { kind, factor } of jitter) {
    if (kind === 'brightness') brighten(values, factor);
    else if (channels === 3) saturate(values, factor);
  }
  for (let c = 0; c < channels; c++) {
    const [mean, scale] = [writer.means[c] as number, writer.scales[c] as number];
    let out = start + c * writer.channelStride;
    for (let i = c; i < values.length; i += channels, out += writer.pixelStride) {
      writer.input[out] = ((values[i] as number) / 255 - mean) * scale;
    }
  }
}

function brighten(values: Float32Array, factor: number): void {
  for (let i = 0; i < values.length; i++) values[i] = Math.min(255, (values[i] as number) * factor);
}

/** Grey is the luma of ITU-R BT.601, as in image files. */
function saturate(values: Float32Array, factor: number): void {
  for (let i = 0; i < values.length; i += 3) {
    const grey = 0.299 * (values[i] as number) + 0.587 * (values[i + 1] as number) + 0.114 * (values[i + 2] as number);
    for (let c = i; c < i + 3; c++) values[c] = Math.min(255, Math.max(0, grey + factor * ((values[c] as number) - grey)));
  }
}
