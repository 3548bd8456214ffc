// The exported model must be the trained one: the very bytes that devices get, run by ONNX Runtime, against the supernet in TensorFlow.js,
// on real images. A difference beyond rounding is a failure and nothing is kept.
import { failed, ok, type Outcome } from '@ofa-fleet/shared/outcome.ts';
import { OUTPUT, type EmittedModel } from './emit.ts';
import { batches, type InputImages } from './images.ts';
import { openSession } from './session.ts';

/** Allowed |ONNX Runtime - TensorFlow.js| for each logit, absolute: float32 rounding of a trained net stays two decimal orders below. */
export const CHECK_TOLERANCE = 1e-4;
/**
 * Share of the largest logit that is allowed where it is more than CHECK_TOLERANCE: rounding grows with the numbers, and logits of imported
 * nets, above all with stored statistics, may be in the tens. Rounding was seen to reach half of it.
 */
const RELATIVE_TOLERANCE = 3e-5;

export interface Checked {
  readonly maxDifference: number;
  /** Logits of the first image, as the exported model gives them. */
  readonly firstOutput: Float32Array;
}

/**
 * Runs `model` (batch 1, running statistics) image by image against `expected`, logits [count, classes]. OUTPUT_MISMATCH names the largest
 * difference and where it is.
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
  let maxDifference = 0;
  let worst = '';
  let firstOutput: Float32Array | null = null;
  let image = 0;
  try {
    for (const batch of batches(images, 1)) {
      const logits = (await opened.value.run(batch.data, batch.shape)).get(OUTPUT) as Float32Array;
      firstOutput ??= Float32Array.from(logits);
      logits.forEach((got, label) => {
        const want = expected[image * classes + label] as number;
        const absolute = Math.abs(got - want);
        const difference = Number.isNaN(absolute) ? Infinity : absolute;
        if (difference > maxDifference) {
          maxDifference = difference;
          worst = `logit ${label} of image ${image + 1} is ${got}, not ${want}`;
        }
      });
      image++;
    }
  } finally {
    await opened.value.release();
  }
  const largest = expected.reduce((most, logit) => Math.max(most, Math.abs(logit)), 0);
  const limit = Math.max(CHECK_TOLERANCE, RELATIVE_TOLERANCE * largest);
  if (!(maxDifference <= limit)) {
    return failed(
      'OUTPUT_MISMATCH',
      `The exported model differs from the trained one by ${maxDifference} (limit ${limit}): ${worst}. Nothing was kept; this is a ` +
        'fault of this program or of its runtime: report it with the subnet and the versions.',
    );
  }
  return ok({ maxDifference, firstOutput: firstOutput as Float32Array });
}
