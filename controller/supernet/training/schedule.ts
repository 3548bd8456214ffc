// From epochs to steps, and the learning rate of each step.
import type { Phase } from './phases.ts';

/** How many steps a phase takes; warm-up steps come first and are part of `steps`. */
export interface Length {
  readonly steps: number;
  readonly warmUpSteps: number;
}

/** `scale` multiplies every length in proportion; a phase has at least one step. */
export function lengthOf(phase: Pick<Phase, 'epochs' | 'warmUpEpochs'>, stepsPerEpoch: number, scale: number): Length {
  const stepsOf = (epochs: number) => Math.round(epochs * scale * stepsPerEpoch);
  const warmUpSteps = stepsOf(phase.warmUpEpochs);
  return { steps: Math.max(1, stepsOf(phase.epochs) + warmUpSteps), warmUpSteps };
}

/** Constant during the warm-up (one worker has nothing to warm up to), then half a cosine down to 0 over the steps that are left. */
export function learningRate(rate: number, step: number, { steps, warmUpSteps }: Length): number {
  if (step < warmUpSteps) return rate;
  return 0.5 * rate * (1 + Math.cos((Math.PI * (step - warmUpSteps)) / Math.max(1, steps - warmUpSteps)));
}

/** Steps between two validations: an epoch, or more where a phase would be validated more than `timesPerPhase` times. Its end always is. */
export function validationInterval(steps: number, stepsPerEpoch: number, timesPerPhase: number): number {
  return Math.max(stepsPerEpoch, Math.ceil(steps / timesPerPhase));
}
