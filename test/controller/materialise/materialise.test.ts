// The whole way from a supernet's tensors to an artifact, judged by the supernet itself in TensorFlow.js (WebAssembly).
import { mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { withArchitecture } from '../../../controller/architecture.ts';
import { calibrate } from '../../../controller/materialise/calibrate.ts';
import { CHECK_TOLERANCE, checkModel } from '../../../controller/materialise/check.ts';
import { emitModel, type EmittedModel } from '../../../controller/materialise/emit.ts';
import { firstImages, prepareImages, type InputImages, type PreparedImages } from '../../../controller/materialise/images.ts';
import { materialise, materialiseNet, type MaterialiseSettings, type Supernet } from '../../../controller/materialise/materialise.ts';
import { noiseImages } from '../../../controller/materialise/noise.ts';
import { openSession } from '../../../controller/materialise/session.ts';
import { supernetLogits, supernetWeights } from '../../../controller/materialise/supernet-logits.ts';
import { macsOfSubnet } from '../../../controller/materialise/macs.ts';
import { randomSubnet } from '../../../controller/search/operators.ts';
import { stream } from '../../../controller/search/rng.ts';
import { largestSubnet, smallestSubnet, subnetId, uniformSubnet, type Subnet } from '../../../controller/subnet.ts';
import { selectBackend } from '../../../controller/supernet/backend.ts';
import { weightsHash, type Checkpoint } from '../../../controller/supernet/checkpoint.ts';
import { extractSubnet } from '../../../controller/supernet/extract.ts';
import { tensorsOf, type ExtractedNet } from '../../../controller/supernet/extracted-net.ts';
import { blobsOf } from '../../../shared/artifact.ts';
import { openBlobStore } from '../../../shared/node/blob-store.ts';
import { value } from '../../helpers/outcome.ts';
import { allArchitectures, smallSpace, withAttention } from '../../helpers/spaces.ts';
import { randomCheckpoint, randomPictures } from './random-supernet.ts';

const space = smallSpace;
const smallResolution = space.resolutions[0] as number;

let dir: string;
let supernet: Supernet;
let images: PreparedImages;
let settings: MaterialiseSettings;
let stores = 0;

const open = (checkpoint: Checkpoint): Supernet => ({
  checkpoint,
  weightsHash: weightsHash(checkpoint),
  weights: supernetWeights(checkpoint),
});

beforeAll(async () => {
  dir = mkdtempSync(join(tmpdir(), 'ofa-materialise-'));
  await selectBackend({ purpose: 'inference', only: 'wasm' });
  supernet = open(randomCheckpoint(space, 51));
  images = prepareImages(randomPictures(12, 52), space);
});
beforeEach(() => {
  settings = { blobs: openBlobStore(join(dir, String(stores++))), images, statistics: 'calibrated', threads: 1 };
});
afterAll(() => rmSync(dir, { recursive: true, force: true }));

const uniform = (kernel: number, expand: number, depth: number): Subnet =>
  uniformSubnet(space, { resolution: smallResolution, kernel, expand, depth });

describe('materialising', { timeout: 60_000 }, () => {
  it.each([
    ['the smallest subnet', smallestSubnet(space)],
    ['the largest subnet', largestSubnet(space)],
    ['one with transformed kernels and sliced channels', uniform(3, 4, 2)],
  ])('gives a model that answers as the supernet does in TensorFlow.js, whole in the store: %s', async (_, subnet) => {
    const { manifest, manifestRef } = value(await materialise(supernet, subnet, settings));
    expect(blobsOf(manifest).every((ref) => settings.blobs.has(ref.sha256))).toBe(true);
    expect(settings.blobs.has(manifestRef.sha256)).toBe(true);
    expect(manifest.provenance).toMatchObject({ statistics: 'calibrated', weightsHash: supernet.weightsHash, space: space.name });
    expect(manifest.input.shape).toEqual([1, 1, subnet.resolution, subnet.resolution]);
  });

  it.each([...allArchitectures(space), ['attention', withAttention(space)] as const])(
    'gives models that answer as the supernet does, whatever the genes, in %s',
    async (_, of) => {
      const own = open(randomCheckpoint(of, 54));
      for (let draw = 0; draw < 4; draw++) {
        const subnet = draw === 0 ? largestSubnet(of) : randomSubnet(of, stream(55, draw));
        const prepared = prepareImages(randomPictures(12, 52), of);
        // the difference allowed is CHECK_TOLERANCE in any logit
        const artifact = value(await materialise(own, subnet, { ...settings, images: prepared }));
        expect(artifact.subnetId).toBe(subnetId(of, subnet));
        expect(artifact.macs).toBe(macsOfSubnet(of, subnet));
      }
    },
  );

  it('gives bitwise the same again in an empty store, and from memory where the blobs are held', async () => {
    const first = value(await materialise(supernet, uniform(5, 3, 1), settings));
    const elsewhere = { ...settings, blobs: openBlobStore(join(dir, 'elsewhere')) };
    expect(value(await materialise(supernet, uniform(5, 3, 1), elsewhere))).toEqual(first);

    const never: Supernet = { ...supernet, weights: new Map() };
    expect(value(await materialise(never, uniform(5, 3, 1), settings))).toEqual(first);
    rmSync(settings.blobs.path(first.manifest.weights[0]?.sha256 as string));
    expect(value(await materialise(supernet, uniform(5, 3, 1), settings))).toEqual(first);
    expect(settings.blobs.has(first.manifest.weights[0]?.sha256 as string)).toBe(true);
  });

  it('names the architecture by the graph alone: other weights, equal graph, other weight files', async () => {
    const other = open(randomCheckpoint(space, 53));
    const [a, b] = [
      value(await materialise(supernet, uniform(5, 4, 2), settings)).manifest,
      value(await materialise(other, uniform(5, 4, 2), settings)).manifest,
    ];
    expect(b.graph.sha256).toBe(a.graph.sha256);
    expect(b.weights.filter((ref) => a.weights.some(({ sha256 }) => sha256 === ref.sha256))).toEqual([]);
  });

  it('shares the convolutions that two subnets have in common, and the calibrated values never', async () => {
    const weightsOf = async (subnet: Subnet) =>
      value(await materialise(supernet, subnet, settings)).manifest.weights.map(({ sha256 }) => sha256);
    const [narrow, deep, small] = [await weightsOf(uniform(3, 4, 1)), await weightsOf(uniform(3, 4, 2)), await weightsOf(uniform(7, 4, 1))];
    const shared = (a: string[], b: string[]) => a.filter((hash) => b.includes(hash)).length;
    // a deeper net holds all of the shallower one but its last file, the calibrated vectors
    expect(shared(narrow, deep)).toBe(narrow.length - 1);
    // another kernel side changes the elastic depthwise weights, one a stage, and again the last file
    expect(shared(narrow, small)).toBe(narrow.length - 1 - space.stages.length);
  });

  it('is refused without images, and marks stored statistics when they are asked for by name', async () => {
    const none = { ...settings, images: prepareImages(randomPictures(0, 1), space) };
    expect(await materialise(supernet, uniform(3, 3, 1), none)).toMatchObject({ ok: false, reason: 'UNCALIBRATED' });
    const stored = value(await materialise(supernet, uniform(3, 3, 1), { ...settings, statistics: 'stored' }));
    const calibrated = value(await materialise(supernet, uniform(3, 3, 1), settings));
    expect(stored.manifest.provenance['statistics']).toMatch(/^stored/);
    expect(stored.manifestRef.sha256).not.toBe(calibrated.manifestRef.sha256);
  });
});

describe('the check against TensorFlow.js', { timeout: 60_000 }, () => {
  const subnet = uniform(5, 4, 2);
  let model: EmittedModel;
  let expected: Float32Array;

  beforeAll(async () => {
    const net = value(
      await calibrate(extractSubnet(supernet.checkpoint, subnet), images.at(smallResolution), { batchSize: 12, threads: 1 }),
    );
    model = emitModel(net, { batch: 1, statistics: 'running' });
    expected = await supernetLogits(supernet.weights, net, firstImages(images.at(smallResolution), 3));
  });

  const check = (weights: readonly Uint8Array[]) =>
    checkModel({ ...model, weights }, firstImages(images.at(smallResolution), 3), expected, 1);

  it('passes the exported model by a wide margin', async () => {
    expect(value(await check(model.weights)).maxDifference).toBeLessThan(CHECK_TOLERANCE / 2);
  });

  it('catches a difference of 0.00015 in any logit: the limit of 0.0001 is absolute', async () => {
    for (const at of expected.keys()) {
      const moved = expected.map((logit, i) => (i === at ? logit + 1.5e-4 : logit));
      const outcome = await checkModel(model, firstImages(images.at(smallResolution), 3), moved, 1);
      expect(outcome).toMatchObject({ ok: false, reason: 'OUTPUT_MISMATCH' });
      if (!outcome.ok) expect(outcome.message).toMatch(/differs .* by 0\.0001\d+ \(limit 0\.0001\): logit \d of image \d is .*report it/);
    }
  });

  it('catches a transposed weight, in whichever square or oblong matrix it was planted', async () => {
    const shapes = parametersOfNet(extractSubnet(supernet.checkpoint, subnet));
    let planted = 0;
    for (const [i, bytes] of model.weights.slice(0, -1).entries()) {
      const [rows, columns] = shapes[i] as [number, number];
      if (rows === 1 || columns === 1) continue;
      planted++;
      const weights = model.weights.map((original, j) => (j === i ? transposed(bytes, rows, columns) : original));
      expect(await check(weights)).toMatchObject({ ok: false, reason: 'OUTPUT_MISMATCH' });
    }
    expect(planted).toBeGreaterThan(20);
  });

  it('catches one changed value among the calibrated vectors, and a NaN', async () => {
    for (const wrong of [1e3, NaN]) {
      const vectors = Float32Array.from(new Float32Array(model.weights.at(-1)?.slice().buffer as ArrayBuffer));
      vectors[0] = wrong;
      const weights = [...model.weights.slice(0, -1), new Uint8Array(vectors.buffer)];
      expect(await check(weights)).toMatchObject({ ok: false, reason: 'OUTPUT_MISMATCH' });
    }
  });

  describe('of a net that enlarges rounding, here by a sharp softmax', () => {
    /** Logits of one and the same exported model, on the images and on the same with values moved in the last place. */
    async function sharpModel(sharpness: number) {
      const space = withAttention(value(withArchitecture(smallSpace, 'SE_P')));
      const { tensors } = randomCheckpoint(space, 1);
      const sharp = new Map(
        [...tensors].map(([name, tensor]) => [
          name,
          /attention\.(query|key)/.test(name) ? { ...tensor, data: tensor.data.map((x) => sharpness * x) } : tensor,
        ]),
      );
      const net = extractSubnet({ space, tensors: sharp }, largestSubnet(space));
      const some = noiseImages(space, 3).at(net.subnet.resolution);
      const calibrated = value(await calibrate(net, some, { batchSize: 3, threads: 1 }));
      const emitted = emitModel(calibrated, { batch: 1, statistics: 'running' });
      const session = value(await openSession(emitModel(calibrated, { batch: 'dynamic', statistics: 'running' }), 1));
      const logits = async (data: Float32Array) => (await session.run(data, [3, ...some.shape])).get('logits') as Float32Array;
      const exact = await logits(some.data);
      const moved = await logits(some.data.map((x, i) => x * (1 + ((i % 3) - 1) * 2 ** -23)));
      await session.release();
      return { net, emitted, some, exact, moved };
    }
    const apart = (a: Float32Array, b: Float32Array) => a.reduce((most, x, i) => Math.max(most, Math.abs(x - (b[i] as number))), 0);

    it('lets as much pass as rounding makes there, says how much, and no more', async () => {
      const { emitted, some, exact, moved } = await sharpModel(2.75);
      expect(apart(exact, moved)).toBeGreaterThan(CHECK_TOLERANCE);
      const { rounding } = value(await checkModel(emitted, some, moved, 1));
      expect(rounding).toBeGreaterThan(apart(exact, moved));
      const wrong = exact.map((x, i) => (i === 4 ? x + 1.5 * (rounding ?? 0) : x));
      expect(await checkModel(emitted, some, wrong, 1)).toMatchObject({ ok: false, message: expect.stringContaining('differs') as string });
    });

    it('tells devices how far they may be from the golden output, and all others the usual tolerance', async () => {
      const { net, emitted, some, moved } = await sharpModel(2.75);
      const prepared = { count: 3, sha256: 'noise', at: () => some };
      const toleranceWith = async (logits: Float32Array) =>
        value(await materialiseNet(net, () => Promise.resolve(logits), 'weights', { ...settings, images: prepared, calibrationBatch: 3 }))
          .manifest.golden.tolerance;
      const { rounding } = value(await checkModel(emitted, some, moved, 1));
      expect(rounding).toBeGreaterThan(1e-3);
      expect(await toleranceWith(moved)).toBe(rounding);
      expect(value(await materialise(supernet, subnet, settings)).manifest.golden.tolerance).toBe(1e-3);
    });

    it('refuses one that no two runtimes can agree on, and says so', async () => {
      const { emitted, some, moved } = await sharpModel(100);
      expect(await checkModel(emitted, some, moved, 1)).toMatchObject({
        ok: false,
        reason: 'OUTPUT_MISMATCH',
        message: expect.stringMatching(/cannot be checked.*no two runtimes give the same answer.*take another subnet/) as string,
      });
    });
  });

  it('stops materialising: nothing is kept of a model that its judge contradicts', async () => {
    const liar = (net: ExtractedNet, some: InputImages) =>
      supernetLogits(supernet.weights, net, some).then((logits) => logits.map((x) => x + 0.01));
    const outcome = await materialiseNet(extractSubnet(supernet.checkpoint, subnet), liar, supernet.weightsHash, settings);
    expect(outcome).toMatchObject({ ok: false, reason: 'OUTPUT_MISMATCH', message: expect.stringContaining('limit 0.0001') as string });
    const files = readdirSync(settings.blobs.dir, { recursive: true, withFileTypes: true }).filter((entry) => entry.isFile());
    expect(files).toEqual([]);
  });
});

/** [rows, columns] of each weight in file order: [out, in / groups] of a 1x1 convolution; other convolutions as [out, the rest]. */
function parametersOfNet(net: ExtractedNet): [number, number][] {
  return tensorsOf(net)
    .filter(({ shape }) => shape.length > 1)
    .map(({ shape, data }) => [shape[0] as number, data.length / (shape[0] as number)]);
}

function transposed(bytes: Uint8Array, rows: number, columns: number): Uint8Array {
  const from = new Float32Array(bytes.slice().buffer);
  const to = Float32Array.from(from, (_, i) => from[(i % rows) * columns + Math.floor(i / rows)] as number);
  return new Uint8Array(to.buffer);
}
