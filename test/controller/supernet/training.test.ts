import * as tf from '@tensorflow/tfjs';
import { beforeAll, describe, expect, it } from 'vitest';
import { selectBackend } from '../../../controller/supernet/backend.ts';
import {
  crossEntropy,
  distillationLoss,
  ensembleTarget,
  jointLoss,
  smoothedTargets,
} from '../../../controller/supernet/training/distill.ts';
import { exitWeights, restrictedWeights } from '../../../controller/supernet/training/exit-weights.ts';
import { sgdStep } from '../../../controller/supernet/training/sgd.ts';
import type { ParameterKind } from '../../../controller/supernet/parameters.ts';

describe('SGD keyed by name', () => {
  beforeAll(async () => {
    await selectBackend({ purpose: 'training', only: 'cpu' });
  });
  const KINDS = new Map<string, ParameterKind>([
    ['a', 'conv'],
    ['b', 'gamma'],
    ['c', 'kernel-matrix'],
  ]);
  const scalar = (value: number) => tf.tensor1d([value]);
  const value = (tensors: Map<string, tf.Tensor>, name: string) => (tensors.get(name) as tf.Tensor).dataSync()[0] as number;

  /** Nesterov SGD as PyTorch documents it, for one number. */
  function reference(start: number, gradients: readonly number[], decay: number): number {
    let [w, m] = [start, 0];
    gradients.forEach((gradient, i) => {
      const g = gradient + decay * w;
      m = i === 0 ? g : 0.9 * m + g;
      w -= 0.1 * (g + 0.9 * m);
    });
    return w;
  }

  it('finds each momentum again when steps train different parameters', () => {
    const weights = new Map<string, tf.Tensor>([
      ['a', scalar(1)],
      ['b', scalar(2)],
      ['c', scalar(3)],
    ]);
    const momenta = new Map<string, tf.Tensor>();
    const settings = { momentum: 0.9, weightDecay: 0.01, decayKernelMatrices: false };
    const steps: Record<string, number>[] = [{ a: 0.5, b: 0.25 }, { b: -1 }, { c: 0.5, a: 1 }, { b: 0.5, c: 2 }];
    for (const step of steps) {
      sgdStep(weights, momenta, new Map(Object.entries(step).map(([name, gradient]) => [name, scalar(gradient)])), KINDS, 0.1, settings);
    }
    expect(value(weights, 'a')).toBeCloseTo(reference(1, [0.5, 1], 0.01), 5);
    expect(value(weights, 'b')).toBeCloseTo(reference(2, [0.25, -1, 0.5], 0), 5);
    expect(value(weights, 'c')).toBeCloseTo(reference(3, [0.5, 2], 0), 5);
  });

  it('decays by kind: no batch norm, no bias whatever its name, kernel matrices only where asked', () => {
    const kinds: ParameterKind[] = ['conv', 'linear', 'offset', 'bias', 'gamma', 'beta', 'kernel-matrix'];
    const decayed = (decayKernelMatrices: boolean) => {
      const weights = new Map<string, tf.Tensor>(kinds.map((kind) => [`x.${kind}`, scalar(1)]));
      const gradients = new Map(kinds.map((kind) => [`x.${kind}`, scalar(0)]));
      const settings = { momentum: 0.9, weightDecay: 0.5, decayKernelMatrices };
      sgdStep(weights, new Map(), gradients, new Map(kinds.map((kind) => [`x.${kind}`, kind])), 0.1, settings);
      return kinds.filter((kind) => value(weights, `x.${kind}`) !== 1);
    };
    expect(decayed(false)).toEqual(['conv', 'linear', 'offset']);
    expect(decayed(true)).toEqual(['conv', 'linear', 'offset', 'kernel-matrix']);
  });

  it('leaves what got no gradient bitwise alone, decay and momentum included', () => {
    const untouched = scalar(7);
    const weights = new Map<string, tf.Tensor>([
      ['a', untouched],
      ['b', scalar(1)],
    ]);
    const momenta = new Map<string, tf.Tensor>([['a', scalar(5)]]);
    sgdStep(weights, momenta, new Map([['b', scalar(1)]]), KINDS, 0.1, { momentum: 0.9, weightDecay: 0.5, decayKernelMatrices: false });
    expect(weights.get('a')).toBe(untouched);
    expect(value(momenta, 'a')).toBe(5);
  });
});

