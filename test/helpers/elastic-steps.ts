// Training steps of a supernet by the product's own code on random images, with the largest net as the teacher: for tests of the step itself
// and for its benchmark, on the backend in use.
import * as tf from '@tensorflow/tfjs';
import type { Space } from '../../controller/space.ts';
import { isTrained, parametersOf } from '../../controller/supernet/parameters.ts';
import { smoothedTargets } from '../../controller/supernet/training/distill.ts';
import { exitWeights } from '../../controller/supernet/training/exit-weights.ts';
import { initialWeights } from '../../controller/supernet/training/initial-weights.ts';
import { phasesOf, type Phase } from '../../controller/supernet/training/phases.ts';
import { randomStream } from '../../controller/supernet/training/random.ts';
import { RECIPES } from '../../controller/supernet/training/recipes.ts';
import type { Recipe } from '../../controller/supernet/training/recipe.ts';
import { trainStep, type Trainee } from '../../controller/supernet/training/step.ts';
import { toTensors } from '../../controller/supernet/training/tensors.ts';

export interface ElasticSteps {
  readonly trainee: Trainee;
  /** Does the next `number` steps of the last phase, where everything is elastic; the losses of all their subnets. */
  run(number: number): Promise<number[]>;
}

/** `count` images of the space's largest resolution; everything follows from the seed. */
export function startElasticSteps(space: Space, count: number, subnetsPerStep: number, seed = 1): ElasticSteps {
  const parameters = parametersOf(space);
  const recipe = RECIPES['ofav2'] as Recipe;
  const trainee: Trainee = {
    space,
    recipe,
    trained: parameters.filter(isTrained).map(({ name }) => name),
    kinds: new Map(parameters.map(({ name, kind }) => [name, kind])),
    weights: toTensors(initialWeights(space, seed)),
    momenta: new Map<string, tf.Tensor>(),
  };
  const exits = space.exits === 'early' ? space.stages.length : 1;
  const teacher = { weights: toTensors(initialWeights(space, seed)), exitWeights: exitWeights(exits, 'ascending') };
  const phase: Phase = { ...(phasesOf(space, recipe).at(-1) as Phase), subnetsPerStep };
  const resolution = Math.max(...space.resolutions);
  const random = randomStream(seed, 'images');
  const shape: [number, number, number, number] = [count, resolution, resolution, space.inputChannels];
  const x = tf.tensor4d(
    Float32Array.from({ length: shape.reduce((a, b) => a * b) }, () => 2 * random.uniform() - 1),
    shape,
  );
  const labels = Array.from({ length: count }, () => random.integer(0, space.classes - 1));
  const batch = { resolution, x, targets: smoothedTargets(labels, space.classes, recipe.labelSmoothing) };
  let done = 0;
  return {
    trainee,
    async run(number) {
      const losses: number[] = [];
      for (let i = 0; i < number; i++) losses.push(...(await trainStep(trainee, phase, done++, batch, teacher, 0.01, seed)));
      return losses;
    },
  };
}
