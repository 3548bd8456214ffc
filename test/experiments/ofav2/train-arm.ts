// Trains the supernet of one arm from one seed, or goes on where a killed run was; a finished one answers at once.
import { join } from 'node:path';
import { selectBackend } from '../../../controller/supernet/backend.ts';
import type { Checkpoint } from '../../../controller/supernet/checkpoint.ts';
import { pick } from '../../../controller/supernet/data/dataset.ts';
import { openDataset, type OpenedDataset } from '../../../controller/supernet/data/open-dataset.ts';
import type { Recipe } from '../../../controller/supernet/training/recipe.ts';
import { train, type TrainOptions } from '../../../controller/supernet/training/train.ts';
import { value } from '../../helpers/outcome.ts';
import { spaceOf, type Arm, type Setting } from './design.ts';

export interface TrainedArm {
  readonly checkpoint: Checkpoint;
  readonly recipe: Recipe;
  readonly scale: number;
}

export const experimentBackend = () => selectBackend({ purpose: 'training', threads: 1 });

/** The setting's images; decoded into `folder`. */
export async function experimentDataset(setting: Setting, folder: string): Promise<OpenedDataset> {
  const whole = value(await openDataset(setting.data, { cacheDir: join(folder, 'cache'), channels: setting.base.inputChannels }));
  if (setting.trainingImages === null) return whole;
  const first = Array.from({ length: setting.trainingImages }, (_, i) => i);
  return { ...whole, name: `${whole.name} (first ${setting.trainingImages})`, train: pick(whole.train, first) };
}

export async function trainArm(
  setting: Setting,
  arm: Arm,
  seed: number,
  folder: string,
  dataset: OpenedDataset,
  backend: TrainOptions['backend'],
): Promise<TrainedArm> {
  const space = spaceOf(arm, { ...setting.base, classes: dataset.train.classes });
  const recipe = setting.recipeOf(arm, dataset.augmentation);
  const scale = setting.scaleOf(space, recipe);
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
