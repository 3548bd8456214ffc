import { describe, expect, it } from 'vitest';
import { prepareImages } from '../../../../controller/materialise/images.ts';
import {
  AUGMENTATIONS,
  augmentationSchema,
  CENTRE_CROP,
  drawViews,
  evaluationFor,
  evaluationOf,
  evaluationSchema,
  evaluationView,
  type Augmentation,
} from '../../../../controller/supernet/data/augmentation.ts';
import { toInput, type View } from '../../../../controller/supernet/data/preprocess.ts';
import { randomStream } from '../../../../controller/supernet/training/random.ts';
import { images } from './made-images.ts';

const SET = images(8, 64, 64, 3);
const draw = (augmentation: Augmentation, count: number, set = SET) =>
  drawViews(augmentation, set, new Uint32Array(count), randomStream(7, 'augmentation', 'full', 3));

describe('augmentation', () => {
  it('draws random resized crops of the areas and ratios asked, inside of the image, anywhere in it', () => {
    const views = draw(AUGMENTATIONS.imagenet, 2000);
    const boxes = views.map(({ crop }) => crop as NonNullable<View['crop']>);
    for (const { left, top, width, height } of boxes) {
      expect(Math.min(left, top)).toBeGreaterThanOrEqual(0);
      expect(Math.max(left + width, top + height)).toBeLessThanOrEqual(64);
      // sides are rounded to whole pixels, so limits hold to within half a pixel of each
      expect(((width + 0.5) * (height + 0.5)) / 64 ** 2).toBeGreaterThan(0.08);
      expect((width + 0.5) / (height - 0.5)).toBeGreaterThan(3 / 4);
      expect((width - 0.5) / (height + 0.5)).toBeLessThan(4 / 3);
    }
    const areas = boxes.map(({ width, height }) => (width * height) / 64 ** 2);
    expect(Math.min(...areas)).toBeLessThan(0.1);
    expect(Math.max(...areas)).toBeGreaterThan(0.95);
    // uniform in area, up to the large boxes that do not fit and are drawn again
    expect(areas.filter((area) => area < 0.5).length / areas.length).toBeCloseTo(0.5, 1);
    expect(boxes.some(({ left }) => left === 0) && boxes.some(({ left, width }) => left + width === 64)).toBe(true);
    expect(views.filter(({ flip }) => flip === true).length / views.length).toBeCloseTo(0.5, 1);
  });

  it('keeps at least the area that Tiny ImageNet asks, and takes the middle where no draw fits', () => {
    for (const { crop } of draw(AUGMENTATIONS['tiny-imagenet'], 500)) {
      expect(((crop?.width ?? 0) + 0.5) * ((crop?.height ?? 0) + 0.5)).toBeGreaterThan(0.85 * 64 ** 2);
    }
    const long = images(1, 100, 10, 3);
    for (const { crop } of draw({ ...AUGMENTATIONS['tiny-imagenet'], area: [0.9, 1] }, 5, long)) {
      expect(crop).toEqual({ left: 0, top: 43, width: 10, height: 13 });
    }
  });

  it('draws the same for the same stream, and something else for another step', () => {
    expect(draw(AUGMENTATIONS['imagenet-jitter'], 20)).toEqual(draw(AUGMENTATIONS['imagenet-jitter'], 20));
    const other = drawViews(AUGMENTATIONS['imagenet-jitter'], SET, new Uint32Array(20), randomStream(7, 'augmentation', 'full', 4));
    expect(other).not.toEqual(draw(AUGMENTATIONS['imagenet-jitter'], 20));
  });

  it('jitters brightness and saturation within the factors asked, in either order', () => {
    const jitters = draw(AUGMENTATIONS['imagenet-jitter'], 400).map(({ jitter = [] }) => jitter);
    const factors = (kind: string) => jitters.flatMap((jitter) => jitter.filter((each) => each.kind === kind).map(({ factor }) => factor));
    expect(factors('brightness')).toHaveLength(400);
    expect(Math.min(...factors('brightness'))).toBeGreaterThanOrEqual(1 - 32 / 255);
    expect(Math.max(...factors('brightness'))).toBeLessThanOrEqual(1 + 32 / 255);
    expect(Math.min(...factors('saturation'))).toBeLessThan(0.55);
    expect(Math.max(...factors('saturation'))).toBeGreaterThan(1.45);
    expect(jitters.filter(([first]) => first?.kind === 'brightness').length / 400).toBeCloseTo(0.5, 1);
  });

  it('shifts as far as asked in both directions, and mirrors no digits', () => {
    const views = draw(AUGMENTATIONS.digits, 300);
    for (const axis of ['shiftX', 'shiftY'] as const) expect(new Set(views.map((view) => view[axis]))).toEqual(new Set([-2, -1, 0, 1, 2]));
    expect(views.some(({ flip }) => flip === true)).toBe(false);
    expect(draw(AUGMENTATIONS['fashion-mnist'], 300).some(({ flip }) => flip === true)).toBe(true);
  });

  it('draws shifts in the order that training has always drawn them in', () => {
    const random = randomStream(7, 'augmentation', 'full', 3);
    const wanted = Array.from({ length: 5 }, (_, index) => ({
      index,
      shiftX: random.integer(-2, 2),
      shiftY: random.integer(-2, 2),
      flip: random.integer(0, 1) === 1,
    }));
    const views = drawViews(AUGMENTATIONS['fashion-mnist'], SET, [0, 1, 2, 3, 4], randomStream(7, 'augmentation', 'full', 3));
    expect(views).toEqual(wanted);
  });

  it('is refused as data where a range is upside down or a share beyond 1', () => {
    expect(augmentationSchema.safeParse(AUGMENTATIONS['imagenet-jitter']).success).toBe(true);
    expect(augmentationSchema.safeParse({ ...AUGMENTATIONS.imagenet, area: [1, 0.08] }).success).toBe(false);
    expect(augmentationSchema.safeParse({ ...AUGMENTATIONS.imagenet, area: [0.5, 1.5] }).success).toBe(false);
    expect(augmentationSchema.safeParse({ kind: 'rotate', pixels: 4 }).success).toBe(false);
    expect(evaluationSchema.safeParse({ kind: 'centre-crop', share: 0 }).success).toBe(false);
  });
});

