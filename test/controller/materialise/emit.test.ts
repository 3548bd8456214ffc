// The emitted graph in real ONNX Runtime against plain loops, and what its files share.
import { describe, expect, it } from 'vitest';
import { onnxRuntimeWeb } from '../../../agent/node/runtime/onnxruntime-web.ts';
import { emitModel } from '../../../controller/materialise/emit.ts';
import { withDynamicBatch } from '../../../controller/materialise/graph.ts';
import { openSession } from '../../../controller/materialise/session.ts';
import { withArchitecture } from '../../../controller/architecture.ts';
import { randomSubnet } from '../../../controller/search/operators.ts';
import { stream } from '../../../controller/search/rng.ts';
import { parseSpace, type Space } from '../../../controller/space.ts';
import { largestSubnet, smallestSubnet, uniformSubnet, type Subnet } from '../../../controller/subnet.ts';
import { normsOf, type ExtractedNet } from '../../../controller/supernet/extracted-net.ts';
import { sha256Hex } from '../../../shared/node/hash.ts';
import { value } from '../../helpers/outcome.ts';
import { allArchitectures, withAttention } from '../../helpers/spaces.ts';
import { randomImages, randomNet, smallSpace } from './random-net.ts';
import { referenceForward } from './reference.ts';

const space = smallSpace;
/** Everything that the small space lacks: three input channels, a strided stem, no squeeze-and-excitation, no dense skips, one exit. */
const other = value(
  parseSpace(
    {
      ...space,
      name: 'other',
      inputChannels: 3,
      mean: [0.5, 0.5, 0.5],
      std: [0.2, 0.2, 0.2],
      stem: { channels: 8, stride: 2 },
      stages: [
        { channels: 8, stride: 1, activation: 'h_swish', squeezeExcite: false },
        { channels: 16, stride: 2, activation: 'relu', squeezeExcite: false },
      ],
      depths: [2, 3, 4],
      resolutions: [17],
      exits: 'single',
      denseSkips: false,
    },
    'other',
  ),
);

async function logitsOf(net: ExtractedNet, images: Float32Array, batch: number): Promise<Float32Array> {
  const model = emitModel(net, { batch, statistics: 'running' });
  const session = value(await openSession(model, 1));
  const outputs = await session.run(images, [batch, ...model.inputShape.slice(1)]);
  await session.release();
  return outputs.get('logits') as Float32Array;
}

function expectClose(got: ArrayLike<number>, expected: readonly number[], tolerance: number): void {
  expect(got.length).toBe(expected.length);
  expected.forEach((want, i) => expect(Math.abs((got[i] as number) - want)).toBeLessThanOrEqual(tolerance * Math.max(1, Math.abs(want))));
}

describe('an emitted model', { timeout: 60_000 }, () => {
  it.each<[string, Space, Subnet]>([
    ['the smallest net', space, smallestSubnet(space)],
    ['the largest net, with dense skips and squeeze-and-excitation', space, { ...largestSubnet(space), resolution: 16 }],
    [
      'a colour net with a strided stem, plain skips and an odd side',
      other,
      uniformSubnet(other, { resolution: 17, kernel: 5, expand: 4, depth: 4 }),
    ],
  ])('gives in ONNX Runtime what plain loops give: %s', async (_, of, subnet) => {
    const net = randomNet(of, subnet, 7);
    const images = randomImages(net, 2, 3);
    expectClose(await logitsOf(net, images.data, 2), referenceForward(net, images.data, 2, 'running').logits.flat(), 5e-5);
  });

  it.each([...allArchitectures(space).filter(([, { parallel }]) => parallel !== undefined), ['attention', withAttention(space)] as const])(
    'gives in ONNX Runtime what plain loops give with parallel blocks, whatever the masks, on odd maps too: %s',
    async (_, of) => {
      for (let draw = 0; draw < 6; draw++) {
        const net = randomNet(of, { ...randomSubnet(of, stream(7, draw)), resolution: 9 + draw }, draw);
        const images = randomImages(net, 2, 3);
        expectClose(await logitsOf(net, images.data, 2), referenceForward(net, images.data, 2, 'running').logits.flat(), 5e-5);
      }
    },
  );

  it('gives the same in onnxruntime-web as in onnxruntime-node', async () => {
    const net = randomNet(space, largestSubnet(space), 8);
    const images = randomImages(net, 1, 9);
    const { graph, weights } = emitModel(net, { batch: 1, statistics: 'running' });
    const runtime = value(await onnxRuntimeWeb());
    const externalData = weights.map((data, i) => ({ path: `t/${i}`, data }));
    const session = value(await runtime.load({ graph, externalData }, { intraOpThreads: 1 }));
    session.setInput(images.data);
    await session.run();
    expectClose(session.output(), [...(await logitsOf(net, images.data, 1))], 5e-5);
    await session.release();
  });

  it.each([
    ['plain', space],
    ['parallel', value(withArchitecture(space, 'EE_DP'))],
  ])('with batch statistics normalises by its batch and gives mean and biased variance of each batch norm: %s blocks', async (_, of) => {
    const net = randomNet(of, uniformSubnet(of, { resolution: 16, kernel: 3, expand: 3, depth: 2, stages: 2 }), 5);
    const images = randomImages(net, 3, 4);
    const model = emitModel(net, { batch: 'dynamic', statistics: 'batch' });
    const session = value(await openSession(model, 1));
    const outputs = await session.run(images.data, [3, ...images.shape]);
    await session.release();
    const reference = referenceForward(net, images.data, 3, 'batch');
    expectClose(outputs.get('logits') as Float32Array, reference.logits.flat(), 1e-4);
    normsOf(net).forEach((norm, i) => {
      const { mean, variance } = reference.statistics[i] as (typeof reference.statistics)[number];
      expectClose(outputs.get(`${norm.mean.name}.batch`) as Float32Array, [...mean], 1e-5);
      expectClose(outputs.get(`${norm.variance.name}.batch`) as Float32Array, [...variance], 1e-5);
    });
  });

  it('has one graph for one architecture, whatever the weights: it holds no value and no hash', () => {
    const [a, b] = [1, 2].map((seed) => emitModel(randomNet(space, largestSubnet(space), seed), { batch: 1, statistics: 'running' }));
    expect(sha256Hex(a?.graph as Uint8Array)).toBe(sha256Hex(b?.graph as Uint8Array));
    expect(a?.weights.map(sha256Hex)).not.toEqual(b?.weights.map(sha256Hex));
    expect((a?.graph as Uint8Array).length).toBeLessThan(64 * 1024);
  });

  it('at another batch size names the same weight files', async () => {
    const net = randomNet(space, smallestSubnet(space), 3);
    const images = randomImages(net, 5, 1);
    const one = emitModel(net, { batch: 1, statistics: 'running' });
    const session = value(await openSession({ graph: withDynamicBatch(one.graph), weights: one.weights }, 1));
    const outputs = await session.run(images.data, [5, ...images.shape]);
    await session.release();
    expectClose(outputs.get('logits') as Float32Array, referenceForward(net, images.data, 5, 'running').logits.flat(), 1e-5);
  });

  it('is refused with one sentence when a weight file is cut short', async () => {
    const model = emitModel(randomNet(space, smallestSubnet(space), 3), { batch: 1, statistics: 'running' });
    const weights = model.weights.map((bytes, i) => (i === 1 ? bytes.subarray(4) : bytes));
    const opened = await openSession({ graph: model.graph, weights }, 1);
    expect(opened).toMatchObject({ ok: false, reason: 'CORRUPT_FILE' });
  });
});
