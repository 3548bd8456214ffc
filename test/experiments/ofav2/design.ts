// The experiment as data: which supernets are trained, on what, how long. Every arm has the same budget: training images x subnet passes.
import { PRESETS, type Space } from '../../../controller/space.ts';
import { withArchitecture, type Architecture } from '../../../controller/architecture.ts';
import { AUGMENTATIONS } from '../../../controller/supernet/data/augmentation.ts';
import { phasesOf } from '../../../controller/supernet/training/phases.ts';
import type { Recipe } from '../../../controller/supernet/training/recipe.ts';
import { RECIPES } from '../../../controller/supernet/training/recipes.ts';

type MultiPhase = Extract<Recipe['phases'], { full: unknown }>;

export interface Arm {
  /** Also the first part of its results' file names. */
  readonly name: string;
  readonly architecture: Architecture;
  readonly teacher: Recipe['distillation']['teacher'];
  readonly recipe: 'ofav2' | 'sandwich';
  readonly strides: keyof typeof STRIDES;
  readonly seeds: number;
}

/**
 * Of the five stages. `published` leaves 2x2 values to the last exit at 32 pixels, as OFAv2 has on Tiny ImageNet at 64; the others leave 4x4,
 * `even` with a wider third stage too.
 */
const STRIDES = {
  published: [2, 2, 2, 1, 2],
  kept: [2, 2, 2, 1, 1],
  even: [2, 2, 1, 2, 1],
} as const;

const SEEDS = 5;
/** Of an arm that only tells which placement is best. */
const TRIAL_SEEDS = 2;

/** The order of the queue, seed by seed: an interrupted experiment has a few seeds of everything. */
export const ARMS: readonly Arm[] = [
  // Once-For-All, at its best of three placements, or early exits would win against a crippled net
  { name: 'SE_B', architecture: 'SE_B', teacher: 'fixed', recipe: 'ofav2', strides: 'published', seeds: SEEDS },
  { name: 'SE_B-kept', architecture: 'SE_B', teacher: 'fixed', recipe: 'ofav2', strides: 'kept', seeds: TRIAL_SEEDS },
  { name: 'SE_B-even', architecture: 'SE_B', teacher: 'fixed', recipe: 'ofav2', strides: 'even', seeds: TRIAL_SEEDS },
  { name: 'EE_D-pet', architecture: 'EE_D', teacher: 'pet', recipe: 'ofav2', strides: 'published', seeds: SEEDS },
  { name: 'EE_D-pet-kept', architecture: 'EE_D', teacher: 'pet', recipe: 'ofav2', strides: 'kept', seeds: TRIAL_SEEDS },
  { name: 'EE_D', architecture: 'EE_D', teacher: 'fixed', recipe: 'ofav2', strides: 'published', seeds: SEEDS },
  { name: 'EE_B', architecture: 'EE_B', teacher: 'fixed', recipe: 'ofav2', strides: 'published', seeds: SEEDS },
  { name: 'EE_B-pet', architecture: 'EE_B', teacher: 'pet', recipe: 'ofav2', strides: 'published', seeds: SEEDS },
  { name: 'SE_B-pet', architecture: 'SE_B', teacher: 'pet', recipe: 'ofav2', strides: 'published', seeds: SEEDS },
  { name: 'SE_D', architecture: 'SE_D', teacher: 'fixed', recipe: 'ofav2', strides: 'published', seeds: SEEDS },
  { name: 'SE_D-pet', architecture: 'SE_D', teacher: 'pet', recipe: 'ofav2', strides: 'published', seeds: SEEDS },
  { name: 'EE_D-sandwich', architecture: 'EE_D', teacher: 'pet', recipe: 'sandwich', strides: 'published', seeds: SEEDS },
  { name: 'SE_P', architecture: 'SE_P', teacher: 'fixed', recipe: 'ofav2', strides: 'published', seeds: 1 },
  { name: 'SE_DP', architecture: 'SE_DP', teacher: 'fixed', recipe: 'ofav2', strides: 'published', seeds: 1 },
  { name: 'EE_P', architecture: 'EE_P', teacher: 'fixed', recipe: 'ofav2', strides: 'published', seeds: 1 },
  { name: 'EE_DP', architecture: 'EE_DP', teacher: 'fixed', recipe: 'ofav2', strides: 'published', seeds: 1 },
];

/** Of 55,000, the first ones: fewer images seen more often, since a budget of minutes must hold every phase. */
export const TRAINING_IMAGES = 6000;
/** Image passes through a subnet in training; the teacher's are not counted. */
export const BUDGET = 180_000;
export const TEST_IMAGES = 2000;

/** Where runs keep their state. */
export const OUT = 'out/experiments/ofav2';

export function spaceOf({ architecture, strides }: Pick<Arm, 'architecture' | 'strides'>): Space {
  const base = PRESETS['fashion'] as Space;
  const placed = { ...base, stages: base.stages.map((stage, s) => ({ ...stage, stride: STRIDES[strides][s] as 1 | 2 })) };
  const space = withArchitecture(placed, architecture);
  if (!space.ok) throw new Error(space.message);
  return space.value;
}

/**
 * The published rates suit phases of 10,000s of steps. With a few hundred, smaller batches and larger rates after the kernel phase are worth
 * 2 points (SE_B, seed 1, validation after the depth phases: 77.2 % with batch 64 and the published rates, 78.1 % with these, 79.6 % with
 * batch 32 too).
 */
function shortRates({ level, height, depth, width }: MultiPhase): Partial<MultiPhase> {
  return {
    level: { ...level, rates: [0.01, 0.02] },
    height: { ...height, rates: [0.0075, 0.01, 0.015, 0.02] },
    depth: { ...depth, rates: [0.01, 0.02] },
    width: { ...width, rates: [0.01, 0.02] },
  };
}

export function recipeOf({ recipe, teacher }: Pick<Arm, 'recipe' | 'teacher'>): Recipe {
  const base = RECIPES[recipe] as Recipe;
  return {
    ...base,
    batch: 32,
    phases: 'full' in base.phases ? { ...base.phases, ...shortRates(base.phases) } : base.phases,
    distillation: { ...base.distillation, teacher },
    augmentation: AUGMENTATIONS['fashion-mnist'],
    evaluation: { kind: 'resize' },
    // phases are so short that their last weights are their best; scoring must not take longer than training
    validation: { subnets: 8, images: 1000, calibrationImages: 320, timesPerPhase: 1 },
    test: { settings: 135, images: TEST_IMAGES },
  };
}

/** The factor on every phase's length that makes the recipe cost BUDGET image passes. */
export function scaleOf(space: Space, recipe: Recipe): number {
  const epochs = phasesOf(space, recipe).reduce((sum, phase) => sum + (phase.epochs + phase.warmUpEpochs) * phase.subnetsPerStep, 0);
  return BUDGET / (epochs * TRAINING_IMAGES);
}

export function resultName(arm: Pick<Arm, 'name'>, seed: number): string {
  return `${arm.name}-${seed}`;
}
