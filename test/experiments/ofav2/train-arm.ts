// Trains the supernet of one arm from one seed, or goes on where a killed run was; a finished one answers at once.
import { join } from 'node:path';
import { selectBackend } from '../../../controller/supernet/backend.ts';
import type { Checkpoint } from '../../../controller/supernet/checkpoint.ts';
import { pick, type Dataset } from '../../../controller/supernet/data/dataset.ts';
import { DEBIAN_FASHION_MNIST } from '../../../controller/supernet/data/idx.ts';
import { openDataset } from '../../../controller/supernet/data/open-dataset.ts';
import type { Recipe } from '../../../controller/supernet/training/recipe.ts';
import { train, type TrainOptions } from '../../../controller/supernet/training/train.ts';
import { value } from '../../helpers/outcome.ts';
import { recipeOf, scaleOf, spaceOf, TRAINING_IMAGES, type Arm } from './design.ts';

export interface TrainedArm {
  readonly checkpoint: Checkpoint;
  readonly recipe: Recipe;
  readonly scale: number;
}

export const experimentBackend = () => selectBackend({ purpose: 'training', threads: 1 });

/** Fashion-MNIST with the first TRAINING_IMAGES of its training images; decoded into `folder`. */
export async function experimentDataset(folder: string): Promise<Dataset> {
  const whole = value(await openDataset(DEBIAN_FASHION_MNIST, { cacheDir: join(folder, 'cache'), channels: 1 }));
  return {
    ...whole,
    name: `${whole.name} (first ${TRAINING_IMAGES})`,
    train: pick(
      whole.train,
      Array.from({ length: TRAINING_IMAGES }, (_, i) => i),
    ),
  };
}

export async function trainArm(
  arm: Arm,
  seed: number,
  folder: string,
  dataset: Dataset,
  backend: TrainOptions['backend'],
): Promise<TrainedArm> {
  const space = spaceOf(arm);
  const recipe = recipeOf(arm);
  const scale = scaleOf(space, recipe);
  const checkpoint = value(
    await train({
      space,
      recipe,
      dataset,
      backend,
      seed,
      scale,
      folder,
      command: `npm run experiment:ofav2 (arm ${arm.name}, seed ${seed})`,
      onProgress: ({ phase, step, steps, loss, imagesPerSecond, validation, etaSeconds }) => {
        if (validation === null) return;
        const figures = `loss ${loss.toFixed(3)} ${imagesPerSecond.toFixed(0)} images/s validation ${(100 * validation).toFixed(1)} %`;
        process.stdout.write(`${phase} ${step}/${steps} ${figures}, ${Math.round(etaSeconds)} s left\n`);
      },
    }),
  );
  if (checkpoint === null) throw new Error('the run ended without a supernet');
  return { checkpoint, recipe, scale };
}
