// How training images are varied and how images are looked at to be judged, both as data (a recipe names them) and as draws of views.
import { z } from 'zod';
import type { Random } from '../training/random.ts';
import type { ImageSet } from './dataset.ts';
import type { Jitter, View } from './preprocess.ts';
import type { Box } from './resample.ts';

const share = z.number().gt(0).max(1);
const ascending = (range: readonly [number, number]) => range[0] <= range[1];

export const augmentationSchema = z.discriminatedUnion('kind', [
  /** The image is moved by up to `pixels` of its own (black comes in) and resized whole: for small images whose object fills the frame. */
  z.strictObject({ kind: z.literal('shift'), pixels: z.int().min(0), flip: z.boolean() }),
  /** A random part of the image, `area` of it at aspect ratio `ratio`, is resized to the net's side (random resized crop). */
  z.strictObject({
    kind: z.literal('crop'),
    area: z.tuple([share, share]).refine(ascending, 'the first must not exceed the second'),
    ratio: z.tuple([z.number().positive(), z.number().positive()]).refine(ascending, 'the first must not exceed the second'),
    /** Mirrored left to right, half of the time. */
    flip: z.boolean(),
    /** Factors from 1 - x to 1 + x (not below 0), in random order: the "tf" colour jitter of once-for-all is 32/255 and 0.5. */
    jitter: z.strictObject({ brightness: z.number().min(0), saturation: z.number().min(0) }).nullable(),
  }),
]);

export const evaluationSchema = z.discriminatedUnion('kind', [
  /** The whole image resized to the net's side. */
  z.strictObject({ kind: z.literal('resize') }),
  /** The short side resized to ceil(side / share), then the middle: what a net that trained on crops is judged by (share 0.875). */
  z.strictObject({ kind: z.literal('centre-crop'), share }),
]);

export type Augmentation = z.infer<typeof augmentationSchema>;
export type Evaluation = z.infer<typeof evaluationSchema>;

const RATIO: [number, number] = [3 / 4, 4 / 3];

/** As published for each data set (once-for-all, OFAv2); see `augmentationFor`. */
export const AUGMENTATIONS = {
  'tiny-imagenet': { kind: 'crop', area: [0.85, 1], ratio: RATIO, flip: true, jitter: null },
  imagenet: { kind: 'crop', area: [0.08, 1], ratio: RATIO, flip: true, jitter: null },
  'imagenet-jitter': { kind: 'crop', area: [0.08, 1], ratio: RATIO, flip: true, jitter: { brightness: 32 / 255, saturation: 0.5 } },
  /** Four black pixels around, a random part of the old size, mirrored: the custom on CIFAR since residual nets. */
  cifar: { kind: 'shift', pixels: 4, flip: true },
  /** Clothes stay what they are when mirrored, and they fill the frame: a crop would cut off the sleeves that tell a shirt from a top. */
  'fashion-mnist': { kind: 'shift', pixels: 2, flip: true },
  /** A mirrored 2 is no digit at all. */
  digits: { kind: 'shift', pixels: 2, flip: false },
} as const satisfies Readonly<Record<string, Augmentation>>;

export const CENTRE_CROP: Evaluation = { kind: 'centre-crop', share: 0.875 };

/** Of a checkpoint's recipe, whatever wrote it; recipes without an answer scored by the whole image. */
export function evaluationOf(recipe: unknown): Evaluation {
  const parsed = z.object({ evaluation: evaluationSchema }).safeParse(recipe);
  return parsed.success ? parsed.data.evaluation : { kind: 'resize' };
}

/** The published share of the short side that evaluation keeps goes with training on crops; what trained on whole images is judged on them. */
export function evaluationFor(augmentation: Augmentation): Evaluation {
  return augmentation.kind === 'crop' ? CENTRE_CROP : { kind: 'resize' };
}

/**
 * One view for each index, drawn in that order: give a stream named by run, phase and step, and a resumed run draws the same. How many
 * numbers an image takes from the stream may differ (a crop that does not fit is drawn again), so the order of the batch matters.
 */
export function drawViews(augmentation: Augmentation, set: ImageSet, indices: ArrayLike<number>, random: Random): View[] {
  return Array.from(indices, (index): View => {
    if (augmentation.kind === 'shift') {
      const { pixels } = augmentation;
      const [shiftX, shiftY] = [random.integer(-pixels, pixels), random.integer(-pixels, pixels)];
      return { index, shiftX, shiftY, flip: augmentation.flip && random.integer(0, 1) === 1 };
    }
    const crop = drawCrop(set, augmentation.area, augmentation.ratio, random);
    const flip = augmentation.flip && random.integer(0, 1) === 1;
    return augmentation.jitter === null ? { index, crop, flip } : { index, crop, flip, jitter: drawJitter(augmentation.jitter, random) };
  });
}

/** How the image at `index` is looked at when a net is judged. */
export function evaluationView(evaluation: Evaluation, index: number): View {
  return evaluation.kind === 'resize' ? { index } : { index, centre: evaluation.share };
}

const TRIES = 10;

/** Area uniform, ratio uniform in its logarithm, place uniform; where ten draws do not fit, the largest box in the middle within `ratio`. */
function drawCrop({ width, height }: ImageSet, area: readonly [number, number], ratio: readonly [number, number], random: Random): Box {
  const between = (from: number, to: number) => from + random.uniform() * (to - from);
  for (let i = 0; i < TRIES; i++) {
    const target = width * height * between(...area);
    const aspect = Math.exp(between(Math.log(ratio[0]), Math.log(ratio[1])));
    const box = { width: Math.round(Math.sqrt(target * aspect)), height: Math.round(Math.sqrt(target / aspect)) };
    if (box.width < 1 || box.width > width || box.height < 1 || box.height > height) continue;
    return { left: random.integer(0, width - box.width), top: random.integer(0, height - box.height), ...box };
  }
  const aspect = Math.min(Math.max(width / height, ratio[0]), ratio[1]);
  const box = { width: Math.min(width, Math.round(height * aspect)), height: Math.min(height, Math.round(width / aspect)) };
  return { left: Math.floor((width - box.width) / 2), top: Math.floor((height - box.height) / 2), ...box };
}

function drawJitter({ brightness, saturation }: { brightness: number; saturation: number }, random: Random): readonly Jitter[] {
  const factor = (spread: number) => Math.max(0, 1 - spread) + random.uniform() * (1 + spread - Math.max(0, 1 - spread));
  const jitter: Jitter[] = [
    { kind: 'brightness', factor: factor(brightness) },
    { kind: 'saturation', factor: factor(saturation) },
  ];
  return random.integer(0, 1) === 1 ? jitter.toReversed() : jitter;
}
