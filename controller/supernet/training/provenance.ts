// What several kinds of runs say about themselves in the same words.
import type { Provenance } from '../checkpoint.ts';
import type { Dataset } from '../data/dataset.ts';

/** Which images a run saw. */
export function dataProvenance({ name, sha256, train: training, validation, test }: Dataset): Provenance['data'] {
  return { name, sha256, trainingImages: training.count, validationImages: validation.count, testImages: test.count };
}
