// Everything from a checkpoint of Once-For-All's PyTorch code to the exported model, against what that code computes itself
// (ofa-public/README.md): once in TensorFlow.js, once as files that plain ONNX Runtime loads.
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { InferenceSession, Tensor } from 'onnxruntime-node';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { subnetNamed } from '../../controller/cli/subnet-file.ts';
import { calibrate } from '../../controller/materialise/calibrate.ts';
import { exportModel } from '../../controller/materialise/export.ts';
import type { PreparedImages } from '../../controller/materialise/images.ts';
import { countMacs, countParameters, macsOfSubnet } from '../../controller/materialise/macs.ts';
import { materialise, type Supernet } from '../../controller/materialise/materialise.ts';
import { readNpyImages } from '../../controller/materialise/npy.ts';
import { supernetLogits, supernetWeights } from '../../controller/materialise/supernet-logits.ts';
import { spaceId } from '../../controller/space.ts';
import { uniformSubnet, type Subnet } from '../../controller/subnet.ts';
import { selectBackend } from '../../controller/supernet/backend.ts';
import { weightsHash, type Checkpoint } from '../../controller/supernet/checkpoint.ts';
import { extractSubnet } from '../../controller/supernet/extract.ts';
import { normsOf, type ExtractedNet } from '../../controller/supernet/extracted-net.ts';
import { importOfa } from '../../controller/supernet/ofa-import.ts';
import { ofaEntries } from '../../controller/supernet/ofa-names.ts';
import { sortChannels } from '../../controller/supernet/sorting.ts';
import { openBlobStore, type BlobStore } from '../../shared/node/blob-store.ts';
import { value } from '../helpers/outcome.ts';
import {
  expectLogits,
  inputsAt,
  largest,
  largestDifference,
  part,
  publicFile,
  readFloats,
  readJson,
  SUBNETS,
  type PublicSubnet,
} from './ofa-public.ts';

const BATCH = 32;
const SCALE = { offset: 128, divisor: 64 };

let dir: string;
let blobs: BlobStore;
let plain: Supernet;
/** Channels sorted as before the first and before the second width phase, the latter as the reference does it. */
let sorted: Supernet;
let sortedAgain: Supernet;

const imported = (name: string): Checkpoint => {
  const wishes = { name: 'ofa-public', resolutions: [32, 48, 64], mean: [0.5, 0.5, 0.5], std: [0.25, 0.25, 0.25], architecture: null };
  return value(importOfa(publicFile(name), null, wishes)).checkpoint;
};
const open = (checkpoint: Checkpoint): Supernet => ({
  checkpoint,
  weightsHash: weightsHash(checkpoint),
  weights: supernetWeights(checkpoint),
});

beforeAll(async () => {
  dir = mkdtempSync(join(tmpdir(), 'ofa-parity-'));
  blobs = openBlobStore(join(dir, 'blobs'));
  await selectBackend({ purpose: 'inference', only: 'wasm' });
  const checkpoint = imported('checkpoint.pth');
  const { space, tensors } = checkpoint;
  plain = open(checkpoint);
  sorted = open({ ...checkpoint, tensors: sortChannels(space, tensors, []) });
  sortedAgain = open({ ...checkpoint, tensors: sortChannels(space, tensors, [6, 4], { hiddenRings: false }) });
});
afterAll(() => rmSync(dir, { recursive: true, force: true }));

/** The subnet by the command's own way of reading such lists; `ks` and `e` hold dead genes. */
function subnetOf({ id, r }: PublicSubnet): Subnet {
  const { subnet } = value(subnetNamed(plain.checkpoint.space, writeSubnet(id), r));
  return subnet;
}

function writeSubnet(id: number): string {
  const file = join(dir, `s${id}.json`);
  const { ks, e, d } = SUBNETS[id] as PublicSubnet;
  writeFileSync(file, JSON.stringify({ ks, e, d }));
  return file;
}

const calibrationAt = (side: number): PreparedImages =>
  value(readNpyImages(publicFile('calib_u8.npy'), plain.checkpoint.space, side, SCALE));

