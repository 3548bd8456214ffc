// One run of the experiment in a process of its own: `one-run.ts [options] ARM SEED FOLDER`. Trains, then tests the best weights of every phase, and
// writes one result file. Killed, it goes on where it was.
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { phasesOf, type Phase } from '../../../controller/supernet/training/phases.ts';
import { randomStream } from '../../../controller/supernet/training/random.ts';
import type { Recipe } from '../../../controller/supernet/training/recipe.ts';
import { readBest } from '../../../controller/supernet/training/run-state.ts';
import { createScorer, scoreAt, type Scorer } from '../../../controller/supernet/training/scorer.ts';
import { dispose, toTensors } from '../../../controller/supernet/training/tensors.ts';
import { readTested } from '../../../controller/supernet/training/train.ts';
import { trunksOf, validationSubnets } from '../../../controller/supernet/training/uniform-settings.ts';
import type { Space } from '../../../controller/space.ts';
import { SETTING_OPTIONS, settingOf } from './arguments.ts';
import { ARMS, resultName } from './design.ts';
import { experimentBackend, experimentDataset, trainArm } from './train-arm.ts';
import { value } from '../../helpers/outcome.ts';
import type { PhaseResult, RunResult } from './results.ts';

const { values, positionals } = parseArgs({ options: SETTING_OPTIONS, allowPositionals: true });
const [armName, seedText, folder = ''] = positionals;
const arm = ARMS.find(({ name }) => name === armName);
const seed = Number(seedText);
if (arm === undefined || !Number.isInteger(seed) || folder === '') {
  process.stderr.write(`Usage: one-run.ts ARM SEED FOLDER; arms: ${ARMS.map(({ name }) => name).join(', ')}.\n`);
  process.exit(2);
}
const setting = settingOf(values);
const dataset = await experimentDataset(setting, folder);
const { checkpoint, recipe, scale } = await trainArm(setting, arm, seed, folder, dataset, await experimentBackend());
const { space, provenance: trained } = checkpoint;
if (trained?.uniform == null) throw new Error('the run ended without a test');
const score = createScorer(space, recipe, dataset, undefined);
const phases: PhaseResult[] = [];
for (const [index, phase] of phasesOf(space, recipe).entries()) phases.push(await phaseResult(index, phase, space, recipe, score));
const { settings } = JSON.parse(Buffer.from(value(readTested(folder))).toString()) as Pick<RunResult, 'settings'>;
const { uniform, trainingSeconds, backend: name, cpu, node, finishedAt } = trained;
const result: RunResult = { arm: arm.name, seed, scale, phases, uniform, settings, provenance: { trainingSeconds, backend: name, cpu, node, finishedAt, data: dataset.sha256, trainingImages: dataset.train.count, testImages: Math.min(recipe.test.images, dataset.test.count) } }; // prettier-ignore
writeFileSync(join(values.results, `${resultName(arm, seed)}.json`), `${JSON.stringify(result, null, 1)}\n`);

/** What a phase's best weights are worth: of its uniform settings the one that validation picks, and, as published, the best on test images. */
async function phaseResult(index: number, phase: Phase, space: Space, recipe: Recipe, score: Scorer): Promise<PhaseResult> {
  const weights = toTensors(value(readBest(folder, index, phase.name)));
  const settings: { validation: number; test: number }[] = [];
  const subnets = validationSubnets(space, phase, setting.phaseSettings, randomStream(seed, 'phase-test', phase.name));
  for (const { subnet, heights } of trunksOf(subnets)) {
    const scores = await score(weights, subnet, [
      { of: 'validation', images: recipe.validation.images },
      { of: 'test', images: recipe.test.images },
    ]);
    const [validation, test] = scores ?? [];
    if (validation === undefined || test === undefined) throw new Error('a score was aborted');
    if (phase.kind === 'full') settings.push({ validation: validation.ensemble, test: test.ensemble });
    else
      settings.push(...heights.map((height) => ({ validation: scoreAt(space, validation, height), test: scoreAt(space, test, height) })));
  }
  dispose(weights);
  const picked = settings.reduce((best, one) => (one.validation > best.validation ? one : best));
  const tests = settings.map(({ test }) => test);
  return { phase: phase.name, kind: phase.kind, settings: settings.length, picked: picked.test, best: Math.max(...tests), mean: tests.reduce((sum, x) => sum + x, 0) / tests.length }; // prettier-ignore
}
