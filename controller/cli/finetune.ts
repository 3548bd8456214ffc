// `ofa-fleet finetune`: one subnet of a supernet, trained on; resumable.
import { join, resolve } from 'node:path';
import { ok } from '@ofa-fleet/shared/outcome.ts';
import { selectBackend } from '../supernet/backend.ts';
import { readCheckpoint, writeAtomically, writeCheckpoint } from '../supernet/checkpoint.ts';
import { finetune as finetuneSubnet } from '../supernet/training/finetune.ts';
import { loadRecipe } from '../supernet/training/load-recipe.ts';
import { planLines } from '../supernet/training/plan.ts';
import { decided } from '../supernet/training/recipe.ts';
import { recipeOf } from '../supernet/training/recipe-of.ts';
import { EXIT, fail, type Context } from './context.ts';
import { createLiveDisplay } from './live-display.ts';
import { openImages } from './open-images.ts';
import { subnetNamed } from './subnet-file.ts';
import { asTyped, reportsTo } from './train.ts';

export interface FinetuneCommandOptions {
  readonly subnet: string;
  readonly data: string;
  readonly epochs: number;
  readonly out: string;
  readonly rate: number;
  readonly batch?: number;
  readonly recipe?: string;
  readonly seed: number;
  readonly threads: number;
}

export async function finetune(checkpointPath: string, options: FinetuneCommandOptions, context: Context): Promise<number> {
  const checkpoint = readCheckpoint(checkpointPath);
  if (!checkpoint.ok) return fail(context, checkpoint);
  const named = subnetNamed(checkpoint.value.space, options.subnet, null);
  if (!named.ok) return fail(context, named);
  const recipe = options.recipe === undefined ? ok(recipeOf(checkpoint.value)) : loadRecipe(options.recipe);
  if (!recipe.ok) return fail(context, recipe);
  const dataset = await openImages(options.data, checkpoint.value.space, context);
  if (!dataset.ok) return fail(context, dataset);
  const backend = await selectBackend({ purpose: 'training', threads: options.threads });
  context.print(backend.description);
  for (const note of named.value.notes) context.print(note);
  const out = resolve(options.out);
  const display = createLiveDisplay(process.stdout);
  const tuned = await finetuneSubnet({
    checkpoint: checkpoint.value,
    subnet: named.value.subnet,
    recipe: { ...decided(recipe.value, dataset.value.augmentation), batch: options.batch ?? recipe.value.batch },
    dataset: dataset.value,
    backend,
    seed: options.seed,
    epochs: options.epochs,
    rate: options.rate,
    folder: join(out, 'run'),
    command: asTyped(process.argv.slice(2)),
    onPlan: (plan, secondsPerCost) => {
      for (const line of planLines(plan, secondsPerCost)) display.note(line);
    },
    ...reportsTo(display),
    signal: context.signal,
  });
  display.end();
  if (!tuned.ok) return fail(context, tuned);
  if (tuned.value === null) {
    context.print(`Stopped; the same command goes on from where it was (${join(out, 'run')}).`);
    return 130;
  }
  const weightsFile = join(out, 'finetuned.safetensors');
  const subnetFile = join(out, 'subnet.json');
  const written = writeCheckpoint(weightsFile, tuned.value.checkpoint);
  if (!written.ok) return fail(context, written);
  const kept = writeAtomically(subnetFile, new TextEncoder().encode(JSON.stringify(named.value.subnet, null, 1)));
  if (!kept.ok) return fail(context, kept);
  const percent = (share: number) => `${(share * 100).toFixed(2)} %`;
  for (const part of ['validation', 'test'] as const) {
    const { before, after } = tuned.value[part];
    context.print(`${part} images: ${percent(before)} right before, ${percent(after)} after.`);
  }
  if (tuned.value.validation.after < tuned.value.validation.before) {
    context.print('It got worse on validation: keep the supernet, or try a smaller --rate.');
  }
  context.print(
    `${weightsFile} holds the weights of this subnet; next: ofa-fleet export ${weightsFile} --subnet ${subnetFile} --out ${join(out, 'onnx')}`,
  );
  return EXIT.done;
}
