import * as tf from '@tensorflow/tfjs';
import { beforeAll, describe, expect, it } from 'vitest';
import { uniformSubnet, type Subnet } from '../../../controller/subnet.ts';
import { selectBackend } from '../../../controller/supernet/backend.ts';
import { elasticFilter, type Weights } from '../../../controller/supernet/elastic.ts';
import { depthwiseConv, hSwish, normaliseByBatch } from '../../../controller/supernet/layers.ts';
import { isTrained, parametersOf } from '../../../controller/supernet/parameters.ts';
import { forward } from '../../../controller/supernet/supernet.ts';
import { crossEntropy, jointLoss, smoothedTargets } from '../../../controller/supernet/training/distill.ts';
import { lossAndGradients } from '../../../controller/supernet/training/gradients.ts';
import { randomStream } from '../../../controller/supernet/training/random.ts';
import { WHY_NO_ADDON } from './native-addon.ts';
import { randomInput, randomTensors, TINY, toWeights } from './tiny.ts';

const MIXED: Subnet = {
  resolution: 9,
  stages: [
    [
      { kernel: 7, expand: 4 },
      { kernel: 3, expand: 2 },
      { kernel: 5, expand: 3 },
    ],
    [
      { kernel: 5, expand: 3 },
      { kernel: 7, expand: 2 },
    ],
  ],
};

/** Slope of `loss` along a random direction of one tensor: by its gradient, and by central differences. */
function slopes(weights: Map<string, tf.Tensor>, name: string, loss: (weights: Weights) => tf.Scalar, step: number): [number, number] {
  const tensor = weights.get(name) as tf.Tensor;
  const random = randomStream(3, 'direction', name);
  const direction = tf.tensor(
    Float32Array.from({ length: tensor.size }, () => 2 * random.uniform() - 1),
    tensor.shape,
  );
  const { gradients } = lossAndGradients(weights, [name], () => loss(weights));
  const gradient = gradients.get(name);
  if (gradient === undefined) throw new Error(`no gradient reached ${name}`);
  const byGradient = tf.sum(tf.mul(gradient, direction)).dataSync()[0] as number;
  const at = (factor: number) => loss(new Map([...weights, [name, tf.add(tensor, tf.mul(direction, factor))]])).dataSync()[0] as number;
  return [byGradient, (at(step) - at(-step)) / (2 * step)];
}

