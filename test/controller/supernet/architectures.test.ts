// The supernet in each of the eight architectures: gradients of a whole elastic step, what is left alone, and no state between passes.
import * as tf from '@tensorflow/tfjs';
import { beforeAll, describe, expect, it } from 'vitest';
import { withArchitecture } from '../../../controller/architecture.ts';
import { randomSubnet } from '../../../controller/search/operators.ts';
import { stream } from '../../../controller/search/rng.ts';
import type { Space } from '../../../controller/space.ts';
import { largestSubnet, smallestSubnet, uniformSubnet, type Subnet } from '../../../controller/subnet.ts';
import { selectBackend } from '../../../controller/supernet/backend.ts';
import { attention } from '../../../controller/supernet/attention.ts';
import type { Weights } from '../../../controller/supernet/elastic.ts';
import { skipSources } from '../../../controller/supernet/extracted-net.ts';
import { isTrained, parametersOf } from '../../../controller/supernet/parameters.ts';
import { forward, type Pass } from '../../../controller/supernet/supernet.ts';
import { crossEntropy, smoothedTargets } from '../../../controller/supernet/training/distill.ts';
import { lossAndGradients } from '../../../controller/supernet/training/gradients.ts';
import { randomStream } from '../../../controller/supernet/training/random.ts';
import { value } from '../../helpers/outcome.ts';
import { allArchitectures, TINY, withAttention } from '../../helpers/spaces.ts';
import { WHY_NO_ADDON } from './native-addon.ts';
import { randomInput, randomTensors, toWeights } from './tiny.ts';

const EVERY = [...allArchitectures(TINY), ['attention', withAttention(TINY)] as const];
const PARALLEL = EVERY.filter(([, { parallel }]) => parallel !== undefined);
const LABELS = Uint8Array.of(0, 1, 2);
/** Maps of 7, 4 and 2 pixels: one is odd. */
const SIDE = 7;

const trainedNames = (space: Space) => parametersOf(space).filter(isTrained).map(({ name }) => name); // prettier-ignore

/** Random tensors; attention's products small, since nothing normalises them and their softmax would be a step function. */
function gentleTensors(space: Space, seed: number): ReturnType<typeof randomTensors> {
  const tensors = randomTensors(space, seed);
  for (const [name, { shape, data }] of tensors) {
    if (/\.(query|key)\./.test(name)) tensors.set(name, { shape, data: data.map((entry) => 0.1 * entry) });
  }
  return tensors;
}

/** The loss of one elastic step: several subnets on one batch, their losses summed, statistics of the batch. */
function stepLoss(space: Space, subnets: readonly Subnet[]): (weights: Weights) => tf.Scalar {
  const targets = smoothedTargets(LABELS, space.classes, 0.1);
  const x = randomInput(LABELS.length, SIDE, 2);
  return (weights) => {
    const losses = subnets.map((subnet) => {
      const pass = forward(weights, space, subnet, x, { kind: 'batch' });
      return crossEntropy(targets, pass.logits[0] as tf.Tensor2D);
    });
    return losses.reduce((sum, loss) => tf.add(sum, loss));
  };
}

