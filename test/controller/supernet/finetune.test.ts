import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type * as tf from '@tensorflow/tfjs';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { withArchitecture } from '../../../controller/architecture.ts';
import { selectBackend, type Backend } from '../../../controller/supernet/backend.ts';
import { readCheckpoint, weightsHash, type Checkpoint } from '../../../controller/supernet/checkpoint.ts';
import { forward } from '../../../controller/supernet/supernet.ts';
import { finetune, withBakedKernels, type FinetuneOptions } from '../../../controller/supernet/training/finetune.ts';
import { allChoices, drawSubnet } from '../../../controller/supernet/training/phases.ts';
import { randomStream } from '../../../controller/supernet/training/random.ts';
import type { Recipe } from '../../../controller/supernet/training/recipe.ts';
import { RECIPES } from '../../../controller/supernet/training/recipes.ts';
import { madeDataset } from '../../helpers/made-dataset.ts';
import { value } from '../../helpers/outcome.ts';
import { randomInput, randomTensors, TINY, toWeights } from './tiny.ts';

let backend: Backend;
let folder: string;
beforeAll(async () => {
  backend = await selectBackend({ purpose: 'training', only: 'cpu' });
  folder = mkdtempSync(join(tmpdir(), 'finetune-'));
});
afterAll(() => rmSync(folder, { recursive: true }));

const RECIPE: Recipe = {
  ...(RECIPES['fashion-tiny'] as Recipe),
  batch: 8,
  validation: { subnets: 2, images: 24, calibrationImages: 16, timesPerPhase: 9 },
};
const CHECKPOINT: Checkpoint = { space: TINY, tensors: randomTensors(TINY, 1), recipe: null, provenance: null };
const SUBNET = { resolution: 9, stages: [[{ kernel: 3, expand: 2 }, { kernel: 5, expand: 3 }]] }; // prettier-ignore

const options = (name: string, changes: Partial<FinetuneOptions> = {}): FinetuneOptions => ({
  checkpoint: CHECKPOINT, subnet: SUBNET, recipe: RECIPE, dataset: madeDataset(), backend, seed: 1, epochs: 4, rate: 0.1,
  command: 'test', folder: join(folder, name), ...changes,
}); // prettier-ignore

describe('fine-tuning', () => {
  it.each(['EE_D', 'SE_DP'])(
    'starts from kernels that stand for themselves: the function of a random subnet of %s does not change',
    (name) => {
      const space = value(withArchitecture(TINY, name));
      const tensors = randomTensors(space, 2);
      const random = randomStream(5);
      for (let i = 0; i < 5; i++) {
        const subnet = drawSubnet(allChoices(space), 9, random);
        const x = randomInput(3, 9, i);
        const logits = (of: typeof tensors) => forward(toWeights(of), space, subnet, x, { kind: 'batch' }).logits[0] as tf.Tensor2D;
        const after = logits(new Map(withBakedKernels(space, tensors, subnet))).dataSync();
        logits(tensors).dataSync().forEach((z, j) => expect(after[j]).toBeCloseTo(z, 4)); // prettier-ignore
      }
    },
  );

  it('trains the one subnet, leaves alone what it does not use, and says what it did', { timeout: 60_000 }, async () => {
    const tuned = value(await finetune(options('tuned')));
    if (tuned === null) throw new Error('stopped');
    expect(tuned.validation.after).toBeGreaterThan(tuned.validation.before);
    const { tensors, provenance } = value(readCheckpoint(join(folder, 'tuned', 'finetuned.safetensors')));
    const unused = [...tensors.keys()].filter((name) => /^(stages\.1|stages\.0\.2|exits\.1)\./.test(name));
    expect(unused.length).toBeGreaterThan(20);
    for (const name of unused) expect(tensors.get(name)).toEqual(CHECKPOINT.tensors.get(name));
    expect(tensors.get('stages.0.0.expand.weight')).not.toEqual(CHECKPOINT.tensors.get('stages.0.0.expand.weight'));
    expect(provenance?.finetuned).toMatchObject({ subnet: SUBNET, from: weightsHash(CHECKPOINT), after: tuned.test.after });
  });

  it('stopped and started again ends with bitwise the same weights', { timeout: 60_000 }, async () => {
    const alone = value(await finetune(options('tuned')));
    let tuned = null;
    for (let life = 0; tuned === null && life < 20; life++) {
      const stop = new AbortController();
      let reports = 0;
      const onProgress = () => {
        if (++reports === 2) stop.abort();
      };
      tuned = value(await finetune(options('stopped', { signal: stop.signal, onProgress })));
    }
    if (alone === null || tuned === null) throw new Error('stopped');
    expect(weightsHash(tuned.checkpoint)).toBe(weightsHash(alone.checkpoint));
  });
});
