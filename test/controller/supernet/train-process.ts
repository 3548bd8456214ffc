// Trains the tiny space in a process of its own, so that a test can kill it: `node train-process.ts DATA_FOLDER RUN_FOLDER`.
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
const dataset = loadIdxFolder(dataFolder);
if (!dataset.ok) throw new Error(dataset.message);
const backend = await selectBackend({ purpose: 'training', threads: 1 });
const trained = await train({
  space: TINY,
  recipe,
  dataset: dataset.value,
  backend,
  seed: 5,
  scale: 1,
  folder,
  command: 'test',
  stateEverySteps: 2,
  onProgress: ({ phase, step, steps, loss }) => process.stdout.write(`${phase} ${step}/${steps} ${loss}\n`),
});
if (!trained.ok) throw new Error(trained.message);
