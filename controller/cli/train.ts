// `ofa-fleet train`: one supernet from a folder of images, resumable; its plan comes first.
import { statSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { failed, ok, type Outcome } from '@ofa-fleet/shared/outcome.ts';
import { withArchitecture } from '../architecture.ts';
import { loadSpace, type Space } from '../space.ts';
import { selectBackend } from '../supernet/backend.ts';
import { writeAtomically, writeCheckpoint, type Checkpoint, type TestedSetting } from '../supernet/checkpoint.ts';
import type { Dataset } from '../supernet/data/dataset.ts';
import type { ExitScheme } from '../supernet/training/exit-weights.ts';
import { loadRecipe } from '../supernet/training/load-recipe.ts';
import { planLines } from '../supernet/training/plan.ts';
import { decided, type DistillationLoss, type RecipeTemplate } from '../supernet/training/recipe.ts';
import type { Progress, RunControl } from '../supernet/training/run.ts';
import { readTested, train as trainSupernet } from '../supernet/training/train.ts';
import { EXIT, fail, type Context } from './context.ts';
import { createLiveDisplay, type LiveDisplay } from './live-display.ts';
import { openImages } from './open-images.ts';

export interface TrainCommandOptions {
  readonly preset?: string;
  readonly space?: string;
  readonly arch?: string;
  readonly data: string;
  readonly out: string;
  readonly recipe?: string;
  readonly teacher?: RecipeTemplate['distillation']['teacher'];
  readonly trainedExitsOnly?: boolean;
  readonly distillation?: DistillationLoss;
  readonly exitWeights?: ExitScheme;
  readonly seed: number;
  readonly threads: number;
  readonly scale: number;
}

export async function train(options: TrainCommandOptions, context: Context): Promise<number> {
  if (options.preset !== undefined && options.space !== undefined) {
    context.complain('Give --preset or --space, not both.');
    return EXIT.usage;
  }
  const out = resolve(options.out);
  if (statSync(out, { throwIfNoEntry: false })?.isDirectory() === true) {
    context.complain(
      `--out ${options.out} is a folder, the supernet is one file: give e.g. --out ${join(options.out, 'supernet.safetensors')}.`,
    );
    return EXIT.usage;
  }
  const recipe = recipeFor(options);
  if (!recipe.ok) return fail(context, recipe);
  const named = loadSpace(options.space ?? options.preset ?? 'fashion-tiny');
  if (!named.ok) return fail(context, named);
  const dataset = await openImages(options.data, named.value, context);
  if (!dataset.ok) return fail(context, dataset);
  const space = spaceFor(options, named.value, dataset.value);
  if (!space.ok) return fail(context, space);
  const backend = await selectBackend({ purpose: 'training', threads: options.threads });
  context.print(backend.description);
  const folder = `${out}.run`;
  const display = createLiveDisplay(process.stdout);
  const trained = await trainSupernet({
    space: space.value,
    dataset: dataset.value,
    backend,
    recipe: decided(recipe.value, dataset.value.augmentation),
    seed: options.seed,
    scale: options.scale,
    folder,
    command: asTyped(process.argv.slice(2)),
    onPlan: (plan, secondsPerCost) => {
      display.note(`Space ${space.value.name}, recipe ${recipe.value.name}, ${dataset.value.train.count} training images:`);
      for (const line of planLines(plan, secondsPerCost)) display.note(line);
    },
    ...reportsTo(display),
    signal: context.signal,
  });
  display.end();
  if (!trained.ok) return fail(context, trained);
  if (trained.value === null) {
    context.print(`Stopped; the same command goes on from where it was (${folder}).`);
    return 130;
  }
  const written = writeCheckpoint(out, trained.value);
  if (!written.ok) return fail(context, written);
  const tableFile = `${out.replace(/\.safetensors$/, '')}.uniform.json`;
  const table = readTested(folder);
  const kept = table.ok ? writeAtomically(tableFile, table.value) : table;
  if (!kept.ok) return fail(context, kept);
  for (const line of resultLines(trained.value)) context.print(line);
  context.print(`${tableFile} has the accuracy of every uniform setting.`);
  context.print(`${out} is the supernet; next: ofa-fleet serve --checkpoint ${options.out}`);
  return EXIT.done;
}

/** The preset or file, changed by the flags. */
function recipeFor(options: TrainCommandOptions): Outcome<RecipeTemplate> {
  const short = options.preset === undefined || options.preset === 'fashion-tiny';
  const named = loadRecipe(options.recipe ?? (short ? 'fashion-tiny' : 'ofav2'));
  if (!named.ok) return named;
  const { distillation } = named.value;
  return ok({
    ...named.value,
    distillation: {
      loss: options.distillation ?? distillation.loss,
      exitWeights: options.exitWeights ?? distillation.exitWeights,
      teacher: options.teacher ?? distillation.teacher,
      trainedExitsOnly: options.trainedExitsOnly ?? distillation.trainedExitsOnly,
    },
  });
}

/** The named space in the asked architecture; a preset takes over the number of classes of the images. */
function spaceFor({ arch, space: file }: TrainCommandOptions, named: Space, { name, train: images }: Dataset): Outcome<Space> {
  if (images.channels !== named.inputChannels) {
    const grey = images.channels === 1 ? ' (grey)' : '';
    return failed(
      'INVALID_INPUT',
      `Space ${named.name} takes images of ${named.inputChannels} channels, those of ${name} hold ${images.channels}${grey}: give ${images.channels === 1 ? '--preset fashion-tiny' : 'a preset of coloured images'}, or --space with a file whose inputChannels is ${images.channels} and whose mean and std have ${images.channels} value(s).`,
    );
  }
  const fitted = file === undefined ? { ...named, classes: images.classes } : named;
  return arch === undefined ? ok(fitted) : withArchitecture(fitted, arch);
}

function resultLines({ provenance }: Checkpoint): string[] {
  if (provenance === null) return [];
  const percent = (share: number) => `${(share * 100).toFixed(1)} %`;
  const lines = Object.entries(provenance.accuracy).map(
    ([which, exits]) =>
      `${which}: ${exits.map(({ exit, accuracy }) => `exit ${exit} ${percent(accuracy)}`).join(', ')} of the test images right`,
  );
  const { uniform } = provenance;
  if (uniform === null) return lines;
  lines.push(
    `${uniform.settings} uniform settings on test images: ${percent(uniform.lowest.test)} to ${percent(uniform.highest.test)}, mean ${percent(uniform.meanTest)}`,
    `picked by validation: ${settingText(uniform.picked)}, ${percent(uniform.picked.test)} of the test images right`,
  );
  return lines;
}

function settingText({ resolution, kernel, mask, depth, expand, exit }: TestedSetting): string {
  const genes = [`resolution ${resolution}`, `exit ${exit}`, `depth ${depth}`];
  if (kernel !== null) genes.push(`kernel ${kernel}`);
  if (expand !== null) genes.push(`expand ${expand}`);
  if (mask !== null) genes.push(`mask ${mask}`);
  return genes.join(', ');
}

/** The command as a shell takes it again. */
export function asTyped(args: readonly string[]): string {
  return ['ofa-fleet', ...args].map((arg) => (/^[\w./:=@%+,-]+$/.test(arg) ? arg : `'${arg.replaceAll("'", "'\\''")}'`)).join(' ');
}

/** How a run of training is followed on the terminal: what stays to be read is a note, the rest is overwritten. */
export function reportsTo(display: LiveDisplay): Pick<RunControl, 'onWarning' | 'onProgress'> {
  return {
    onWarning: (sentence) => display.note(sentence),
    onProgress: (progress) => {
      if (progress.validation !== null) display.note(progressLine(progress));
      else display.show([progressLine(progress)]);
    },
  };
}

function progressLine(p: Progress): string {
  const minutes = Math.round(p.etaSeconds / 60);
  const validation = p.validation === null ? '' : `, ${(p.validation * 100).toFixed(2)} % of the validation images right`;
  return `phase ${p.phaseNumber} of ${p.phases} (${p.phase}), step ${p.step} of ${p.steps}: loss ${p.loss.toFixed(3)}, ${p.imagesPerSecond.toFixed(0)} images/s, about ${minutes} min left${validation}`;
}