describe('losses', () => {
  it('weigh exits by rising shares that sum to one', () => {
    expect(exitWeights(5).map((w) => Math.round(w * 100) / 100)).toEqual([0.06, 0.13, 0.2, 0.27, 0.34]);
    expect(exitWeights(3).reduce((sum, w) => sum + w)).toBeCloseTo(1, 12);
    expect(exitWeights(1)).toEqual([1]);
  });

  it('weigh exits the other way round, or alike, and can be restricted to some', () => {
    expect(exitWeights(5, 'descending')).toEqual([0.34, 0.27, 0.2, 0.13, 0.06]);
    expect(exitWeights(4, 'uniform')).toEqual([0.25, 0.25, 0.25, 0.25]);
    expect(restrictedWeights([0.06, 0.13, 0.2, 0.27, 0.34], [5])).toEqual([0, 0, 0, 0, 1]);
    const some = restrictedWeights([0.06, 0.13, 0.2, 0.27, 0.34], [4, 5]);
    expect(some[3]).toBeCloseTo(0.27 / 0.61, 12);
    expect(some.reduce((sum, w) => sum + w)).toBeCloseTo(1, 12);
  });

  it('teach by the mean squared difference of logits where asked, labels as before', () => {
    const logits = tf.tensor2d([[1, 2, 3]]);
    const targets = smoothedTargets([2], 3, 0.1);
    const goal = ensembleTarget([tf.tensor2d([[0, 1, 5]]), tf.tensor2d([[3, 1, 2]])], [1 / 3, 2 / 3], 'mse');
    goal.dataSync().forEach((z, i) => expect(z).toBeCloseTo([2, 1, 3][i] as number, 5));
    const expected = (1 + 1 + 0) / 3 + (crossEntropy(targets, logits).dataSync()[0] as number);
    expect(distillationLoss(goal, targets, logits, 'mse').dataSync()[0]).toBeCloseTo(expected, 5);
  });

  it('teach by the softmax of summed logits, not by summed probabilities', () => {
    const logits = [tf.tensor2d([[2, 0, -1]]), tf.tensor2d([[-1, 4, 0]])];
    const mixed = [2, 0, -1].map((z, i) => z / 3 + (2 / 3) * ([-1, 4, 0][i] as number)).map(Math.exp);
    const expected = mixed.map((e) => e / mixed.reduce((a, b) => a + b));
    ensembleTarget(logits)
      .dataSync()
      .forEach((p, i) => expect(p).toBeCloseTo(expected[i] as number, 5));
  });

  it('add the teacher and the smoothed labels', () => {
    const targets = smoothedTargets(Uint8Array.of(2, 0), 3, 0.1);
    expect([...targets.dataSync()].map((v) => Math.round(v * 1e4) / 1e4)).toEqual([0.0333, 0.0333, 0.9333, 0.9333, 0.0333, 0.0333]);
    const logits = tf.tensor2d([
      [1, 2, 3],
      [0, 1, 0],
    ]);
    const teacher = tf.tensor2d([
      [0.2, 0.3, 0.5],
      [0.1, 0.8, 0.1],
    ]);
    const parts = (crossEntropy(teacher, logits).dataSync()[0] as number) + (crossEntropy(targets, logits).dataSync()[0] as number);
    expect(distillationLoss(teacher, targets, logits).dataSync()[0]).toBeCloseTo(parts, 5);
    const uniform = Math.log(3); // cross entropy of equal logits
    expect(jointLoss(targets, [tf.zeros([2, 3]), tf.zeros([2, 3])]).dataSync()[0]).toBeCloseTo(uniform, 5);
  });
});
