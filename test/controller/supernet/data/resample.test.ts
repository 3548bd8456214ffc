import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { centreWindow, createResampler, type Window } from '../../../../controller/supernet/data/resample.ts';

interface Case {
  readonly width: number;
  readonly height: number;
  readonly channels: number;
  readonly window: Window;
  readonly flip: boolean;
}

/** Windows that lie inside of what they cut from, of images up to 24 pixels. */
const cases: fc.Arbitrary<Case> = fc
  .record({ width: fc.integer({ min: 1, max: 24 }), height: fc.integer({ min: 1, max: 24 }), channels: fc.constantFrom(1, 3) })
  .chain(({ width, height, channels }) =>
    fc
      .record({
        left: fc.integer({ min: 0, max: width - 1 }),
        top: fc.integer({ min: 0, max: height - 1 }),
        side: fc.integer({ min: 1, max: 20 }),
        right: fc.integer({ min: 0, max: 10 }),
        flip: fc.boolean(),
      })
      .chain(({ left, top, side, right, flip }) =>
        fc
          .record({
            boxWidth: fc.integer({ min: 1, max: width - left }),
            boxHeight: fc.integer({ min: 1, max: height - top }),
            offsetX: fc.integer({ min: 0, max: right }),
            offsetY: fc.integer({ min: 0, max: right }),
          })
          .map(({ boxWidth, boxHeight, offsetX, offsetY }) => ({
            width,
            height,
            channels,
            flip,
            window: {
              box: { left, top, width: boxWidth, height: boxHeight },
              scaledWidth: side + right,
              scaledHeight: side + right,
              offsetX,
              offsetY,
              side,
            },
          })),
      ),
  );

function noise(values: number): Uint8Array {
  return Uint8Array.from({ length: values }, (_, i) => (i * 7919 + ((i * i) % 251)) % 256);
}

/** The definition, slowly: each output is the mean of all pixels of the box, weighed by a triangle around its centre. */
function slowly(pixels: Uint8Array, { width, channels, window, flip }: Case): number[] {
  const { box, scaledWidth, scaledHeight, offsetX, offsetY, side } = window;
  const triangle = (distance: number, step: number) => Math.max(0, 1 - Math.abs(distance) / Math.max(1, step));
  const [stepX, stepY] = [box.width / scaledWidth, box.height / scaledHeight];
  const result: number[] = [];
  for (let y = 0; y < side; y++) {
    for (let x = 0; x < side; x++) {
      const centreX = ((flip ? side - 1 - x : x) + offsetX + 0.5) * stepX;
      const centreY = (y + offsetY + 0.5) * stepY;
      for (let c = 0; c < channels; c++) {
        let [sum, weights] = [0, 0];
        for (let j = 0; j < box.height; j++) {
          for (let i = 0; i < box.width; i++) {
            const weight = triangle(i + 0.5 - centreX, stepX) * triangle(j + 0.5 - centreY, stepY);
            sum += weight * (pixels[((box.top + j) * width + box.left + i) * channels + c] as number);
            weights += weight;
          }
        }
        result.push(sum / weights);
      }
    }
  }
  return result;
}

const run = (pixels: Uint8Array, { width, height, channels, window, flip }: Case) =>
  createResampler().resample({ pixels, start: 0, width, height, channels }, window, flip);

describe('resampling', () => {
  it('equals the triangle-weighed mean worked out slowly, for any box, scale, offset and mirroring', () => {
    fc.assert(
      fc.property(cases, (drawn) => {
        const pixels = noise(drawn.width * drawn.height * drawn.channels);
        const wanted = slowly(pixels, drawn);
        run(pixels, drawn).forEach((value, i) => expect(Math.abs(value - (wanted[i] as number))).toBeLessThan(1e-3));
      }),
      { numRuns: 150 },
    );
  });

  it('leaves an image of one colour as it is', () => {
    fc.assert(
      fc.property(cases, fc.integer({ min: 0, max: 255 }), (drawn, colour) => {
        const pixels = new Uint8Array(drawn.width * drawn.height * drawn.channels).fill(colour);
        for (const value of run(pixels, drawn)) expect(Math.abs(value - colour)).toBeLessThan(1e-3);
      }),
    );
  });

  it('changes nothing where box and square have one size, and mirrors exactly', () => {
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 16 }), fc.constantFrom(1, 3), (side, channels) => {
        const pixels = noise(side * side * channels);
        const window = {
          box: { left: 0, top: 0, width: side, height: side },
          scaledWidth: side,
          scaledHeight: side,
          offsetX: 0,
          offsetY: 0,
          side,
        };
        const plain = { width: side, height: side, channels, window, flip: false };
        expect([...run(pixels, plain)]).toEqual([...pixels]);
        const mirrored = run(pixels, { ...plain, flip: true });
        for (let i = 0; i < pixels.length; i++) {
          const [pixel, c] = [Math.floor(i / channels), i % channels];
          const x = pixel % side;
          expect(mirrored[(pixel - x + side - 1 - x) * channels + c]).toBe(pixels[i]);
        }
      }),
    );
  });

  it('sees only the box: pixels around it have no weight', () => {
    const pixels = new Uint8Array(100).fill(255);
    for (let y = 3; y < 7; y++) pixels.fill(10, y * 10 + 2, y * 10 + 8);
    const window = { box: { left: 2, top: 3, width: 6, height: 4 }, scaledWidth: 9, scaledHeight: 9, offsetX: 0, offsetY: 0, side: 9 };
    for (const value of run(pixels, { width: 10, height: 10, channels: 1, window, flip: false })) expect(value).toBeCloseTo(10, 4);
  });

  it('gives one resampler the same answer after other windows as a fresh one', () => {
    const pixels = noise(24 * 24 * 3);
    const shared = createResampler();
    fc.assert(
      fc.property(cases, (drawn) => {
        const source = { pixels, start: 0, width: drawn.width, height: drawn.height, channels: drawn.channels };
        expect([...shared.resample(source, drawn.window, drawn.flip)]).toEqual([...run(pixels, drawn)]);
      }),
    );
  });

  // corners as torchvision 0.15 places them for Resize(ceil(r / 0.875)) and CenterCrop(r)
  it.each([
    [64, 64, 74, 64, 5],
    [64, 64, 64, 56, 4],
    [64, 64, 55, 48, 4],
    [64, 64, 69, 60, 4],
    [64, 64, 60, 52, 4],
  ])('takes the middle of %ix%i at short side %i for side %i from offset %i on', (width, height, short, side, offset) => {
    expect(centreWindow(width, height, short, side)).toMatchObject({
      scaledWidth: short,
      scaledHeight: short,
      offsetX: offset,
      offsetY: offset,
    });
  });

  it('keeps the aspect ratio of a long image', () => {
    expect(centreWindow(500, 333, 256, 224)).toMatchObject({ scaledWidth: 384, scaledHeight: 256, offsetX: 80, offsetY: 16 });
    expect(centreWindow(20, 41, 10, 10)).toMatchObject({ scaledWidth: 10, scaledHeight: 20, offsetX: 0, offsetY: 5 });
  });
});
