// The experiment as data: which supernets are trained, on what, how long. Every arm has the same budget: training images x subnet passes.
import { PRESETS, type Space } from '../../../controller/space.ts';
import { withArchitecture, type Architecture } from '../../../controller/architecture.ts';
import { AUGMENTATIONS, type Augmentation } from '../../../controller/supernet/data/augmentation.ts';
import { DEBIAN_FASHION_MNIST } from '../../../controller/supernet/data/idx.ts';
import { phasesOf } from '../../../controller/supernet/training/phases.ts';
import { decided, type Recipe, type RecipeTemplate } from '../../../controller/supernet/training/recipe.ts';
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

/** What every arm is trained on, and how long. */
export interface Setting {
  /** For the report: data, space, budget. */
  readonly title: string;
  readonly base: Space;
  /** Folder of images. */
  readonly data: string;
  /** The first ones of the training part; null: all. */
  readonly trainingImages: number | null;
  /** Uniform settings by which each phase's best weights are tested. */
  readonly phaseSettings: number;
  readonly recipeOf: (arm: Pick<Arm, 'recipe' | 'teacher'>, augmentation: Augmentation) => Recipe;
  /** The factor on every phase's length. */
  readonly scaleOf: (space: Space, recipe: Recipe) => number;
}

/** Of 55,000, the first ones: fewer images seen more often, since a budget of minutes must hold every phase. */
const TRAINING_IMAGES = 6000;
/** Image passes through a subnet in training; the teacher's are not counted. */
const BUDGET = 180_000;
const TEST_IMAGES = 2000;

/** What the kept results are of: minutes a run on one core. */
export const FASHION: Setting = {
  title: `Fashion-MNIST, the first ${TRAINING_IMAGES} training images, space \`fashion\` in each architecture, ${BUDGET} image passes through subnets for every arm (the published recipes' own budgets differ: 605 epochs for SE_B, 915 for EE_D), ${TEST_IMAGES} test images`,
  base: PRESETS['fashion'] as Space,
  data: DEBIAN_FASHION_MNIST,
  trainingImages: TRAINING_IMAGES,
  phaseSettings: 8,
  recipeOf: ({ recipe, teacher }) => {
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
  },
  scaleOf: (space, recipe) => {
    const epochs = phasesOf(space, recipe).reduce((sum, phase) => sum + (phase.epochs + phase.warmUpEpochs) * phase.subnetsPerStep, 0);
    return BUDGET / (epochs * TRAINING_IMAGES);
  },
};

export interface OwnData {
  readonly data: string;
  readonly preset: string;
  /** On the length of every phase; 1 = as published. */
  readonly scale: number;
  /** Uniform settings tested at the end, and after each phase; not given: as published. */
  readonly settings: number | undefined;
}

/** The published recipe on a user's copy of the published data, or on any other images. */
export function ownSetting({ data, preset, scale, settings }: OwnData): Setting {
  const base = PRESETS[preset];
  if (base === undefined) throw new Error(`--preset ${preset} is none of ${Object.keys(PRESETS).join(', ')}`);
  return {
    title: `${data}, space \`${preset}\` in each architecture, published recipe at scale ${scale} (so SE_B and EE_D have budgets as 605 to 915)`,
    base,
    data,
    trainingImages: null,
    phaseSettings: settings ?? 32,
    recipeOf: ({ recipe, teacher }, augmentation) => {
      const template = RECIPES[recipe] as RecipeTemplate;
      const test = settings === undefined ? template.test : { ...template.test, settings };
      return decided({ ...template, test, distillation: { ...template.distillation, teacher } }, augmentation);
    },
    scaleOf: () => scale,
  };
}

/** Where runs keep their state. */
export const OUT = 'out/experiments/ofav2';

/** Of the base, with the arm's strides and architecture; a base of other stages than five keeps its own strides. */
export function spaceOf({ architecture, strides }: Pick<Arm, 'architecture' | 'strides'>, base: Space): Space {
  const placement = STRIDES[strides];
  const isPlaced = base.stages.length === placement.length;
  const placed = {
    ...base,
    stages: base.stages.map((stage, s) => ({ ...stage, stride: isPlaced ? (placement[s] as 1 | 2) : stage.stride })),
  };
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

export function resultName(arm: Pick<Arm, 'name'>, seed: number): string {
  return `${arm.name}-${seed}`;
}