describe('evaluation', () => {
  const space = { inputChannels: 3, mean: [0, 0, 0], std: [1, 1, 1], name: 'plain' } as unknown as Parameters<typeof toInput>[2];

  it('resizes the short side to ceil(side / 0.875) and keeps the middle', () => {
    // 64 -> short side 64 at side 56: nothing is resized, four pixels go on each side
    const input = toInput(SET, [evaluationView(CENTRE_CROP, 5)], space, 56, 'NHWC');
    for (let y = 0; y < 56; y++) {
      for (let i = 0; i < 56 * 3; i++) {
        const pixel = SET.pixels[5 * 64 * 64 * 3 + (y + 4) * 64 * 3 + 4 * 3 + i] as number;
        expect(input[y * 56 * 3 + i]).toBe(Math.fround(pixel / 255));
      }
    }
  });

  it('is what the recipe in a checkpoint says, and the whole image where an older one says nothing', () => {
    expect(evaluationOf({ name: 'ofav2', evaluation: CENTRE_CROP })).toEqual(CENTRE_CROP);
    for (const silent of [null, { name: 'short', shift: 2 }, { evaluation: 'centre' }])
      expect(evaluationOf(silent)).toEqual({ kind: 'resize' });
  });

  it('prepares images for a runtime as the recipe looks at them', () => {
    const prepared = prepareImages(SET, space, CENTRE_CROP).at(48);
    const views = Array.from({ length: SET.count }, (_, index) => evaluationView(CENTRE_CROP, index));
    expect(prepared).toMatchObject({ count: SET.count, shape: [3, 48, 48] });
    expect(prepared.data).toEqual(toInput(SET, views, space, 48, 'NCHW'));
    expect(prepared.data).not.toEqual(prepareImages(SET, space).at(48).data);
  });

  it('judges by the middle what trained on crops, by the whole what trained on whole images', () => {
    expect(evaluationFor(AUGMENTATIONS.imagenet)).toEqual({ kind: 'centre-crop', share: 0.875 });
    expect(evaluationFor(AUGMENTATIONS.cifar)).toEqual({ kind: 'resize' });
  });

  it('looks at the whole image where a recipe says so', () => {
    expect(toInput(SET, [evaluationView({ kind: 'resize' }, 5)], space, 48, 'NHWC')).toEqual(
      toInput(SET, [{ index: 5 }], space, 48, 'NHWC'),
    );
  });
});
