import * as tf from '@tensorflow/tfjs';
import fc from 'fast-check';
import { beforeAll, describe, expect, it } from 'vitest';
import type { Space } from '../../../controller/space.ts';
import { largestSubnet, smallestSubnet, type Subnet } from '../../../controller/subnet.ts';
import { selectBackend } from '../../../controller/supernet/backend.ts';
import { extractSubnet } from '../../../controller/supernet/extract.ts';
import { convNormsOf, skipSources, tensorsOf, withStatistics } from '../../../controller/supernet/extracted-net.ts';
import { isTrained, parametersOf } from '../../../controller/supernet/parameters.ts';
import { sortChannels } from '../../../controller/supernet/sorting.ts';
import { forward } from '../../../controller/supernet/supernet.ts';
import { drawSubnet } from '../../../controller/supernet/training/phases.ts';
import { randomStream } from '../../../controller/supernet/training/random.ts';
import { midChannels } from '../../../controller/supernet/widths.ts';
import { forwardExtracted } from './forward-extracted.ts';
import { randomInput, randomTensors, TINY, toWeights } from './tiny.ts';

const CHOICES = { kernels: TINY.kernels, heights: [1, 2], depths: TINY.depths, expands: TINY.expands };

/** OFAv2's Tiny ImageNet space at width multiplier 1.0 (arXiv 2302.01888). */
const TINY_IMAGENET: Space = {
  name: 'ofav2-64',
  inputChannels: 3,
  classes: 200,
  mean: [0.48, 0.448, 0.398],
  std: [0.277, 0.269, 0.282],
  resolutions: [48, 56, 64],
  stem: { channels: 16, stride: 2 },
  stages: [
    { channels: 24, stride: 2, activation: 'relu', squeezeExcite: false },
    { channels: 40, stride: 2, activation: 'relu', squeezeExcite: true },
    { channels: 80, stride: 2, activation: 'h_swish', squeezeExcite: false },
    { channels: 112, stride: 1, activation: 'h_swish', squeezeExcite: true },
    { channels: 160, stride: 2, activation: 'h_swish', squeezeExcite: true },
  ],
  kernels: [3, 5, 7],
  expands: [3, 4, 6],
  depths: [2, 3, 4],
  exits: 'early',
  denseSkips: true,
  head: { expand: 6, mix: 8 },
};

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

  it('answers the same both ways, whatever its genes', { timeout: 60_000 }, () => {
    fc.assert(
      fc.property(fc.integer(), fc.constantFrom(...TINY.resolutions), (seed, resolution) => {
        const tensors = randomTensors(TINY, seed);
        const subnet = drawSubnet(CHOICES, resolution, randomStream(seed, 'genes'));
        const net = extractSubnet({ space: TINY, tensors }, subnet);
        const images = randomInput(3, resolution, 21).dataSync<'float32'>(); // one channel: NHWC is NCHW
        expect(worstDifference(forwardExtracted(net, images, 3), logitsOf(tensors, subnet))).toBeLessThan(1e-4);
      }),
      { numRuns: 25, seed: 1 },
    );
  });

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
    const before = convNormsOf(net).map(({ norm }) => norm.mean.data);
    const calibrated = withStatistics(net, 'calibrated', ({ mean, variance }) => ({
      mean: new Float32Array(mean.data.length).fill(9),
      variance: new Float32Array(variance.data.length).fill(2),
    }));
    expect(calibrated.statistics).toBe('calibrated');
    expect(convNormsOf(calibrated).every(({ norm }) => norm.mean.data.every((value) => value === 9))).toBe(true);
    convNormsOf(net).forEach(({ norm }, i) => expect(norm.mean.data).toBe(before[i]));
  });

  it('sorts channels without changing what the largest net computes', () => {
    const tensors = randomTensors(TINY, 4);
    const sorted = sortChannels(TINY, tensors, []);
    const net = largestSubnet(TINY);
    expect(worstDifference(logitsOf(sorted, net), logitsOf(tensors, net))).toBeLessThan(1e-4);
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

  it('has the published numbers of trained parameters', () => {
    expect(count(parametersOf(TINY_IMAGENET).filter(isTrained))).toBe(8_208_032);
    expect(count(parametersOf({ ...TINY_IMAGENET, exits: 'single' }).filter(isTrained))).toBe(6_654_080);
  });

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