describe('a whole elastic step, on the plain JavaScript backend', () => {
  beforeAll(async () => {
    await selectBackend({ purpose: 'training', only: 'cpu' });
  });

  it.each(allArchitectures(TINY))('has in %s the gradient of finite differences, to every tensor', { timeout: 60_000 }, (_, space) => {
    const weights = toWeights(gentleTensors(space, 11));
    // the first subnet reaches all tensors but those of the first exit, through both kernel matrices
    const wide = uniformSubnet(space, { resolution: 9, kernel: 3, expand: 3, depth: 3 });
    const stages = space.exits === 'early' ? 1 : 2;
    const loss = stepLoss(space, [wide, uniformSubnet(space, { resolution: 9, kernel: 5, expand: 4, depth: 2, stages, mask: 3 })]);
    const names = trainedNames(space);
    const { gradients } = lossAndGradients(weights, names, () => loss(weights));
    expect([...gradients.keys()]).toEqual(names);
    // one direction for all tensors of a kind, since a difference of float32 losses is too coarse for each value alone
    const kinds = Map.groupBy(names, (name) => name.replace(/\d+/g, 'n').replace('stages.n.n.', ''));
    for (const [kind, members] of kinds) {
      const directions = members.map((name) => {
        const random = randomStream(3, 'direction', name);
        const { size, shape } = weights.get(name) as tf.Tensor;
        return tf.tensor(
          Float32Array.from({ length: size }, () => 2 * random.uniform() - 1),
          shape,
        );
      });
      const parts = members.map((name, i) => tf.mul(gradients.get(name) as tf.Tensor, directions[i] as tf.Tensor).dataSync<'float32'>());
      const terms = parts.flatMap((part) => [...part]);
      const slope = terms.reduce((sum, term) => sum + term, 0);
      /** What a slope of such a gradient is like; a sum of terms of either sign may be less by chance. */
      const scale = Math.hypot(...terms);
      const at = (factor: number): number => {
        const moved = members.map((name, i) => [name, tf.add(weights.get(name) as tf.Tensor, tf.mul(directions[i] as tf.Tensor, factor))] as const); // prettier-ignore
        return tf.tidy(() => loss(new Map([...weights, ...moved])).dataSync()[0] as number);
      };
      // a long step crosses kinks of relu, a short one drowns in rounding: a wrong slope fits none
      const fits = [1e-3, 3e-4, 1e-4].some((step) => {
        const difference = (at(step) - at(-step)) / (2 * step);
        return Math.abs(slope - difference) < 0.05 * scale + 3e-3;
      });
      expect(fits, kind).toBe(true);
    }
  });

  it.each([1, 2] as const)('has the gradient of finite differences through attention at stride %i', (pool) => {
    const random = randomStream(1, 'attention');
    const tensor = (shape: number[]) =>
      tf.tensor(
        Float32Array.from({ length: shape.reduce((product, side) => product * side, 1) }, () => random.uniform() - 0.5),
        shape,
      );
    const weights = new Map<string, tf.Tensor>([
      ['x', tensor([2, 5, 5, 6])],
      ...['query', 'key', 'value'].map((part) => [`a.${part}.weight`, tensor([1, 1, 6, 8])] as const),
      ['a.rows', tensor([7, 4])],
      ['a.columns', tensor([7, 4])],
    ]);
    const probe = tensor(pool === 1 ? [2, 5, 5, 8] : [2, 3, 3, 8]);
    const loss = (w: Weights): tf.Scalar => tf.sum(tf.mul(attention(w, 'a', w.get('x') as tf.Tensor4D, pool), probe));
    const { gradients } = lossAndGradients(weights, [...weights.keys()], () => loss(weights));
    for (const [name, value] of weights) {
      const direction = tensor(value.shape);
      const terms = tf.mul(gradients.get(name) as tf.Tensor, direction).dataSync<'float32'>();
      const at = (factor: number) => loss(new Map([...weights, [name, tf.add(value, tf.mul(direction, factor))]])).dataSync()[0] as number;
      const difference = (at(0.01) - at(-0.01)) / 0.02;
      const slope = terms.reduce((sum, term) => sum + term, 0);
      expect(Math.abs(slope - difference), name).toBeLessThan(0.02 * Math.hypot(...terms) + 1e-4);
    }
  });

  it.each(PARALLEL.slice(0, 4))('reaches with gradients the branches that are active and no others: %s', (_, space) => {
    const weights = toWeights(randomTensors(space, 11));
    const reached = (mask: number) => {
      const subnet = uniformSubnet(space, { resolution: 9, kernel: 7, expand: 4, depth: 2, mask });
      const { gradients } = lossAndGradients(weights, trainedNames(space), () => stepLoss(space, [subnet])(weights));
      const inBlock = [...gradients.keys()].filter((name) => name.startsWith('stages.1.0.'));
      return {
        mbConv: inBlock.some((name) => /\.(expand|depthwise|squeeze|project)\./.test(name)),
        pointwise: inBlock.some((name) => name.includes('.pointwise.')),
        third: inBlock.some((name) => /\.(transformation|attention)\./.test(name)),
      };
    };
    for (let mask = 1; mask <= 7; mask++) {
      expect(reached(mask)).toEqual({ mbConv: mask >= 4, pointwise: mask % 4 >= 2, third: mask % 2 === 1 });
    }
  });
});

