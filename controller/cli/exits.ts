// `ofa-fleet exits`: what the exits of one net are worth together.
import { failed } from '@ofa-fleet/shared/outcome.ts';
import { readCheckpoint, writeAtomically } from '../supernet/checkpoint.ts';
import { exitLogits, pickExitSubset, scoreExitSubsets, type ExitSubset } from '../supernet/exit-ensembles.ts';
import { selectBackend } from '../supernet/backend.ts';
import { calibrationViews } from '../supernet/training/batches.ts';
import { exitWeights, type ExitScheme } from '../supernet/training/exit-weights.ts';
import { misfitOf } from '../supernet/training/misfit.ts';
import { decided } from '../supernet/training/recipe.ts';
import { recipeOf } from '../supernet/training/recipe-of.ts';
import { calibratedStatistics, disposeStatistics } from '../supernet/training/score.ts';
import { dispose, toTensors } from '../supernet/training/tensors.ts';
import { refuseUntuned } from '../supernet/tuned-for.ts';
import { EXIT, fail, type Context } from './context.ts';
import { openImages } from './open-images.ts';
import { subnetNamed } from './subnet-file.ts';

export interface ExitsOptions {
  readonly subnet: string;
  readonly data: string;
  readonly exitWeights: ExitScheme;
  readonly validationImages?: number;
  readonly testImages?: number;
  readonly json?: string;
  readonly threads: number;
}

export async function exits(checkpointPath: string, options: ExitsOptions, context: Context): Promise<number> {
  const checkpoint = readCheckpoint(checkpointPath);
  if (!checkpoint.ok) return fail(context, checkpoint);
  const { space, tensors } = checkpoint.value;
  if (space.exits === 'single') {
    context.complain(`Space ${space.name} has one exit only: give a supernet with early exits, e.g. one of --arch EE_D.`);
    return EXIT.failed;
  }
  const named = subnetNamed(space, options.subnet, null);
  if (!named.ok) return fail(context, named);
  const { subnet, notes } = named.value;
  const tuned = refuseUntuned(checkpoint.value, subnet);
  if (!tuned.ok) return fail(context, tuned);
  const dataset = await openImages(options.data, space, context);
  if (!dataset.ok) return fail(context, dataset);
  const recipe = decided(recipeOf(checkpoint.value), dataset.value.augmentation);
  const misfit = misfitOf(space, recipe, dataset.value);
  if (misfit !== null) return fail(context, failed('INVALID_INPUT', misfit));
  context.print((await selectBackend({ purpose: 'inference', threads: options.threads })).description);
  for (const note of notes) context.print(note);
  const { train, validation, test } = dataset.value;
  const weights = toTensors(tensors);
  const statistics = await calibratedStatistics(weights, space, subnet, train, calibrationViews(recipe, train), context.signal);
  if (statistics === null) return 130;
  const shares = exitWeights(subnet.stages.length, options.exitWeights);
  const tables: ExitSubset[][] = [];
  for (const [set, count] of [
    [validation, options.validationImages ?? validation.count],
    [test, options.testImages ?? test.count],
  ] as const) {
    const images = { set, count, evaluation: recipe.evaluation };
    const logits = await exitLogits(weights, space, subnet, statistics, images, context.signal);
    if (logits === null) return 130;
    tables.push(scoreExitSubsets(logits, shares));
  }
  disposeStatistics(statistics);
  dispose(weights);
  const [onValidation, onTest] = tables as [ExitSubset[], ExitSubset[]];
  const picked = pickExitSubset(onValidation);
  const percent = (share: number | undefined) => `${((share ?? 0) * 100).toFixed(2)} %`.padStart(10);
  const testOf = ({ exits: kept }: ExitSubset) => onTest.find((row) => row.exits.join() === kept.join())?.accuracy;
  const width = Math.max('exits'.length, subnet.stages.length * 2 - 1);
  context.print(`${'exits'.padEnd(width)}  validation        test`);
  for (const row of onValidation) {
    const mark = row === picked ? '  <- picked by validation' : '';
    context.print(`${row.exits.join('+').padEnd(width)}  ${percent(row.accuracy)}  ${percent(testOf(row))}${mark}`);
  }
  const last = picked.exits[picked.exits.length - 1] as number;
  context.print(
    `Exits ${picked.exits.join(' + ')}, weights ${picked.weights.map((w) => w.toFixed(2)).join(', ')}: ${percent(testOf(picked)).trim()} of the test images; the net can end after stage ${last} of ${subnet.stages.length}.`,
  );
  if (options.json !== undefined) {
    const rows = onValidation.map((row) => ({ exits: row.exits, weights: row.weights, validation: row.accuracy, test: testOf(row) }));
    const text = JSON.stringify({ subnet, scheme: options.exitWeights, picked: picked.exits, rows }, null, 1);
    const written = writeAtomically(options.json, new TextEncoder().encode(text));
    if (!written.ok) return fail(context, written);
  }
  return EXIT.done;
}
