// One run in a process of its own: `one-run.ts inherited SEED FOLDER` scores every subnet in the supernet of that seed;
// `one-run.ts scratch SEED INDEX FOLDER` trains one from random weights. Leaves result.json in the folder; killed, it goes on where it was.
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { finetune } from '../../../controller/supernet/training/finetune.ts';
import { initialWeights } from '../../../controller/supernet/training/initial-weights.ts';
import { createScorer, scoreAt } from '../../../controller/supernet/training/scorer.ts';
import { dispose, toTensors } from '../../../controller/supernet/training/tensors.ts';
import type { Subnet } from '../../../controller/subnet.ts';
import { value } from '../../helpers/outcome.ts';
import { FASHION, OUT as SUPERNETS, resultName } from '../ofav2/design.ts';
import { experimentBackend, experimentDataset, trainArm } from '../ofav2/train-arm.ts';
import { ARM, EPOCHS, RATE, SPACE, SUBNETS } from './design.ts';
import { RESULT_FILE, type Inherited, type Scratch } from './results.ts';

const [what, seedText, ...rest] = process.argv.slice(2);
const seed = Number(seedText);
const folder = rest.at(-1);
const subnet = what === 'scratch' ? SUBNETS[Number(rest[0])] : undefined;
if (!Number.isInteger(seed) || folder === undefined || (what === 'scratch' ? rest.length !== 2 || subnet === undefined : what !== 'inherited' || rest.length !== 1)) {
  process.stderr.write(`Usage: one-run.ts inherited SEED FOLDER, or one-run.ts scratch SEED INDEX FOLDER; index 0 to ${SUBNETS.length - 1}.\n`);
  process.exit(2);
} // prettier-ignore
const backend = await experimentBackend();
const result = subnet === undefined ? await inherited() : await fromScratch(subnet, folder);
writeFileSync(join(folder, RESULT_FILE), `${JSON.stringify(result, null, 1)}\n`);

async function inherited(): Promise<Inherited> {
  const arm = join(SUPERNETS, resultName(ARM, seed));
  const dataset = await experimentDataset(FASHION, arm);
  const { checkpoint, recipe } = await trainArm(FASHION, ARM, seed, arm, dataset, backend);
  const score = createScorer(SPACE, recipe, dataset, undefined);
  const weights = toTensors(checkpoint.tensors);
  const accuracies: number[] = [];
  for (const one of SUBNETS) {
    const scores = (await score(weights, one, [{ of: 'test', images: dataset.test.count }]))?.[0];
    if (scores === undefined) throw new Error('a score was aborted');
    accuracies.push(scoreAt(SPACE, scores, one.stages.length));
  }
  dispose(weights);
  return { kind: 'inherited', seed, accuracies, images: dataset.test.count };
}

async function fromScratch(one: Subnet, into: string): Promise<Scratch> {
  const dataset = await experimentDataset(FASHION, into);
  const recipe = FASHION.recipeOf(ARM, dataset.augmentation);
  const trained = value(
    await finetune({
      checkpoint: { space: SPACE, tensors: initialWeights(SPACE, seed), recipe: null, provenance: null },
      subnet: one,
      recipe: { ...recipe, test: { ...recipe.test, images: dataset.test.count } },
      dataset,
      backend,
      seed,
      epochs: EPOCHS,
      rate: RATE,
      folder: into,
      command: `npm run experiment:ranking (seed ${seed})`,
    }),
  );
  if (trained === null) throw new Error('the run ended early');
  const { provenance } = trained.checkpoint;
  return { kind: 'scratch', seed, index: SUBNETS.indexOf(one), accuracy: trained.test.after, images: dataset.test.count, trainingSeconds: provenance?.trainingSeconds ?? 0 }; // prettier-ignore
}
