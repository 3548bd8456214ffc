// `ofa-fleet train`: one supernet from a folder of images, resumable.
import { statSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { loadSpace } from '../space.ts';
import { selectBackend } from '../supernet/backend.ts';
import { writeCheckpoint } from '../supernet/checkpoint.ts';
import { IDX_CHANNELS, loadIdxFolder } from '../supernet/data/idx.ts';
import { RECIPES } from '../supernet/training/recipe.ts';
import { train as trainSupernet, type Progress } from '../supernet/training/train.ts';
import { EXIT, fail, type Context } from './context.ts';
import { createLiveDisplay } from './live-display.ts';

export interface TrainCommandOptions {
  readonly preset?: string;
  readonly space?: string;
  readonly data: string;
  readonly out: string;
  readonly recipe: keyof typeof RECIPES;
  readonly seed: number;
  readonly threads: number;
  readonly scale: number;
}

export async function train(options: TrainCommandOptions, context: Context): Promise<number> {
  if (options.preset !== undefined && options.space !== undefined) {
    context.complain('Give --preset or --space, not both.');
    return EXIT.usage;
  }
  const name = options.space ?? options.preset ?? 'fashion-tiny';
  const out = resolve(options.out);
  if (statSync(out, { throwIfNoEntry: false })?.isDirectory() === true) {
    context.complain(
      `--out ${options.out} is a folder, the supernet is one file: give e.g. --out ${join(options.out, 'supernet.safetensors')}.`,
    );
    return EXIT.usage;
  }
  const space = loadSpace(name);
  if (!space.ok) return fail(context, space);
  if (space.value.inputChannels !== IDX_CHANNELS) {
    context.complain(
      `Space ${space.value.name} takes images of ${space.value.inputChannels} channels, IDX files hold ${IDX_CHANNELS} (grey): give --preset fashion-tiny, or --space with a file whose inputChannels is ${IDX_CHANNELS} and whose mean and std have one value.`,
    );
    return EXIT.failed;
  }
  const dataset = loadIdxFolder(options.data);
  if (!dataset.ok) return fail(context, dataset);
  const backend = await selectBackend({ purpose: 'training', threads: options.threads });
  context.print(backend.description);
  const folder = `${out}.run`;
  const display = createLiveDisplay(process.stdout);
  const trained = await trainSupernet({
    space: space.value,
    dataset: dataset.value,
    backend,
    recipe: RECIPES[options.recipe],
    seed: options.seed,
    scale: options.scale,
    folder,
    command: asTyped(process.argv.slice(2)),
    onProgress: (progress) => {
      if (progress.validation !== null) display.note(progressLine(progress));
      else display.show([progressLine(progress)]);
    },
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
  const accuracies = trained.value.provenance?.accuracy;
  for (const [which, exits] of Object.entries(accuracies ?? {})) {
    context.print(
      `${which}: ${exits.map(({ exit, accuracy }) => `exit ${exit} ${(accuracy * 100).toFixed(1)} %`).join(', ')} of the test images right`,
    );
  }
  context.print(`${out} is the supernet; next: ofa-fleet serve --checkpoint ${options.out}`);
  return EXIT.done;
}

/** The command as a shell takes it again. */
function asTyped(args: readonly string[]): string {
  return ['ofa-fleet', ...args].map((arg) => (/^[\w./:=@%+,-]+$/.test(arg) ? arg : `'${arg.replaceAll("'", "'\\''")}'`)).join(' ');
}

function progressLine(p: Progress): string {
  const minutes = Math.round(p.etaSeconds / 60);
  const validation = p.validation === null ? '' : `, ${(p.validation * 100).toFixed(2)} % of the validation images right`;
  return `phase ${p.phaseNumber} of ${p.phases} (${p.phase}), step ${p.step} of ${p.steps}: loss ${p.loss.toFixed(3)}, ${p.imagesPerSecond.toFixed(0)} images/s, about ${minutes} min left${validation}`;
}
