import * as tf from '@tensorflow/tfjs';
import fc from 'fast-check';
import { beforeAll, describe, expect, it } from 'vitest';
import { randomSubnet } from '../../../controller/search/operators.ts';
import { stream } from '../../../controller/search/rng.ts';
import { PRESETS, type Space } from '../../../controller/space.ts';
import { largestSubnet, smallestSubnet, type Subnet } from '../../../controller/subnet.ts';
import { selectBackend } from '../../../controller/supernet/backend.ts';
import { extractSubnet } from '../../../controller/supernet/extract.ts';
import { normsOf, skipSources, tensorsOf, withStatistics } from '../../../controller/supernet/extracted-net.ts';
import { parametersOf } from '../../../controller/supernet/parameters.ts';
import { sortChannels } from '../../../controller/supernet/sorting.ts';
import { forward } from '../../../controller/supernet/supernet.ts';
import { midChannels } from '../../../controller/supernet/widths.ts';
import { allArchitectures, withAttention } from '../../helpers/spaces.ts';
import { forwardExtracted } from './forward-extracted.ts';
import { randomInput, randomTensors, TINY, toWeights } from './tiny.ts';

const TINY_IMAGENET = PRESETS['ofav2-64-w1.0'] as Space;

function worstDifference(a: ArrayLike<number>, b: ArrayLike<number>): number {
  return Math.max(...Array.from(a, (value, i) => Math.abs(value - (b[i] as number))));
}

function logitsOf(tensors: ReturnType<typeof randomTensors>, subnet: Subnet, space = TINY): Float32Array {
  return tf.tidy(() => {
    const x = randomInput(3, subnet.resolution, 21);
    return Float32Array.from((forward(toWeights(tensors), space, subnet, x, { kind: 'running' }).logits[0] as tf.Tensor2D).dataSync());
  });
}

describe('a subnet, inside the supernet and cut out', () => {
  beforeAll(async () => {
    await selectBackend({ purpose: 'inference', threads: 1 });
  });

  it.each([...allArchitectures(TINY), ['attention', withAttention(TINY)] as const])(
    'answers the same both ways in %s, whatever its genes',
    { timeout: 60_000 },
    (_, space) => {
      fc.assert(
        fc.property(fc.integer({ min: 0 }), (seed) => {
          const tensors = randomTensors(space, seed);
          const subnet = randomSubnet(space, stream(seed, 0));
          const net = extractSubnet({ space, tensors }, subnet);
          const images = randomInput(3, subnet.resolution, 21).dataSync<'float32'>(); // one channel: NHWC is NCHW
          expect(worstDifference(forwardExtracted(net, images, 3), logitsOf(tensors, subnet, space))).toBeLessThan(1e-4);
        }),
        { numRuns: 12, seed: 1 },
      );
    },
  );

  it('answers on WebAssembly, all that a machine without the native addon has, as in plain JavaScript', { timeout: 60_000 }, async () => {
    const tensors = randomTensors(TINY, 31);
    const answers: Float32Array[] = [];
    for (const only of ['cpu', 'wasm'] as const) {
      const backend = await selectBackend({ purpose: 'inference', only });
      expect(backend.description).toContain('npm run setup:tfjs-node');
      answers.push(logitsOf(tensors, largestSubnet(TINY)));
    }
    await selectBackend({ purpose: 'inference', threads: 1 });
    expect(worstDifference(answers[0] ?? [], answers[1] ?? [])).toBeLessThan(1e-4);
  });

  it('keeps its names unique and stable, and takes new statistics without touching the old net', () => {
    const net = extractSubnet({ space: TINY, tensors: randomTensors(TINY, 2) }, largestSubnet(TINY));
    const names = tensorsOf(net).map(({ name }) => name);
    expect(new Set(names).size).toBe(names.length);
    expect(names).toContain('stages.1.2.depthwise.weight');
    const before = normsOf(net).map((norm) => norm.mean.data);
    const calibrated = withStatistics(net, 'calibrated', ({ mean, variance }) => ({
      mean: new Float32Array(mean.data.length).fill(9),
      variance: new Float32Array(variance.data.length).fill(2),
    }));
    expect(calibrated.statistics).toBe('calibrated');
    expect(normsOf(calibrated).every((norm) => norm.mean.data.every((value) => value === 9))).toBe(true);
    normsOf(net).forEach((norm, i) => expect(norm.mean.data).toBe(before[i]));
  });

  it.each(allArchitectures(TINY))('sorts the channels of %s without changing what the largest net computes', (_, space) => {
    const tensors = randomTensors(space, 4);
    const sorted = sortChannels(space, tensors, []);
    const net = largestSubnet(space);
    expect(worstDifference(logitsOf(sorted, net, space), logitsOf(tensors, net, space))).toBeLessThan(1e-4);
    expect(sorted.get('stages.1.1.project.weight')).not.toEqual(tensors.get('stages.1.1.project.weight'));
  });

  it('moves the channels that matter most to the front', () => {
    const sorted = sortChannels(TINY, randomTensors(TINY, 4), []);
    const project = sorted.get('stages.1.1.project.weight');
    const importance = Array.from(
      { length: 64 },
      (_, i) => project?.data.subarray(i * 16, (i + 1) * 16).reduce((sum, v) => sum + Math.abs(v), 0) as number,
    );
    expect(importance).toEqual(importance.toSorted((a, b) => b - a));
  });

  it('keeps the channels of nets that are elastic already when it sorts again', () => {
    const tensors = randomTensors(TINY, 6);
    const sorted = sortChannels(TINY, tensors, [3, 4]);
    const subnet: Subnet = {
      resolution: 9,
      stages: [
        [{ kernel: 7, expand: 3 }],
        [
          { kernel: 5, expand: 3 },
          { kernel: 3, expand: 4 },
        ],
      ],
    };
    expect(worstDifference(logitsOf(sorted, subnet), logitsOf(tensors, subnet))).toBeLessThan(1e-4);
    const width = midChannels(16, 3);
    const means = (t: typeof tensors) => (t.get('stages.1.1.expand.norm.mean')?.data ?? new Float32Array()).slice(0, width);
    expect([...means(sorted)]).not.toEqual([...means(tensors)]);
    expect(means(sorted).toSorted()).toEqual(means(tensors).toSorted());
  });
});

