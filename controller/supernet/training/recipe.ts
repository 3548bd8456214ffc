// How a supernet is trained, as data: how long and how hard each phase, which losses, which teacher, how it is scored. A recipe is a
// preset or a JSON file; whatever is wrong with one is said all at once.
import { z } from 'zod';
import { failed, ok, type Outcome } from '@ofa-fleet/shared/outcome.ts';
import { augmentationSchema, evaluationFor, evaluationSchema, type Augmentation, type Evaluation } from '../data/augmentation.ts';
import { EXIT_SCHEMES } from './exit-weights.ts';

/** `ce`: cross entropy to the softmax of the teacher's logits, without temperature; `mse`: mean squared error of logits. */
export const DISTILLATION_LOSSES = ['ce', 'mse'] as const;
export type DistillationLoss = (typeof DISTILLATION_LOSSES)[number];

const phaseSettingsSchema = z.strictObject({
  /** Of each step of the phase kind (height 1, height 2, ...). Where a space has fewer steps, the last ones count; where it has more, the first is repeated. */
  epochs: z.array(z.number().positive()).min(1),
  /** Epochs at constant rate before those of the cosine, per step. */
  warmUpEpochs: z.array(z.number().min(0)).min(1),
  /** Learning rate at the start of the cosine, per step. */
  rates: z.array(z.number().positive()).min(1),
  /** Subnets whose gradients are summed in one step; the full phase trains the largest net alone. */
  subnetsPerStep: z.int().min(1).max(32),
  /** Share of features dropped before the classifier. */
  dropout: z.number().min(0).lt(1),
});

const recipeSchema = z.strictObject({
  name: z.string().min(1),
  batch: z.int().min(2),
  momentum: z.number().min(0).lt(1),
  weightDecay: z.number().min(0),
  /** Whether weight decay also pulls at the matrices that turn large kernels into small ones, as the published code does. */
  decayKernelMatrices: z.boolean(),
  labelSmoothing: z.number().min(0).lt(1),
  distillation: z.strictObject({
    loss: z.enum(DISTILLATION_LOSSES),
    /** Of the joint loss and of the teacher's ensemble. */
    exitWeights: z.enum(EXIT_SCHEMES),
    /** `pet`: the largest net as the previous phase left it (progressively extracted teacher); `fixed`: as the full phase left it. */
    teacher: z.enum(['pet', 'fixed']),
    /** A progressively extracted teacher answers only by exits that the phase before trained too; the others' weights go to those. */
    trainedExitsOnly: z.boolean(),
  }),
  phases: z.union([
    z.strictObject({
      full: phaseSettingsSchema,
      kernel: phaseSettingsSchema,
      /** Parallel blocks only. */
      level: phaseSettingsSchema,
      /** Early exits only. */
      height: phaseSettingsSchema,
      depth: phaseSettingsSchema,
      width: phaseSettingsSchema,
    }),
    /** One phase: every step trains the largest net, the smallest and random ones between; these learn from the largest one's logits. */
    z.strictObject({ sandwich: phaseSettingsSchema }),
  ]),
  /** What happens to a training image, also to those that recalibrate batch norms; null: what suits the images. */
  augmentation: augmentationSchema.nullable(),
  /** How an image is looked at when a net is scored; null: what goes with the augmentation. */
  evaluation: evaluationSchema.nullable(),
  validation: z.strictObject({
    /** Subnets scored after each epoch and at the end of a phase, at most. */
    subnets: z.int().min(2),
    images: z.int().min(1),
    /** Training images over which batch norms are recalibrated before scoring. */
    calibrationImages: z.int().min(1),
    /** A long phase is scored so many times at most, evenly spread, not after each of its epochs. */
    timesPerPhase: z.int().min(1),
  }),
  test: z.strictObject({
    /** Uniform settings scored at the end, at most. */
    settings: z.int().min(2),
    images: z.int().min(1),
  }),
});

export type PhaseSettings = Readonly<z.infer<typeof phaseSettingsSchema>>;
/** As it is written down: what suits some images may be left open. */
export type RecipeTemplate = Readonly<z.infer<typeof recipeSchema>>;
/** As it is trained by. */
export type Recipe = RecipeTemplate & { readonly augmentation: Augmentation; readonly evaluation: Evaluation };

/** With everything decided; `augmentation` suits the images. */
export function decided(recipe: RecipeTemplate, augmentation: Augmentation): Recipe {
  const own = recipe.augmentation ?? augmentation;
  return { ...recipe, augmentation: own, evaluation: recipe.evaluation ?? evaluationFor(own) };
}

/** Parses an untrusted value; the message lists every mistake at once. */
export function parseRecipe(value: unknown, origin: string): Outcome<RecipeTemplate> {
  const parsed = recipeSchema.safeParse(value);
  if (parsed.success) return ok(parsed.data);
  return failed('INVALID_INPUT', `${origin} is not a recipe: ${parsed.error.issues.flatMap((issue) => mistakesOf(issue)).join('; ')}.`);
}

/** A union that nothing fits is explained by the form with the fewest mistakes. */
function mistakesOf(issue: z.core.$ZodIssue, path: readonly PropertyKey[] = []): string[] {
  const at = [...path, ...issue.path];
  if (issue.code === 'invalid_union' && issue.errors.length > 0) {
    const forms = issue.errors.map((issues) => issues.flatMap((inner) => mistakesOf(inner, at)));
    return forms.reduce((least, form) => (form.length < least.length ? form : least));
  }
  return [`${at.join('.') || '(whole)'}: ${issue.message}`];
}