describe('a forward pass', () => {
  beforeAll(async () => {
    await selectBackend({ purpose: 'inference', threads: 1 });
  });

  const answer = (weights: Weights, space: Space, subnet: Subnet): number[] =>
    tf.tidy(() => [...(forward(weights, space, subnet, randomInput(2, 9, 5), { kind: 'running' }).logits[0] as tf.Tensor2D).dataSync()]);

  it.each(EVERY)('leaves no trace: neither weights nor the next answers depend on what was asked before, in %s', (_, space) => {
    const weights = toWeights(randomTensors(space, 3));
    const before = new Map([...weights].map(([name, tensor]) => [name, [...tensor.dataSync()]]));
    const subnet = { ...randomSubnet(space, stream(6, 0)), resolution: 9 };
    const first = answer(weights, space, subnet);
    for (const other of [largestSubnet(space), smallestSubnet(space), randomSubnet(space, stream(6, 1))]) {
      answer(weights, space, { ...other, resolution: 9 });
    }
    expect(answer(weights, space, subnet)).toEqual(first);
    for (const [name, tensor] of weights) expect([...tensor.dataSync()]).toEqual(before.get(name));
  });

  it('is the sum of its branches: without batch norms between, masks add up over a stage of one block', () => {
    const space = value(withArchitecture(TINY, 'EE_P'));
    const weights = toWeights(randomTensors(space, 8));
    // the exit's convolution is linear in the stage's output: its batch statistics' mean is the sum of the branches' means
    const means = (mask: number): number[] => {
      const subnet = uniformSubnet(space, { resolution: 9, kernel: 5, expand: 3, depth: 1, stages: 1, mask });
      return tf.tidy(() => {
        const pass: Pass = forward(weights, space, subnet, randomInput(3, 9, 5), { kind: 'batch' });
        const statistics = pass.statistics.get('exits.0.conv.norm');
        return [...(statistics?.mean.dataSync() ?? [])];
      });
    };
    const [third, pointwise, mbConv, all] = [means(1), means(2), means(4), means(7)];
    expect(all.length).toBe(16);
    all.forEach((mean, c) => {
      const sum = (third[c] as number) + (pointwise[c] as number) + (mbConv[c] as number);
      expect(mean).toBeCloseTo(sum, 4);
    });
  });

  it('without an MBConv has no path around the block: with the other branches silent nothing comes through', () => {
    const space: Space = {
      ...value(withArchitecture(TINY, 'SE_P')),
      stages: TINY.stages.map((stage) => ({ ...stage, stride: 1, channels: 8 })),
    };
    const tensors = randomTensors(space, 9);
    for (const [name, { shape, data }] of tensors) {
      if (/\.(pointwise|transformation)\.norm\.(gamma|beta)$/.test(name)) tensors.set(name, { shape, data: new Float32Array(data.length) });
    }
    const weights = toWeights(tensors);
    const net = (mask: number) => uniformSubnet(space, { resolution: 9, kernel: 3, expand: 2, depth: 2, mask });
    const logits = (mask: number, seed: number) =>
      tf.tidy(() => [
        ...(forward(weights, space, net(mask), randomInput(1, 9, seed), { kind: 'running' }).logits[0] as tf.Tensor2D).dataSync(),
      ]);
    expect(logits(3, 1)).toEqual(logits(3, 2));
    expect(logits(7, 1)).not.toEqual(logits(7, 2));
    expect(logits(7, 1)).toEqual(logits(4, 1));
  });
});

describe('dense skips of parallel blocks', () => {
  it('sum the blocks, whatever a block is: F4(y3 + y1) + y1 + y2 at depth 4 where no identity is added', () => {
    const f = [NaN, 3, 5, 7, 11]; // blocks as numbers: F_i(v) = f_i · v
    const y = [1];
    const s = (t: number) => skipSources(true, t).reduce((sum, i) => sum + (y[i] as number), 0);
    for (let i = 1; i <= 4; i++) y.push((f[i] as number) * s(i - 1));
    const [, y1, y2, y3] = y as [number, number, number, number];
    expect([s(0), s(1), s(2)]).toEqual([1, y1, y2]);
    expect(s(3)).toBe(y3 + y1);
    expect(s(4)).toBe(11 * (y3 + y1) + y1 + y2);
  });
});

describe('the native backend', () => {
  it.skipIf(WHY_NO_ADDON !== null).each(PARALLEL)(
    'gives the gradients of the plain one for parallel blocks: %s',
    { timeout: 60_000 },
    async (_, space) => {
      const tensors = gentleTensors(space, 13);
      const results: Map<string, number[]>[] = [];
      for (const only of ['tensorflow', 'cpu'] as const) {
        await selectBackend({ purpose: 'training', threads: 1, only });
        const weights = toWeights(tensors);
        const { gradients } = lossAndGradients(weights, trainedNames(space), () => stepLoss(space, [largestSubnet(space)])(weights));
        results.push(new Map([...gradients].map(([name, gradient]) => [name, [...gradient.dataSync()]])));
      }
      const [native, plain] = results as [Map<string, number[]>, Map<string, number[]>];
      expect([...native.keys()]).toEqual([...plain.keys()]);
      for (const [name, expected] of plain) {
        const scale = Math.max(...expected.map(Math.abs)) + 1e-3;
        const worst = Math.max(...expected.map((entry, i) => Math.abs(entry - (native.get(name)?.[i] as number)))) / scale;
        expect(worst, name).toBeLessThan(5e-4);
      }
    },
  );
});
