// Times a few steps on copies, before the run starts, so that its plan can say how long it will take.
import * as tf from '@tensorflow/tfjs';
import type { Batch } from './batches.ts';
import type { PlannedPhase } from './plan.ts';
import { trainStep, type Trainee } from './step.ts';
import type { Teacher } from './teacher.ts';
import { cloned, dispose } from './tensors.ts';

const TIMED_STEPS = 3;

/** Seconds for each multiply-accumulate of a plan. The trainee is left as it was. */
export async function rehearse(
  trainee: Trainee,
  { phase, stepCost }: PlannedPhase,
  batchOf: (step: number) => Batch,
  teacher: Teacher | null,
  seed: number,
): Promise<number> {
  const copy: Trainee = { ...trainee, weights: cloned(trainee.weights), momenta: new Map() };
  let begun = performance.now();
  for (let step = 0; step <= TIMED_STEPS; step++) {
    const batch = batchOf(step);
    await trainStep(copy, phase, step, batch, teacher, 0, seed);
    tf.dispose([batch.x, batch.targets]);
    if (step === 0) begun = performance.now(); // the first step of a process also sets things up
  }
  const seconds = (performance.now() - begun) / 1000;
  dispose(copy.weights);
  dispose(copy.momenta);
  return seconds / (TIMED_STEPS * stepCost);
}