describe('dense skips', () => {
  it('sum as OFAv2 defines: F4(y3 + y1) + y3 + 2·y1 + y2 at depth 4', () => {
    const f = [NaN, 3, 5, 7, 11]; // blocks as numbers: F_i(v) = f_i · v
    const y = [1];
    const s = (t: number) => skipSources(true, t).reduce((sum, i) => sum + (y[i] as number), 0);
    for (let i = 1; i <= 4; i++) y.push((f[i] as number) * s(i - 1) + s(i - 1)); // identity included
    const [, y1, y2, y3] = y as [number, number, number, number];
    expect(s(2)).toBe(y2);
    expect(s(3)).toBe(y3 + y1);
    expect(s(4)).toBe(11 * (y3 + y1) + y3 + 2 * y1 + y2);
    expect([1, 2, 3, 4].map((t) => skipSources(false, t))).toEqual([[1], [2], [3], [4]]);
  });

  it('begin to matter at depth 3, without parameters of their own', async () => {
    await selectBackend({ purpose: 'inference', threads: 1 });
    const chain: Space = { ...TINY, denseSkips: false };
    expect(parametersOf(chain)).toEqual(parametersOf(TINY));
    const tensors = randomTensors(TINY, 8);
    const block = { kernel: 3, expand: 3 };
    const net = (depth: number): Subnet => ({ resolution: 9, stages: [Array.from({ length: depth }, () => block)] });
    expect(logitsOf(tensors, net(2), chain)).toEqual(logitsOf(tensors, net(2)));
    expect(worstDifference(logitsOf(tensors, net(3), chain), logitsOf(tensors, net(3)))).toBeGreaterThan(1e-3);
  });
});

describe('the published space', () => {
  const count = (parameters: readonly { readonly shape: readonly number[] }[]) =>
    parameters.reduce((sum, { shape }) => sum + shape.reduce((product, side) => product * side, 1), 0);

  it('has the published sizes of the largest and smallest subnet at each exit', { timeout: 30_000 }, () => {
    const tensors = new Map(
      parametersOf(TINY_IMAGENET).map(({ name, shape }) => [name, { shape, data: new Float32Array(count([{ shape }])) }]),
    );
    const sizes = (net: Subnet) =>
      [1, 2, 3, 4, 5].map((exit) => {
        const cut = extractSubnet({ space: TINY_IMAGENET, tensors }, { ...net, stages: net.stages.slice(0, exit) });
        return count(tensorsOf(cut).filter(({ name }) => !/\.(mean|variance)$/.test(name)));
      });
    expect(sizes(largestSubnet(TINY_IMAGENET))).toEqual([123_672, 422_464, 1_095_024, 2_951_008, 6_639_960]);
    const smallest = smallestSubnet({ ...TINY_IMAGENET, exits: 'single' });
    expect(sizes(smallest)).toEqual([77_952, 187_288, 568_768, 1_171_992, 2_385_992]);
  });
});
