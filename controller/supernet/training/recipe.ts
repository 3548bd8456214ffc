// How long and how hard each phase trains, as data: the published schedule of OFAv2, and a short one for small images on a few cores.
import type { PhaseKind } from './phases.ts';

export interface PhaseSettings {
  /** Epochs of each step of the phase kind (height 1, height 2, ...). Where a space has fewer steps, the last ones count. */
  readonly epochs: readonly number[];
  /** Epochs at constant rate before the cosine, per step. */
  readonly warmUpEpochs: readonly number[];
  /** Learning rate at the start of the cosine, per step. */
  readonly rates: readonly number[];
  /** Subnets whose gradients are summed in one step; the full phase trains the largest net alone. */
  readonly subnetsPerStep: number;
  /** Share of features dropped before the classifier. */
  readonly dropout: number;
}

export interface Recipe {
  readonly name: string;
  readonly batch: number;
  readonly momentum: number;
  readonly weightDecay: number;
  readonly labelSmoothing: number;
  readonly phases: Readonly<Record<PhaseKind, PhaseSettings>>;
  /** Largest random shift of a training image, in its own pixels; they are mirrored at random as well. */
  readonly shift: number;
  readonly validation: {
    /** Subnets scored after each epoch and at the end of a phase, at most. */
    readonly subnets: number;
    readonly images: number;
    /** Training images over which batch norms are recalibrated before scoring. */
    readonly calibrationImages: number;
  };
}

const OPTIMISER = { momentum: 0.9, weightDecay: 3e-5, labelSmoothing: 0.1 };

export const RECIPES: Readonly<Record<'published' | 'short', Recipe>> = {
  // The thesis and code behind OFAv2 (arXiv 2302.01888): Tiny ImageNet, batch 64.
  published: {
    name: 'published',
    batch: 64,
    ...OPTIMISER,
    phases: {
      full: { epochs: [180], warmUpEpochs: [0], rates: [0.08], subnetsPerStep: 1, dropout: 0.2 },
      kernel: { epochs: [120], warmUpEpochs: [5], rates: [0.03], subnetsPerStep: 1, dropout: 0.1 },
      height: {
        epochs: [25, 60, 90, 120],
        warmUpEpochs: [0, 5, 5, 5],
        rates: [0.001875, 0.00375, 0.0075, 0.015],
        subnetsPerStep: 2,
        dropout: 0.1,
      },
      depth: { epochs: [25, 120], warmUpEpochs: [0, 5], rates: [0.0025, 0.0075], subnetsPerStep: 2, dropout: 0.1 },
      width: { epochs: [25, 120], warmUpEpochs: [0, 5], rates: [0.0025, 0.0075], subnetsPerStep: 4, dropout: 0.1 },
    },
    shift: 4,
    validation: { subnets: 32, images: 5_000, calibrationImages: 1_000 },
  },
  // About 70 minutes on one core for `fashion-tiny`; smaller batches, since there are few steps.
  short: {
    name: 'short',
    batch: 32,
    ...OPTIMISER,
    phases: {
      full: { epochs: [1.1], warmUpEpochs: [0], rates: [0.05], subnetsPerStep: 1, dropout: 0.1 },
      kernel: { epochs: [0.2], warmUpEpochs: [0], rates: [0.02], subnetsPerStep: 1, dropout: 0 },
      height: { epochs: [0.12, 0.25], warmUpEpochs: [0, 0], rates: [0.01, 0.015], subnetsPerStep: 2, dropout: 0 },
      depth: { epochs: [0.1, 0.2], warmUpEpochs: [0, 0], rates: [0.01, 0.01], subnetsPerStep: 2, dropout: 0 },
      width: { epochs: [0.1, 0.3], warmUpEpochs: [0, 0], rates: [0.0075, 0.01], subnetsPerStep: 4, dropout: 0 },
    },
    shift: 2,
    validation: { subnets: 4, images: 1_000, calibrationImages: 320 },
  },
};
