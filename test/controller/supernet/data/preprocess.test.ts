import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { ImageSet } from '../../../../controller/supernet/data/dataset.ts';
import { toInput, type View } from '../../../../controller/supernet/data/preprocess.ts';
import { TINY } from '../tiny.ts';
import { images } from './made-images.ts';

describe('preprocessing', () => {
  /** Undoes the normalisation of TINY. */
  const bytesOf = (input: Float32Array) => Array.from(input, (value) => Math.abs(Math.round((value * 0.4 + 0.3) * 255)));

  it('normalises and keeps pixels where nothing is resized', () => {
    const set = images(2, 6, 6);
    const input = toInput(set, [{ index: 1 }], TINY, 6, 'NHWC');
    input.forEach((value, i) => expect(value).toBeCloseTo(((set.pixels[36 + i] as number) / 255 - 0.3) / 0.4, 6));
  });

  it('interpolates between pixel centres', () => {
    const set: ImageSet = { ...images(1, 1, 2), pixels: Uint8Array.of(0, 200) };
    const grey = bytesOf(toInput(set, [{ index: 0 }], TINY, 4, 'NHWC').subarray(0, 4));
    expect(grey).toEqual([0, 50, 150, 200]);
  });

  it('mirrors and shifts as a view asks, black coming in', () => {
    const set: ImageSet = { ...images(1, 3, 3), pixels: Uint8Array.of(1, 2, 3, 4, 5, 6, 7, 8, 9) };
    const look = (view: object) => bytesOf(toInput(set, [{ index: 0, ...view }], TINY, 3, 'NHWC'));
    expect(look({ flip: true })).toEqual([3, 2, 1, 6, 5, 4, 9, 8, 7]);
    expect(look({ shiftX: 1 })).toEqual([0, 1, 2, 0, 4, 5, 0, 7, 8]);
    expect(look({ shiftY: -1 })).toEqual([4, 5, 6, 7, 8, 9, 0, 0, 0]);
  });

  it('gives the same numbers in either layout', () => {
    const rgb = { ...TINY, inputChannels: 3 as const, mean: [0.1, 0.2, 0.3], std: [1, 0.5, 0.25] };
    const set = images(2, 4, 4, 3);
    const views = [{ index: 0 }, { index: 1, flip: true }];
    const [last, first] = [toInput(set, views, rgb, 5, 'NHWC'), toInput(set, views, rgb, 5, 'NCHW')];
    for (let v = 0; v < 2; v++) {
      for (let p = 0; p < 25; p++) for (let c = 0; c < 3; c++) expect(first[v * 75 + c * 25 + p]).toBe(last[v * 75 + p * 3 + c]);
    }
  });

  /** One output value after the other, straight from the definition: shift the mirrored image on black, then interpolate, then normalise. */
  function slowly(set: ImageSet, view: View, side: number): Float32Array {
    const { index, shiftX = 0, shiftY = 0, flip = false } = view;
    const at = (y: number, x: number): number => {
      const [sourceY, sourceX] = [y - shiftY, (flip ? set.width - 1 - x : x) - shiftX];
      const inside = sourceY >= 0 && sourceY < set.height && sourceX >= 0 && sourceX < set.width;
      return inside ? (set.pixels[(index * set.height + sourceY) * set.width + sourceX] as number) : 0;
    };
    const tap = (i: number, from: number) => {
      const centre = Math.min(Math.max(((i + 0.5) * from) / side - 0.5, 0), from - 1);
      return { low: Math.floor(centre), high: Math.min(Math.floor(centre) + 1, from - 1), part: centre - Math.floor(centre) };
    };
    const [mean, scale] = [TINY.mean[0] as number, 1 / (TINY.std[0] as number)];
    return Float32Array.from({ length: side * side }, (_, i) => {
      const [y, x] = [tap(Math.floor(i / side), set.height), tap(i % side, set.width)];
      const top = at(y.low, x.low) * (1 - x.part) + at(y.low, x.high) * x.part;
      const bottom = at(y.high, x.low) * (1 - x.part) + at(y.high, x.high) * x.part;
      return ((top * (1 - y.part) + bottom * y.part) / 255 - mean) * scale;
    });
  }

  it('of whole images is bit for bit what the definition says, for any size, shift and mirroring', () => {
    const sides = fc.integer({ min: 1, max: 12 });
    const shifts = fc.integer({ min: -4, max: 4 });
    fc.assert(
      fc.property(sides, sides, sides, shifts, shifts, fc.boolean(), (height, width, side, shiftX, shiftY, flip) => {
        const set = images(2, height, width);
        const view = { index: 1, shiftX, shiftY, flip };
        expect(toInput(set, [view], TINY, side, 'NHWC')).toEqual(slowly(set, view, side));
      }),
    );
  });

  it('of a crop takes the box alone, mirrored where asked, and darkens before it greys or after, as drawn', () => {
    const rgb = { ...TINY, inputChannels: 3 as const, mean: [0, 0, 0], std: [1 / 255, 1 / 255, 1 / 255] };
    const set: ImageSet = { ...images(1, 1, 3, 3), pixels: Uint8Array.of(9, 9, 9, 200, 100, 0, 7, 7, 7) };
    const look = (view: Partial<View>) =>
      Array.from(toInput(set, [{ index: 0, crop: { left: 1, top: 0, width: 1, height: 1 }, ...view }], rgb, 1, 'NHWC'), (value) =>
        Number(value.toFixed(2)),
      );
    expect(look({})).toEqual([200, 100, 0]);
    expect(look({ jitter: [{ kind: 'brightness', factor: 1.5 }] })).toEqual([255, 150, 0]);
    const grey = 0.299 * 200 + 0.587 * 100;
    expect(look({ jitter: [{ kind: 'saturation', factor: 0 }] })).toEqual([grey, grey, grey]);
    const brightThenGrey = 0.299 * 255 + 0.587 * 150;
    const [brightness, saturation] = [
      { kind: 'brightness', factor: 1.5 },
      { kind: 'saturation', factor: 0 },
    ] as const;
    expect(look({ jitter: [brightness, saturation] })[0]).toBeCloseTo(brightThenGrey, 1);
    expect(look({ jitter: [saturation, brightness] })[0]).toBeCloseTo(grey * 1.5, 1);
    const two = toInput(set, [{ index: 0, crop: { left: 1, top: 0, width: 2, height: 1 }, flip: true }], rgb, 2, 'NHWC');
    expect(Array.from(two.subarray(0, 6), Math.round)).toEqual([7, 7, 7, 200, 100, 0]);
  });

  it('fills the array it is given, and refuses one of another length', () => {
    const set = images(3, 6, 6);
    const views = [{ index: 2 }, { index: 0, centre: 0.875 }];
    const into = new Float32Array(2 * 25).fill(99);
    expect(toInput(set, views, TINY, 5, 'NHWC', into)).toBe(into);
    expect(into).toEqual(toInput(set, views, TINY, 5, 'NHWC'));
    expect(() => toInput(set, views, TINY, 5, 'NHWC', new Float32Array(49))).toThrow(/49 values given/);
  });
});
