// Trains a supernet from nothing to the last phase of its recipe, tests it, and leaves it with its provenance.
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { failed, ok, type Outcome } from '@ofa-fleet/shared/outcome.ts';
import type { Space } from '../../space.ts';
import { largestSubnet, type Subnet } from '../../subnet.ts';
import type { Backend } from '../backend.ts';
import { weightsHash, writeAtomically, writeCheckpoint, type Checkpoint, type Provenance, type TestedSetting } from '../checkpoint.ts';
import type { Dataset } from '../data/dataset.ts';
import type { Weights } from '../elastic.ts';
import { isTrained, parametersOf } from '../parameters.ts';
import { summaryOf, testTrunksOf } from './final-test.ts';
import { initialWeights } from './initial-weights.ts';
import { machineHere } from './machine-here.ts';
import { misfitOf } from './misfit.ts';
import { allChoices, phasesOf } from './phases.ts';
import { planOf } from './plan.ts';
import { dataProvenance } from './provenance.ts';
import { randomStream } from './random.ts';
import type { Recipe } from './recipe.ts';
import { runPhases, type RunControl } from './run.ts';
import { createScorer, scoreAt, type Scorer } from './scorer.ts';
import { TEACHER_MODE } from './teacher.ts';
import { dispose, toTensors } from './tensors.ts';
import { smallestTrunk, testTrunks } from './uniform-settings.ts';

export interface TrainOptions extends Omit<RunControl, 'machine'> {
  readonly space: Space;
  readonly recipe: Recipe;
  readonly dataset: Dataset;
  /** As `selectBackend` gave it; already selected in this process. */
  readonly backend: Backend;
  readonly seed: number;
  /** Multiplies the length of every phase; 1 = the recipe's own. */
  readonly scale: number;
  /** What the user typed, for the provenance. */
  readonly command: string;
}

/** Beside the supernet in the run's folder: every uniform setting with its accuracies. */
const TESTED_FILE = 'uniform.json';

/** The trained supernet, also in `folder`/supernet.safetensors; null where `signal` ended the run early. */
export async function train(options: TrainOptions): Promise<Outcome<Checkpoint | null>> {
  const { space, recipe, dataset, backend, seed, scale, folder, signal } = options;
  const misfit = misfitOf(space, recipe, dataset);
  if (misfit !== null) return failed('INVALID_INPUT', misfit);
  const phases = phasesOf(space, recipe);
  const tested = testTrunks(space, recipe.test.settings, randomStream(seed, 'test'));
  const score = createScorer(space, recipe, dataset, signal);
  const finished = await runPhases(
    {
      space,
      recipe,
      phases,
      dataset,
      seed,
      plan: planOf({ space, recipe, phases, seed, scale }, dataset, tested),
      score,
      initial: () => initialWeights(space, seed),
      trained: parametersOf(space)
        .filter(isTrained)
        .map(({ name }) => name),
      settings: { space, recipe, data: dataset.sha256, seed, scale },
    },
    { ...options, machine: machineHere(backend) },
  );
  if (!finished.ok || finished.value === null) return finished.ok ? ok(null) : finished;

  const { weights: tensors, position } = finished.value;
  const weights = toTensors(tensors);
  const images = { validation: recipe.validation.images, test: recipe.test.images };
  const settings = await testTrunksOf(weights, weightsHash({ tensors }), space, tested, images, score, folder);
  if (!settings.ok || settings.value === null) return settings.ok ? ok(null) : settings; // the last state leads here again
  const largest = await exitsOf(weights, largestSubnet(space), options, score);
  const smallest = largest === null ? null : await exitsOf(weights, smallestTrunk(space), options, score);
  dispose(weights);
  if (largest === null || smallest === null) return ok(null);
  const provenance = provenanceOf(options, position, { largest, smallest }, settings.value);
  const checkpoint: Checkpoint = { space, tensors, recipe, provenance };
  const table = { images, settings: settings.value };
  const kept = writeAtomically(join(folder, TESTED_FILE), new TextEncoder().encode(JSON.stringify(table, null, 1)));
  if (!kept.ok) return kept;
  const written = writeCheckpoint(join(folder, 'supernet.safetensors'), checkpoint);
  return written.ok ? ok(checkpoint) : written;
}

/** The bytes of the table that a finished run left in its folder. */
export function readTested(folder: string): Outcome<Uint8Array> {
  const file = join(folder, TESTED_FILE);
  if (!existsSync(file)) return failed('NOT_FOUND', `${file} is missing; train again, which only takes the final test.`);
  return ok(readFileSync(file));
}

/** Every exit of a net on all test images; null where the scorer was aborted. */
async function exitsOf(
  weights: Weights,
  subnet: Subnet,
  { space, dataset }: TrainOptions,
  score: Scorer,
): Promise<Provenance['accuracy']['largest'] | null> {
  const scores = (await score(weights, subnet, [{ of: 'test', images: dataset.test.count }]))?.[0];
  if (scores === undefined) return null;
  return allChoices(space).heights.map((exit) => ({ exit, resolution: subnet.resolution, accuracy: scoreAt(space, scores, exit) }));
}

function provenanceOf(
  { recipe, dataset, backend, seed, scale, command }: TrainOptions,
  { startedAt, trainingSeconds, machines }: Pick<Provenance, 'startedAt' | 'trainingSeconds' | 'machines'>,
  accuracy: Provenance['accuracy'],
  settings: readonly TestedSetting[],
): Provenance {
  return {
    command,
    seed,
    scale,
    data: dataProvenance(dataset),
    backend: backend.name,
    threads: backend.threads,
    cpu: machineHere(backend).cpu,
    node: process.version,
    startedAt,
    finishedAt: new Date().toISOString(),
    trainingSeconds: Math.round(trainingSeconds),
    machines,
    teacher: 'sandwich' in recipe.phases ? "the largest net's own answer, with dropout, as a constant" : TEACHER_MODE,
    accuracy,
    uniform: summaryOf(settings),
    finetuned: null,
  };
}
