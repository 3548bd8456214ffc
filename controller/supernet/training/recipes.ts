// The recipes that ship: OFAv2's as published, Once-For-All's, a one-phase alternative, and a short one for small images on a few cores.
import { AUGMENTATIONS } from '../data/augmentation.ts';
import type { RecipeTemplate } from './recipe.ts';

const OPTIMISER = { momentum: 0.9, weightDecay: 3e-5, decayKernelMatrices: false, labelSmoothing: 0.1 };

/** Validation after each of 180 epochs would cost as much as training does; a phase's best weights are among its last ones. */
const SCORED = {
  validation: { subnets: 32, images: 15_000, calibrationImages: 1_000, timesPerPhase: 10 },
  test: { settings: 405, images: 50_000 },
};

/** The thesis and code behind OFAv2 (arXiv 2302.01888), with its best form's teacher: 605 epochs for SE_B and SE_D, 915 for EE_B and EE_D, 150 more with parallel blocks. */
const OFAV2: RecipeTemplate = {
  name: 'ofav2',
  batch: 64,
  ...OPTIMISER,
  distillation: { loss: 'ce', exitWeights: 'ascending', teacher: 'pet', trainedExitsOnly: false },
  phases: {
    full: { epochs: [180], warmUpEpochs: [0], rates: [0.08], subnetsPerStep: 1, dropout: 0.2 },
    kernel: { epochs: [120], warmUpEpochs: [5], rates: [0.03], subnetsPerStep: 1, dropout: 0.1 },
    level: { epochs: [25, 120], warmUpEpochs: [0, 5], rates: [0.0025, 0.0075], subnetsPerStep: 2, dropout: 0.1 },
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
  augmentation: null, // published for Tiny ImageNet: crops of at least 85 % of the area
  evaluation: null,
  ...SCORED,
};

export const RECIPES: Readonly<Record<string, RecipeTemplate>> = {
  ofav2: OFAV2,
  // Once-For-All (arXiv 1908.09791) at the rates of one of its 32 GPUs, batch 64 each: the same phases, of which its space (one exit, plain
  // blocks) needs full, kernel, depth and width; its teacher is the full net throughout.
  ofa: {
    ...OFAV2,
    name: 'ofa',
    distillation: { ...OFAV2.distillation, teacher: 'fixed' },
    phases: {
      ...(OFAV2.phases as Extract<RecipeTemplate['phases'], { full: unknown }>),
      full: { epochs: [180], warmUpEpochs: [0], rates: [0.08125], subnetsPerStep: 1, dropout: 0.1 },
    },
  },
  // After BigNAS (arXiv 2003.11142): one phase, in-place distillation; only the largest net drops features.
  sandwich: {
    ...OFAV2,
    name: 'sandwich',
    phases: { sandwich: { epochs: [360], warmUpEpochs: [5], rates: [0.08], subnetsPerStep: 4, dropout: 0.2 } },
  },
  // About 70 minutes on one core for the space `fashion-tiny`; smaller batches, since there are few steps.
  'fashion-tiny': {
    name: 'fashion-tiny',
    batch: 32,
    ...OPTIMISER,
    distillation: { loss: 'ce', exitWeights: 'ascending', teacher: 'pet', trainedExitsOnly: false },
    phases: {
      full: { epochs: [1.1], warmUpEpochs: [0], rates: [0.05], subnetsPerStep: 1, dropout: 0.1 },
      kernel: { epochs: [0.2], warmUpEpochs: [0], rates: [0.02], subnetsPerStep: 1, dropout: 0 },
      level: { epochs: [0.1, 0.2], warmUpEpochs: [0, 0], rates: [0.0075, 0.01], subnetsPerStep: 2, dropout: 0 },
      height: { epochs: [0.12, 0.25], warmUpEpochs: [0, 0], rates: [0.01, 0.015], subnetsPerStep: 2, dropout: 0 },
      depth: { epochs: [0.1, 0.2], warmUpEpochs: [0, 0], rates: [0.01, 0.01], subnetsPerStep: 2, dropout: 0 },
      width: { epochs: [0.1, 0.3], warmUpEpochs: [0, 0], rates: [0.0075, 0.01], subnetsPerStep: 4, dropout: 0 },
    },
    augmentation: AUGMENTATIONS['fashion-mnist'],
    evaluation: { kind: 'resize' },
    validation: { subnets: 4, images: 1_000, calibrationImages: 320, timesPerPhase: 10 },
    test: { settings: 405, images: 2_000 },
  },
};
