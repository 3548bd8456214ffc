import * as tf from '@tensorflow/tfjs';
import { beforeAll, describe, expect, it } from 'vitest';
import { PRESETS, type Space } from '../../../controller/space.ts';
import { selectBackend } from '../../../controller/supernet/backend.ts';
import {
  crossEntropy,
  distillationLoss,
  ensembleTarget,
  exitWeights,
  jointLoss,
  smoothedTargets,
} from '../../../controller/supernet/training/distill.ts';
import { drawSubnet, phasesOf, validationSubnets } from '../../../controller/supernet/training/phases.ts';
import { randomStream } from '../../../controller/supernet/training/random.ts';
import { RECIPES } from '../../../controller/supernet/training/recipe.ts';
import { sgdStep } from '../../../controller/supernet/training/sgd.ts';
import type { ParameterKind } from '../../../controller/supernet/parameters.ts';
import { parseSubnet } from '../../../controller/subnet.ts';
import { TINY } from './tiny.ts';

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
    const settings = { momentum: 0.9, weightDecay: 0.01 };
    const steps: Record<string, number>[] = [{ a: 0.5, b: 0.25 }, { b: -1 }, { c: 0.5, a: 1 }, { b: 0.5, c: 2 }];
    for (const step of steps) {
      sgdStep(weights, momenta, new Map(Object.entries(step).map(([name, gradient]) => [name, scalar(gradient)])), KINDS, 0.1, settings);
    }
    expect(value(weights, 'a')).toBeCloseTo(reference(1, [0.5, 1], 0.01), 5);
    expect(value(weights, 'b')).toBeCloseTo(reference(2, [0.25, -1, 0.5], 0), 5);
    expect(value(weights, 'c')).toBeCloseTo(reference(3, [0.5, 2], 0), 5);
  });

  it('leaves what got no gradient bitwise alone, decay and momentum included', () => {
    const untouched = scalar(7);
    const weights = new Map<string, tf.Tensor>([
      ['a', untouched],
      ['b', scalar(1)],
    ]);
    const momenta = new Map<string, tf.Tensor>([['a', scalar(5)]]);
    sgdStep(weights, momenta, new Map([['b', scalar(1)]]), KINDS, 0.1, { momentum: 0.9, weightDecay: 0.5 });
    expect(weights.get('a')).toBe(untouched);
    expect(value(momenta, 'a')).toBe(5);
  });
});

describe('losses', () => {
  it('weigh exits by rising shares that sum to one', () => {
    expect(exitWeights(5).map((w) => Math.round(w * 100) / 100)).toEqual([0.07, 0.13, 0.2, 0.27, 0.33]);
    expect(exitWeights(3).reduce((sum, w) => sum + w)).toBeCloseTo(1, 12);
    expect(exitWeights(1)).toEqual([1]);
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

describe('the phases of progressive shrinking', () => {
  const epochs = (space: Space) => phasesOf(space, RECIPES.published).reduce((sum, phase) => sum + phase.epochs + phase.warmUpEpochs, 0);

  it('take as many epochs as published', () => {
    const mbv3 = PRESETS['ofa-mbv3-w1.0'] as Space;
    expect(epochs(mbv3)).toBe(605);
    expect(epochs({ ...mbv3, exits: 'early' })).toBe(915);
  });

  it('unlock one value at a time and end with the whole space', () => {
    const phases = phasesOf(TINY, RECIPES.short);
    expect(phases.map(({ name }) => name)).toEqual(['full', 'kernel', 'height', 'depth-1', 'depth-2', 'width-1', 'width-2']);
    expect(phases[0]?.choices).toEqual({ kernels: [7], heights: [2], depths: [3], expands: [4] });
    expect(phases.find(({ name }) => name === 'depth-1')?.choices).toEqual({
      kernels: [3, 5, 7],
      heights: [1, 2],
      depths: [2, 3],
      expands: [4],
    });
    expect(phases.at(-1)?.choices).toEqual({ kernels: [3, 5, 7], heights: [1, 2], depths: [1, 2, 3], expands: [2, 3, 4] });
  });

  it('leave out axes with one value', () => {
    const rigid: Space = { ...TINY, kernels: [5], depths: [2], exits: 'single' };
    expect(phasesOf(rigid, RECIPES.short).map(({ name }) => name)).toEqual(['full', 'width-1', 'width-2']);
  });

  it('draw only subnets of the space, the same for the same stream', () => {
    const choices = phasesOf(TINY, RECIPES.short).at(-1)?.choices;
    if (choices === undefined) throw new Error('no phase');
    const draw = () => {
      const random = randomStream(1, 'subnets');
      return Array.from({ length: 200 }, () => drawSubnet(choices, 9, random));
    };
    const drawn = draw();
    expect(drawn.every((subnet) => parseSubnet(TINY, subnet, 'drawn').ok)).toBe(true);
    expect(draw()).toEqual(drawn);
    expect(new Set(drawn.flatMap(({ stages }) => stages.flat().map(({ kernel, expand }) => `${kernel} ${expand}`))).size).toBe(9);
  });

  it('are scored by the extremes and some between', () => {
    const last = phasesOf(TINY, RECIPES.short).at(-1);
    if (last === undefined) throw new Error('no phase');
    const all = validationSubnets(TINY, last, 100, randomStream(0));
    expect(all.length).toBe(32);
    const some = validationSubnets(TINY, last, 4, randomStream(0));
    expect(some.length).toBe(4);
    expect([some[0], some[3]]).toEqual([all[0], all[31]]);
  });
});
