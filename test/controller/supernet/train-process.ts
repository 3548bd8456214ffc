// Trains the tiny space in a process of its own, so that a test can kill it: `node train-process.ts DATA_FOLDER RUN_FOLDER`.
import type { Space } from '../../../controller/space.ts';
import { selectBackend } from '../../../controller/supernet/backend.ts';
import { loadIdxFolder } from '../../../controller/supernet/data/idx.ts';
import { RECIPES, type Recipe } from '../../../controller/supernet/training/recipe.ts';
import { train } from '../../../controller/supernet/training/train.ts';
import { TINY } from './tiny.ts';

const [dataFolder = '', folder = ''] = process.argv.slice(2);
const recipe: Recipe = {
  ...RECIPES.short,
  name: 'tiny',
  batch: 8,
  validation: { subnets: 2, images: 8, calibrationImages: 8 },
};
/** Each axis keeps two values: every kind of phase, in a few seconds even without the native backend. */
const space: Space = { ...TINY, kernels: [3, 5], expands: [2, 3], depths: [1, 2], resolutions: [6, 8] };
const dataset = loadIdxFolder(dataFolder);
if (!dataset.ok) throw new Error(dataset.message);
const backend = await selectBackend({ purpose: 'training', threads: 1 });
const trained = await train({
  space,
  recipe,
  dataset: dataset.value,
  backend,
  seed: 5,
  scale: 0.5,
  folder,
  command: 'test',
  stateEverySteps: 2,
  onProgress: ({ phase, step, steps, loss }) => process.stdout.write(`${phase} ${step}/${steps} ${loss}\n`),
});
if (!trained.ok) throw new Error(trained.message);
