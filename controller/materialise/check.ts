// The exported model must be the trained one: the very bytes that devices get, run by ONNX Runtime, against the supernet in TensorFlow.js,
// on real images. A difference beyond rounding is a failure and nothing is kept.
import { xoroshiro128plus } from 'pure-rand/generator/xoroshiro128plus';
import { failed, ok, type Outcome } from '@ofa-fleet/shared/outcome.ts';
import { OUTPUT, type EmittedModel } from './emit.ts';
import { batches, type InputImages } from './images.ts';
import { openSession, type ModelSession } from './session.ts';

/** Allowed |ONNX Runtime - TensorFlow.js| for each logit, absolute: float32 rounding of a trained net stays two decimal orders below. */
export const CHECK_TOLERANCE = 1e-4;
/**
 * Share of the largest logit that is allowed where it is more than CHECK_TOLERANCE: rounding grows with the numbers, and logits of imported
 * nets, above all with stored statistics, may be in the tens. Rounding was seen to reach half of it.
 */
const RELATIVE_TOLERANCE = 3e-5;
/**
 * A net may enlarge rounding more than that: with statistics that are not its own, or attention whose softmax is sharp. How much is measured
 * when it matters: its logits on the same images, each value moved by up to one unit in the last place. Two runtimes, and PyTorch, were
 * mostly seen to differ by less than 3 times that; with attention of ten times the usual sharpness by up to 9, and such nets are refused.
 */
const UNIT_IN_LAST_PLACE = 2 ** -23;
const ROUNDINGS_ALLOWED = 8;
const DRAWS = 3;
/** Share of the largest logit beyond which no difference passes for rounding: a wrong pad or epsilon makes one of that size. */
const MOST_ROUNDING = 3e-3;
const SEED = 1;

export interface Checked {
  readonly maxDifference: number;
  /**
   * What may be a difference of rounding alone, where the net was seen to enlarge it beyond the usual limits (devices will then differ by as
   * much); null for all others.
   */
  readonly rounding: number | null;
  /** Logits of the first image, as the exported model gives them. */
  readonly firstOutput: Float32Array;
}

/**
 * Runs `model` (batch 1, running statistics) image by image against `expected`, logits [count, classes]. OUTPUT_MISMATCH names the largest
 * difference and where it is, or says that the net itself makes rounding too large to tell.
 */
export async function checkModel(
  model: EmittedModel,
  images: InputImages,
  expected: Float32Array,
  threads: number,
): Promise<Outcome<Checked>> {
  const opened = await openSession(model, threads);
  if (!opened.ok) return opened;
  const classes = model.outputShape[1] as number;
  try {
    const logits = await logitsOf(opened.value, images, classes);
    const { difference: maxDifference, at } = largestDifference(logits, expected);
    const largest = expected.reduce((most, logit) => Math.max(most, Math.abs(logit)), 0);
    const usual = Math.max(CHECK_TOLERANCE, RELATIVE_TOLERANCE * largest);
    const rounding = maxDifference <= usual ? null : ROUNDINGS_ALLOWED * (await roundingOf(opened.value, images, logits, classes));
    const limit = Math.max(usual, Math.min(rounding ?? 0, MOST_ROUNDING * largest));
    if (maxDifference <= limit) return ok({ maxDifference, rounding, firstOutput: logits.slice(0, classes) });
    if (rounding !== null && maxDifference <= rounding) {
      return failed(
        'OUTPUT_MISMATCH',
        `The subnet cannot be checked: where its images change in the last place of float32, its logits change by ${rounding / ROUNDINGS_ALLOWED} ` +
          `of at most ${largest}, so no two runtimes give the same answer (attention with a sharp softmax and statistics that are not the ` +
          "subnet's own do that). Nothing was kept: take another subnet, or calibrated statistics.",
      );
    }
    const worst = `logit ${at % classes} of image ${Math.floor(at / classes) + 1} is ${logits[at]}, not ${expected[at]}`;
    return failed(
      'OUTPUT_MISMATCH',
      `The exported model differs from the trained one by ${maxDifference} (limit ${limit}): ${worst}. Nothing was kept; this is a ` +
        'fault of this program or of its runtime: report it with the subnet and the versions.',
    );
  } finally {
    await opened.value.release();
  }
}

/** [count, classes] */
async function logitsOf(session: ModelSession, images: InputImages, classes: number): Promise<Float32Array> {
  const logits = new Float32Array(images.count * classes);
  let image = 0;
  for (const batch of batches(images, 1)) {
    logits.set((await session.run(batch.data, batch.shape)).get(OUTPUT) as Float32Array, classes * image++);
  }
  return logits;
}

/** NaN counts as infinitely far. */
function largestDifference(got: Float32Array, want: Float32Array): { readonly difference: number; readonly at: number } {
  let worst = { difference: 0, at: 0 };
  got.forEach((value, at) => {
    const absolute = Math.abs(value - (want[at] as number));
    const difference = Number.isNaN(absolute) ? Infinity : absolute;
    if (difference > worst.difference) worst = { difference, at };
  });
  return worst;
}

/** The most by which any logit changes when the images are rounded otherwise. */
async function roundingOf(session: ModelSession, images: InputImages, logits: Float32Array, classes: number): Promise<number> {
  const next = xoroshiro128plus(SEED);
  let rounding = 0;
  for (let draw = 0; draw < DRAWS; draw++) {
    const data = images.data.map((value) => value * (1 + (UNIT_IN_LAST_PLACE * next.next()) / 2 ** 31));
    const moved = await logitsOf(session, { ...images, data }, classes);
    rounding = Math.max(rounding, largestDifference(moved, logits).difference);
  }
  return rounding;
}
