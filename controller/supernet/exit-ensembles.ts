// Several exits of one net answering together (AEP, arXiv 2301.12168): a property of a deployment, never a gene. All combinations are scored
// from one forward pass an image, since they differ in arithmetic on the same logits only.
import * as tf from '@tensorflow/tfjs';
import type { Space } from '../space.ts';
import type { Subnet } from '../subnet.ts';
import { evaluationView, type Evaluation } from './data/augmentation.ts';
import type { ImageSet } from './data/dataset.ts';
import type { Weights } from './elastic.ts';
import { forward } from './supernet.ts';
import { inputOf } from './training/batches.ts';
import { restrictedWeights } from './training/exit-weights.ts';
import type { Statistics } from './training/score.ts';

const BATCH = 100;

/** What the exits said about some images. */
export interface ExitLogits {
  readonly classes: number;
  /** One class number an image. */
  readonly labels: ArrayLike<number>;
  /** First stage first; each [images, classes], row-major. */
  readonly exits: readonly Float32Array[];
}

/** Logits of every exit on the way of `subnet`, for the first `count` images; null where `signal` aborted. */
export async function exitLogits(
  weights: Weights,
  space: Space,
  subnet: Subnet,
  statistics: Statistics,
  images: { readonly set: ImageSet; readonly count: number; readonly evaluation: Evaluation },
  signal?: AbortSignal,
): Promise<ExitLogits | null> {
  const { set, evaluation } = images;
  const count = Math.min(images.count, set.count);
  const exits: Float32Array[] = [];
  for (let start = 0; start < count; start += BATCH) {
    await new Promise(setImmediate); // lets signals in
    if (signal?.aborted === true) return null;
    const views = Array.from({ length: Math.min(BATCH, count - start) }, (_, i) => evaluationView(evaluation, start + i));
    const logits = tf.tidy(() => {
      const x = inputOf(set, views, space, subnet.resolution);
      return [...forward(weights, space, subnet, x, { kind: 'running', statistics }, 'all').logits];
    });
    for (const [e, exit] of logits.entries()) {
      const values = (exits[e] ??= new Float32Array(count * space.classes));
      values.set(await exit.data<'float32'>(), start * space.classes);
    }
    tf.dispose(logits);
  }
  return { classes: space.classes, labels: set.labels, exits };
}

export interface ExitSubset {
  /** Ascending, 1 = the exit after the first stage; the trunk is cut after the last. */
  readonly exits: readonly number[];
  /** Of the answers of those exits, in that order; sum 1. */
  readonly weights: readonly number[];
  /** Top-1 in [0, 1]. */
  readonly accuracy: number;
}

/**
 * All 2^n - 1 subsets of n exits, each answering by the weighted sum of its logits; `weights` are those of all exits, and keep their
 * proportions within a subset. Ordered by the last exit, then by number of exits.
 */
export function scoreExitSubsets({ classes, labels, exits }: ExitLogits, weights: readonly number[]): ExitSubset[] {
  const images = (exits[0]?.length ?? 0) / classes;
  const subsets = Array.from({ length: 2 ** exits.length - 1 }, (_, i) => exits.flatMap((_exit, e) => (((i + 1) >> e) & 1 ? [e + 1] : [])));
  const scored = subsets.map((kept): ExitSubset => {
    const shares = restrictedWeights(weights, kept);
    let right = 0;
    for (let image = 0; image < images; image++) {
      let [answer, most] = [0, -Infinity];
      for (let c = 0; c < classes; c++) {
        let sum = 0;
        for (const e of kept) sum += (shares[e - 1] as number) * ((exits[e - 1] as Float32Array)[image * classes + c] as number);
        if (sum > most) [answer, most] = [c, sum];
      }
      if (answer === labels[image]) right++;
    }
    return { exits: kept, weights: kept.map((e) => shares[e - 1] as number), accuracy: right / images };
  });
  const last = ({ exits: kept }: ExitSubset) => kept[kept.length - 1] as number;
  return scored.sort((a, b) => last(a) - last(b) || a.exits.length - b.exits.length);
}

/** The best one; of equals the one with the earliest last exit, then with the fewest exits, which costs least. */
export function pickExitSubset(subsets: readonly ExitSubset[]): ExitSubset {
  return subsets.reduce((best, subset) => (subset.accuracy > best.accuracy ? subset : best));
}
