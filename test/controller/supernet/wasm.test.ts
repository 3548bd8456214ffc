// WebAssembly as a backend to train on: a whole elastic step, its memory, and the kernels at sizes and kinds that nets of ours do not have.
import * as tf from '@tensorflow/tfjs';
import { beforeAll, describe, expect, it } from 'vitest';
import { selectBackend } from '../../../controller/supernet/backend.ts';
import { normaliseByBatch } from '../../../controller/supernet/layers.ts';
import { startElasticSteps } from '../../helpers/elastic-steps.ts';
import { randomStream } from '../../../controller/supernet/training/random.ts';
import { WHY_NO_ADDON } from './native-addon.ts';
import { TINY } from './tiny.ts';

const onWasm = () => selectBackend({ purpose: 'training', only: 'wasm' });

/** Losses and weights after some steps on that backend. */
async function trained(only: 'cpu' | 'wasm'): Promise<{ losses: number[]; weights: Map<string, Float32Array> }> {
  await selectBackend({ purpose: 'training', only });
  const steps = startElasticSteps(TINY, 4, 2);
  const losses = await steps.run(3);
  return { losses, weights: new Map([...steps.trainee.weights].map(([name, tensor]) => [name, tensor.dataSync<'float32'>().slice()])) };
}

describe('training on WebAssembly', () => {
  it('moves the weights of an elastic supernet as plain JavaScript does', async () => {
    const [plain, wasm] = [await trained('cpu'), await trained('wasm')];
    wasm.losses.forEach((loss, i) => expect(loss).toBeCloseTo(plain.losses[i] as number, 4));
    for (const [name, expected] of plain.weights) {
      const scale = Math.max(...expected.map(Math.abs)) + 1e-2;
      const worst = expected.reduce((most, value, i) => Math.max(most, Math.abs(value - (wasm.weights.get(name)?.[i] as number))), 0);
      expect(worst / scale, name).toBeLessThan(1e-4);
    }
  });

  it('computes the same bits each time', async () => {
    const [first, second] = [await trained('wasm'), await trained('wasm')];
    expect(second.losses).toEqual(first.losses);
    for (const [name, values] of first.weights) expect(second.weights.get(name), name).toEqual(values);
  });
});

describe.each(['wasm', 'tensorflow'] as const)('fifty steps on the backend "%s"', (only) => {
  it.skipIf(only === 'tensorflow' && WHY_NO_ADDON !== null)('leave no tensor behind', async () => {
    await selectBackend({ purpose: 'training', only, threads: 1 });
    const steps = startElasticSteps(TINY, 4, 2);
    await steps.run(10); // until every parameter has its momentum
    const { numTensors, numBytes } = tf.memory();
    await steps.run(50);
    expect(tf.memory()).toMatchObject({ numTensors, numBytes });
  });
});

describe('kernels on WebAssembly', () => {
  beforeAll(onWasm);

  it('sum long columns without losing digits', () => {
    const rows = 60_000;
    const random = randomStream(4, 'long');
    const values = Float32Array.from({ length: 4 * rows }, (_, i) => 10 + (i % 4) + random.uniform());
    const exact = [0, 1, 2, 3].map((c) => {
      const column = values.filter((_, i) => i % 4 === c);
      const mean = column.reduce((sum, value) => sum + value, 0) / rows;
      return { mean, variance: column.reduce((sum, value) => sum + (value - mean) ** 2, 0) / rows };
    });
    const [, { mean, variance }] = normaliseByBatch(tf.tensor4d(values, [rows, 1, 1, 4]), tf.ones([4]), tf.zeros([4]));
    exact.forEach((column, c) => {
      expect(Math.abs((mean.dataSync()[c] as number) / column.mean - 1)).toBeLessThan(1e-6);
      expect(Math.abs((variance.dataSync()[c] as number) / column.variance - 1)).toBeLessThan(1e-5);
    });
    tf.dispose([mean, variance]);
  });

  it('normalise a batch without variance to beta, and give it no gradient', () => {
    const [x, gamma, beta] = [tf.zeros<tf.Rank.R4>([2, 3, 3, 4]), tf.tensor1d([1, 2, 3, 4]), tf.tensor1d([5, 6, 7, 8])];
    const normalised = (input: tf.Tensor) => {
      const [y, { mean, variance }] = normaliseByBatch(input as tf.Tensor4D, gamma, beta);
      tf.dispose([mean, variance]);
      return y;
    };
    expect([...normalised(x).dataSync().slice(0, 4)]).toEqual([5, 6, 7, 8]);
    expect([
      ...tf
        .grad((input) => tf.sum(normalised(input)))(x)
        .dataSync(),
    ]).toEqual(new Array(72).fill(0));
  });

  it('refuse a dilated convolution by saying what they know', () => {
    const image = tf.ones<tf.Rank.R4>([1, 9, 9, 4]);
    const gradient = tf.grad((filter) => tf.sum(tf.depthwiseConv2d(image, filter as tf.Tensor4D, 1, 'same', 'NHWC', 2)));
    expect(() => gradient(tf.ones([3, 3, 4, 1]))).toThrow(/without dilation/);
  });

  it('say so where memory is full, instead of writing over what is there', () => {
    const { wasm } = tf.backend() as unknown as { wasm: { _malloc(bytes: number): number } };
    expect(() => wasm._malloc(2 ** 32 - 2 ** 20)).toThrow(/no room for 4293918720 bytes.*smaller batch/);
    expect(() => wasm._malloc(2 ** 33)).toThrow(/smaller batch/);
  });

  it('leave a tensor alive whose clone is disposed of', () => {
    const x = tf.tensor1d([1, 2, 3]);
    x.clone().dispose();
    expect([...x.dataSync()]).toEqual([1, 2, 3]);
    const clone = x.clone();
    x.dispose();
    expect([...clone.dataSync()]).toEqual([1, 2, 3]);
  });
});