describe('elastic operators, on the plain JavaScript backend', () => {
  beforeAll(async () => {
    await selectBackend({ purpose: 'training', only: 'cpu' });
  });

  it('takes the centre of the kernel while the matrices are the identity', () => {
    const largest = tf.tensor4d(
      Float32Array.from({ length: 49 * 2 }, (_, i) => i),
      [7, 7, 2, 1],
    );
    const identity = (n: number) => tf.eye(n);
    const weights = new Map<string, tf.Tensor>([
      ['d.weight', largest],
      ['d.7to5', identity(25)],
      ['d.5to3', identity(9)],
    ]);
    const small = elasticFilter(weights, 'd', [3, 5, 7], 3, 1).dataSync();
    expect([...small]).toEqual([2, 3, 4].flatMap((row) => [2, 3, 4].map((column) => 2 * (7 * row + column))));
  });

  it('derives 3x3 from the already transformed 5x5, not from the stored 7x7', () => {
    const weights = toWeights(randomTensors(TINY, 5));
    const name = 'stages.0.1.depthwise';
    const plain = (key: string) => (weights.get(key) as tf.Tensor).arraySync();
    const stored = plain(`${name}.weight`) as number[][][][];
    const [m75, m53] = [plain(`${name}.7to5`) as number[][], plain(`${name}.5to3`) as number[][]];
    const apply = (m: number[][], v: number[]) => m.map((row) => row.reduce((sum, value, i) => sum + value * (v[i] as number), 0));
    const channel = 3;
    const centre = [1, 2, 3, 4, 5].flatMap((y) => [1, 2, 3, 4, 5].map((x) => stored[y]?.[x]?.[channel]?.[0] as number));
    const five = apply(m75, centre);
    const three = apply(
      m53,
      [1, 2, 3].flatMap((y) => [1, 2, 3].map((x) => five[5 * y + x] as number)),
    );
    const got = elasticFilter(weights, name, [3, 5, 7], 3, 8).arraySync();
    three.forEach((value, i) => expect(got[Math.floor(i / 3)]?.[i % 3]?.[channel]?.[0]).toBeCloseTo(value, 5));
  });

  it.each([7, 5, 3])('has the gradient of finite differences for a kernel of side %i at stride 2', (kernel) => {
    const weights = toWeights(randomTensors(TINY, 7));
    const x = tf.tile(randomInput(2, 9, 1), [1, 1, 1, 16]);
    const probe = tf.randomNormal([2, 5, 5, 16], 0, 1, 'float32', 4);
    const loss = (w: Weights): tf.Scalar =>
      tf.sum(tf.mul(depthwiseConv(x, elasticFilter(w, 'stages.0.0.depthwise', [3, 5, 7], kernel, 16), 2), probe));
    const matrices = { 7: [], 5: ['7to5'], 3: ['7to5', '5to3'] }[kernel] as string[];
    for (const part of ['weight', ...matrices]) {
      const [byGradient, byDifference] = slopes(weights, `stages.0.0.depthwise.${part}`, loss, 0.05);
      expect(byGradient).toBeCloseTo(byDifference, 1);
      expect(Math.abs(byGradient - byDifference)).toBeLessThan(1e-3 * Math.max(1, Math.abs(byDifference)));
    }
  });

  it('has the gradient of finite differences through h_swish and batch statistics', () => {
    const weights = new Map<string, tf.Tensor>([
      ['x', randomInput(3, 4, 9)],
      ['gamma', tf.tensor1d([1.3])],
      ['beta', tf.tensor1d([0.2])],
    ]);
    const probe = tf.randomNormal([3, 4, 4, 1], 0, 1, 'float32', 8);
    const loss = (w: Weights): tf.Scalar => {
      const [y] = normaliseByBatch(w.get('x') as tf.Tensor4D, w.get('gamma') as tf.Tensor1D, w.get('beta') as tf.Tensor1D);
      return tf.sum(tf.mul(hSwish(y), probe));
    };
    for (const name of weights.keys()) {
      const [byGradient, byDifference] = slopes(weights, name, loss, 2e-3);
      expect(Math.abs(byGradient - byDifference)).toBeLessThan(5e-3 * Math.max(1, Math.abs(byDifference)));
    }
  });

  it('has the gradient of finite differences through a whole subnet', () => {
    const weights = toWeights(randomTensors(TINY, 11));
    const x = randomInput(3, 9, 2);
    const targets = smoothedTargets(Uint8Array.of(0, 1, 2), TINY.classes, 0.1);
    const loss = (w: Weights) => crossEntropy(targets, forward(w, TINY, MIXED, x, { kind: 'batch' }).logits[0] as tf.Tensor2D);
    for (const name of [
      'exits.1.mix.weight',
      'exits.1.conv.weight',
      'stages.1.1.project.weight',
      'stages.0.2.squeeze.expand.bias',
      'stages.1.1.depthwise.weight',
    ]) {
      const [byGradient, byDifference] = slopes(weights, name, loss, 1e-3);
      expect(Math.abs(byGradient - byDifference), name).toBeLessThan(0.03 * Math.abs(byDifference) + 2e-3);
    }
  });

  it('leaves without a gradient what the subnet does not use', () => {
    const weights = toWeights(randomTensors(TINY, 11));
    const subnet = uniformSubnet(TINY, { resolution: 9, kernel: 7, expand: 2, depth: 1, stages: 1 });
    const names = parametersOf(TINY)
      .filter(isTrained)
      .map(({ name }) => name);
    const targets = smoothedTargets(Uint8Array.of(0, 1), TINY.classes, 0.1);
    const { gradients } = lossAndGradients(weights, names, () =>
      crossEntropy(targets, forward(weights, TINY, subnet, randomInput(2, 9, 2), { kind: 'batch' }).logits[0] as tf.Tensor2D),
    );
    const reached = [...gradients.keys()];
    expect(reached.filter((name) => /^(stages\.1|stages\.0\.[12]|exits\.1|.*to[35]$)/.test(name))).toEqual([]);
    expect(reached).toContain('stages.0.0.depthwise.weight');
    const expand = gradients.get('stages.0.0.expand.weight')?.arraySync() as number[][][][];
    const inactive = (expand[0]?.[0] ?? []).flatMap((row) => row.slice(16));
    expect(inactive.length).toBeGreaterThan(0);
    expect(inactive.every((value) => value === 0)).toBe(true);
  });
});

describe('the native backend', () => {
  it.skipIf(WHY_NO_ADDON !== null)('gives the loss, gradients and batch statistics of the plain one', { timeout: 60_000 }, async () => {
    const tensors = randomTensors(TINY, 13);
    const names = parametersOf(TINY)
      .filter(isTrained)
      .map(({ name }) => name);
    const results = [];
    for (const only of ['tensorflow', 'cpu'] as const) {
      await selectBackend({ purpose: 'training', threads: 1, only });
      const weights = toWeights(tensors);
      const targets = smoothedTargets(Uint8Array.of(0, 1, 2, 1), TINY.classes, 0.1);
      const statistics = new Map<string, number[]>();
      const { loss, gradients } = lossAndGradients(weights, names, () => {
        const pass = forward(weights, TINY, MIXED, randomInput(4, 9, 5), { kind: 'train', dropout: () => null }, 'all');
        for (const [name, { mean, variance }] of pass.statistics) statistics.set(name, [...mean.dataSync(), ...variance.dataSync()]);
        return jointLoss(targets, pass.logits);
      });
      const values = new Map([...gradients].map(([name, gradient]) => [name, [...gradient.dataSync()]]));
      results.push({ loss: loss.dataSync()[0] as number, values, statistics });
    }
    const [native, plain] = results as [(typeof results)[0], (typeof results)[0]];
    expect(native.loss).toBeCloseTo(plain.loss, 5);
    expect([...native.values.keys()]).toEqual([...plain.values.keys()]);
    for (const part of ['values', 'statistics'] as const) {
      for (const [name, expected] of plain[part]) {
        const scale = Math.max(...expected.map(Math.abs)) + 1e-3;
        const worst = Math.max(...expected.map((value, i) => Math.abs(value - (native[part].get(name)?.[i] as number)))) / scale;
        expect(worst, name).toBeLessThan(2e-4);
      }
    }
  });
});
