// Bytes to network input, in one place and in plain arithmetic, so that training, calibration, evaluation and a deployed model's caller
// feed bit-equal numbers without TensorFlow.js.
import type { Space } from '../../space.ts';
import type { ImageSet } from './dataset.ts';

/** Which image to take, and how to look at it: moved by whole pixels (black comes in), or mirrored. */
export interface View {
  readonly index: number;
  readonly shiftX?: number;
  readonly shiftY?: number;
  readonly flip?: boolean;
}

export type Layout = 'NHWC' | 'NCHW';

/**
 * The views as float32 input of `space` at side `resolution`: bilinear resize (pixel centres, no smoothing), then
 * (x / 255 - mean) / std per channel. [views, r, r, C] or [views, C, r, r].
 */
export function toInput(set: ImageSet, views: readonly View[], space: Space, resolution: number, layout: Layout): Float32Array {
  const channels = space.inputChannels;
  if (set.channels !== channels) throw new Error(`Images have ${set.channels} channels, space ${space.name} wants ${channels}.`);
  const size = set.height * set.width * channels;
  const area = resolution * resolution;
  const columns = taps(set.width, resolution);
  const rows = taps(set.height, resolution);
  const input = new Float32Array(views.length * area * channels);
  const pixelStride = layout === 'NHWC' ? channels : 1;
  const channelStride = layout === 'NHWC' ? 1 : area;

  views.forEach(({ index, shiftX = 0, shiftY = 0, flip = false }, v) => {
    const base = index * size;
    const at = (y: number, x: number, c: number): number => {
      const [sourceY, sourceX] = [y - shiftY, (flip ? set.width - 1 - x : x) - shiftX];
      if (sourceY < 0 || sourceY >= set.height || sourceX < 0 || sourceX >= set.width) return 0;
      return set.pixels[base + (sourceY * set.width + sourceX) * channels + c] as number;
    };
    for (let c = 0; c < channels; c++) {
      const [mean, scale] = [space.mean[c] as number, 1 / (space.std[c] as number)];
      let out = v * area * channels + c * channelStride;
      for (let y = 0; y < resolution; y++) {
        const [y0, y1, fy] = rows[y] as Tap;
        for (let x = 0; x < resolution; x++, out += pixelStride) {
          const [x0, x1, fx] = columns[x] as Tap;
          const top = at(y0, x0, c) * (1 - fx) + at(y0, x1, c) * fx;
          const bottom = at(y1, x0, c) * (1 - fx) + at(y1, x1, c) * fx;
          input[out] = ((top * (1 - fy) + bottom * fy) / 255 - mean) * scale;
        }
      }
    }
  });
  return input;
}

/** Two source positions and the weight of the second. */
type Tap = readonly [number, number, number];

function taps(from: number, to: number): Tap[] {
  return Array.from({ length: to }, (_, i) => {
    const centre = Math.min(Math.max(((i + 0.5) * from) / to - 0.5, 0), from - 1);
    const low = Math.floor(centre);
    return [low, Math.min(low + 1, from - 1), centre - low];
  });
}