async function calibratedNet({ checkpoint }: Supernet, subnet: Subnet, batchSize = BATCH): Promise<ExtractedNet> {
  const images = calibrationAt(subnet.resolution).at(subnet.resolution);
  return value(await calibrate(extractSubnet(checkpoint, subnet), images, { batchSize, threads: 1 }));
}

/** What ONNX Runtime says of the exported folder, image by image as a device would ask. */
async function exportedLogits(
  supernet: Supernet,
  subnet: Subnet,
  statistics: 'calibrated' | 'stored',
  batch = BATCH,
): Promise<Float32Array> {
  const images = calibrationAt(subnet.resolution);
  const artifact = value(await materialise(supernet, subnet, { blobs, images, statistics, calibrationBatch: batch, threads: 1 }));
  const folder = join(dir, `${artifact.subnetId}-${artifact.manifestRef.sha256.slice(0, 16)}`);
  value(await exportModel(artifact, blobs, folder));
  const session = await InferenceSession.create(join(folder, 'model.onnx'), { intraOpNumThreads: 1 });
  const { shape, count, data } = inputsAt(subnet.resolution);
  const logits: number[] = [];
  for (let i = 0; i < count; i++) {
    const image = data.subarray((i * data.length) / count, ((i + 1) * data.length) / count);
    const outputs = await session.run({ input: new Tensor('float32', image, [1, ...shape]) });
    logits.push(...(outputs['logits']?.data as Float32Array));
  }
  await session.release();
  return Float32Array.from(logits);
}

describe('a checkpoint of Once-For-All', () => {
  it('is the same supernet from the zip format and from the one before it', () => {
    const [zip, legacy] = [imported('checkpoint.pth'), imported('checkpoint_legacy.pth')];
    expect(weightsHash(legacy)).toBe(weightsHash(zip));
    expect(spaceId(legacy.space)).toBe(spaceId(zip.space));
    expect(zip.space).toMatchObject({
      stem: { channels: 8 },
      classes: 10,
      exits: 'single',
      denseSkips: false,
      head: { expand: 6, mix: 8 },
    });
    expect(zip.space.stages.map(({ channels }) => channels)).toEqual([8, 16, 24, 32, 40]);
  });

  it('has exactly the keys and shapes that the table of names expects, besides batch counters', () => {
    const there = (readJson('keys.json') as readonly [string, readonly number[], string][])
      .filter(([, , kind]) => kind === 'torch.float32')
      .map(([key, shape]) => `${key.replace('.mobile_inverted_conv.', '.conv.')} ${shape.join('x')}`);
    const expected = ofaEntries(plain.checkpoint.space, 'ofa').map(({ key, shape }) => `${key} ${shape.join('x')}`);
    expect([...expected].sort()).toEqual([...there].sort());
  });

  it.each([5, 3] as const)('gives the transformed depthwise kernels of side %d', (kernel) => {
    const subnet = uniformSubnet(plain.checkpoint.space, { resolution: 32, kernel, expand: 6, depth: 4 });
    const weight = extractSubnet(plain.checkpoint, subnet).stages[1]?.[1]?.mbConv?.depthwise.conv.weight; // block 6 = the second of stage 2
    const want = readFloats(`dw_block6_k${kernel}.npy`);
    expect(weight?.shape).toEqual(want.shape);
    expect(largestDifference(weight?.data as Float32Array, want.data) / largest(want.data)).toBeLessThan(1e-6);
  });

  it('is sorted by the same orders of channels and hidden units', () => {
    const orders = readJson('perms.json') as Readonly<Record<string, { readonly mid: readonly number[]; readonly se?: readonly number[] }>>;
    for (const [block, { mid, se }] of Object.entries(orders)) {
      const place = `stages.${Math.floor((Number(block) - 1) / 4)}.${(Number(block) - 1) % 4}`;
      const [before, after] = [plain, sorted].map(
        ({ checkpoint }) =>
          (name: string) =>
            checkpoint.tensors.get(`${place}.${name}`)?.data as Float32Array,
      );
      const gathered = (name: string, order: readonly number[]) => Float32Array.from(order, (from) => before?.(name)[from] as number);
      expect(after?.('expand.norm.mean')).toEqual(gathered('expand.norm.mean', mid));
      if (se !== undefined) expect(after?.('squeeze.reduce.bias')).toEqual(gathered('squeeze.reduce.bias', se));
    }
  });
});

