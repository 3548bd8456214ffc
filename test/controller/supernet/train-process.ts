// Trains the tiny space in a process of its own, that ends itself with kill -9 where a test wants it, before the line
// of progress that starts with KILL_AT is acted on: `node train-process.ts DATA_FOLDER RUN_FOLDER [KILL_AT]`.
import type { Space } from '../../../controller/space.ts';
import { selectBackend } from '../../../controller/supernet/backend.ts';
import { loadIdxFolder } from '../../../controller/supernet/data/idx.ts';
import type { Recipe } from '../../../controller/supernet/training/recipe.ts';
import { RECIPES } from '../../../controller/supernet/training/recipes.ts';
import { train } from '../../../controller/supernet/training/train.ts';
import { TINY } from './tiny.ts';

const [dataFolder = '', folder = '', killAt] = process.argv.slice(2);
const SHORT = RECIPES['fashion-tiny'] as Recipe;
const PHASES = SHORT.phases as Extract<Recipe['phases'], { full: unknown }>;
const recipe: Recipe = {
  ...SHORT,
  name: 'tiny',
  batch: 8,
  phases: { ...PHASES, depth: { ...PHASES.depth, epochs: [1, 1] } },
  validation: { ...SHORT.validation, subnets: 2, images: 8, calibrationImages: 8 },
  test: { settings: 8, images: 24 },
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
  onProgress: ({ phase, step, steps, loss }) => {
    const line = `${phase} ${step}/${steps} ${loss}`;
    process.stdout.write(`${line}\n`);
    if (killAt !== undefined && line.startsWith(killAt)) process.kill(process.pid, 'SIGKILL');
  },
});
if (!trained.ok) throw new Error(trained.message);