describe.each(SUBNETS.map((subnet) => [subnet.id, subnet] as const))('subnet %d', (id, wanted) => {
  it('has the parameters, MACs and widths that the reference counts', () => {
    const net = extractSubnet(plain.checkpoint, subnetOf(wanted));
    expect(countParameters(net)).toBe(wanted.params);
    expect(countMacs(net)).toBe(wanted.macs_analytic);
    expect(macsOfSubnet(plain.checkpoint.space, subnetOf(wanted))).toBe(wanted.macs_profile);
    const blocks = net.stages.flat().map(({ mbConv }) => mbConv);
    expect(blocks.map((block) => block?.depthwise.conv.groups)).toEqual(wanted.widths_mid.slice(1));
    expect(blocks.map((block) => block?.squeezeExcite?.reduce.weight.shape[0] ?? 0)).toEqual(wanted.se_mid.slice(1));
  });

  it('answers the same with the statistics of the supernet', async () => {
    const subnet = subnetOf(wanted);
    const want = part('logits_before.npy', id);
    expectLogits(await supernetLogits(plain.weights, extractSubnet(plain.checkpoint, subnet), inputsAt(subnet.resolution)), want);
    expectLogits(await exportedLogits(plain, subnet, 'stored'), want);
  });

  it('has the same statistics and answers after recalibration', async () => {
    const subnet = subnetOf(wanted);
    const net = await calibratedNet(plain, subnet);
    const norms = normsOf(net);
    expect(norms.map(({ mean }) => mean.data.length)).toEqual(wanted.bn_layout.map(([, channels]) => channels));
    for (const kind of ['mean', 'variance'] as const) {
      const got = Float32Array.from(norms.flatMap((norm) => [...norm[kind].data]));
      const want = readFloats(`bn_${kind === 'mean' ? 'mean' : 'var'}_after_s${id}.npy`).data;
      expect(largestDifference(got, want) / largest(want)).toBeLessThan(1e-4);
    }
    const want = part('logits_after.npy', id);
    expectLogits(await supernetLogits(plain.weights, net, inputsAt(subnet.resolution)), want);
    expectLogits(await exportedLogits(plain, subnet, 'calibrated'), want);
  });

  it('answers the same after channel sorting, of both phases, and recalibration', async () => {
    const subnet = subnetOf(wanted);
    const inputs = inputsAt(subnet.resolution);
    for (const [supernet, name] of [
      [sorted, 'logits_reorg0.npy'],
      [sortedAgain, 'logits_reorg1.npy'],
    ] as const) {
      // prettier-ignore
      const net = extractSubnet(supernet.checkpoint, subnet);
      expectLogits(await supernetLogits(supernet.weights, net, inputs), part(name, id));
      expectLogits(await exportedLogits(supernet, subnet, 'stored'), part(name, id));
    }
    const want = part('logits_reorg0_after.npy', id);
    expectLogits(await supernetLogits(sorted.weights, await calibratedNet(sorted, subnet), inputs), want);
    expectLogits(await exportedLogits(sorted, subnet, 'calibrated'), want);
  });
});

it('statistics of uneven batches are weighted by their size', async () => {
  const subnet = subnetOf(SUBNETS[3] as PublicSubnet);
  const want = readFloats('logits_after_uneven_s3.npy').data;
  expectLogits(await supernetLogits(plain.weights, await calibratedNet(plain, subnet, 24), inputsAt(subnet.resolution)), want);
  expectLogits(await exportedLogits(plain, subnet, 'calibrated', 24), want);
});
