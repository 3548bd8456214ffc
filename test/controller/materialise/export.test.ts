// The exported folder in the hands of others: the onnx checker, and ONNX Runtime from Python.
import { spawnSync } from 'node:child_process';
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it, type TestContext } from 'vitest';
import { calibrate } from '../../../controller/materialise/calibrate.ts';
import { emitModel } from '../../../controller/materialise/emit.ts';
import { exportModel } from '../../../controller/materialise/export.ts';
import { firstImages } from '../../../controller/materialise/images.ts';
import { keepModel } from '../../../controller/materialise/keep.ts';
import { countMacs, countParameters } from '../../../controller/materialise/macs.ts';
import type { Artifact } from '../../../controller/materialise/artifact.ts';
import { openSession } from '../../../controller/materialise/session.ts';
import { smallestSubnet, subnetId, uniformSubnet } from '../../../controller/subnet.ts';
import { manifestSchema } from '../../../shared/artifact.ts';
import { openBlobStore, type BlobStore } from '../../../shared/node/blob-store.ts';
import { sha256Hex } from '../../../shared/node/hash.ts';
import { value } from '../../helpers/outcome.ts';
import { randomImages, randomNet, smallSpace } from './random-net.ts';

const space = smallSpace;
/** Debian's Python, for its package python3-onnx; and a Python that has onnxruntime and numpy. */
const CHECKER_PYTHON = '/usr/bin/python3';
const RUNTIME_PYTHON = process.env['OFA_TEST_PYTHON'] ?? 'python3';

let dir: string;
let blobs: BlobStore;
let artifact: Artifact;
let exported: string;

beforeAll(async () => {
  dir = mkdtempSync(join(tmpdir(), 'ofa-export-'));
  blobs = openBlobStore(join(dir, 'blobs'));
  const subnet = uniformSubnet(space, { resolution: 16, kernel: 5, expand: 4, depth: 3 });
  const extracted = randomNet(space, subnet, 31);
  const images = randomImages(extracted, 10, 32);
  const net = value(await calibrate(extracted, images, { batchSize: 10, threads: 1 }));
  const model = emitModel(net, { batch: 1, statistics: 'running' });
  const input = firstImages(images, 1).data;
  const session = value(await openSession(model, 1));
  const output = (await session.run(input, model.inputShape)).get('logits') as Float32Array;
  await session.release();
  const kept = value(await keepModel(blobs, net, model, { input, output }, 'calibrated', {}));
  const cost = { macs: countMacs(net), parameters: countParameters(net) };
  artifact = { subnetId: subnetId(space, subnet), subnet, weightsHash: 'random', ...kept, ...cost };
  exported = join(dir, 'model');
  value(await exportModel(artifact, blobs, exported));
});
afterAll(() => rmSync(dir, { recursive: true, force: true }));

/** Runs a script; skips the test where Python or a module of it is missing (continuous integration has all). */
function python(context: TestContext, interpreter: string, modules: string, script: string): string {
  const probe = spawnSync(interpreter, ['-c', `import ${modules}`]);
  if (probe.status !== 0) context.skip(`${interpreter} has no module ${modules}`);
  const run = spawnSync(interpreter, ['-c', script, exported], { encoding: 'utf8' });
  expect(run.stderr).toBe('');
  expect(run.status).toBe(0);
  return run.stdout;
}

describe('an exported model', { timeout: 60_000 }, () => {
  it('passes the onnx checker, with shape inference', (context) => {
    const script = "import onnx, sys; onnx.checker.check_model(sys.argv[1] + '/model.onnx', full_check=True); print('good')";
    expect(python(context, CHECKER_PYTHON, 'onnx', script)).toBe('good\n');
  });

  it('gives its golden output in ONNX Runtime from Python', (context) => {
    const script = `
import numpy, onnxruntime, sys
session = onnxruntime.InferenceSession(sys.argv[1] + '/model.onnx', providers=['CPUExecutionProvider'])
image = numpy.fromfile(sys.argv[1] + '/golden/input.bin', '<f4').reshape(session.get_inputs()[0].shape)
expected = numpy.fromfile(sys.argv[1] + '/golden/output.bin', '<f4')
got = session.run(None, {session.get_inputs()[0].name: image})[0].ravel()
print(numpy.max(numpy.abs(got - expected) / numpy.maximum(1, numpy.abs(expected))))`;
    expect(Number(python(context, RUNTIME_PYTHON, 'onnxruntime, numpy', script))).toBeLessThan(1e-5);
  });

  it('brings the manifest under its exact hash, and the subnet', () => {
    const bytes = readFileSync(join(exported, 'manifest.json'));
    expect(sha256Hex(bytes)).toBe(artifact.manifestRef.sha256);
    expect(manifestSchema.parse(JSON.parse(bytes.toString('utf8')))).toEqual(artifact.manifest);
    expect(JSON.parse(readFileSync(join(exported, 'subnet.json'), 'utf8'))).toEqual(artifact.subnet);
  });

  it('never lands in a folder that holds something', async () => {
    expect(await exportModel(artifact, blobs, exported)).toMatchObject({ ok: false, reason: 'INVALID_INPUT' });
  });

  it('is not written from a blob that has rotted', async () => {
    const store = openBlobStore(join(dir, 'rotten'));
    const net = randomNet(space, smallestSubnet(space), 33);
    const model = emitModel(net, { batch: 1, statistics: 'running' });
    const golden = { input: new Float32Array(1), output: new Float32Array(1) };
    const kept = value(await keepModel(store, net, model, golden, 'stored', {}));
    writeFileSync(store.path(kept.manifest.weights[3]?.sha256 as string), 'rot');
    expect(await exportModel({ ...artifact, ...kept }, store, join(dir, 'from-rot'))).toMatchObject({ ok: false, reason: 'HASH_MISMATCH' });
    expect(readdirSync(dir).filter((name) => name.startsWith('from-rot'))).toEqual([]);
  });

  it('is an answer with the next step where no folder can be made', async () => {
    writeFileSync(join(dir, 'file'), '');
    for (const place of [join(dir, 'file'), join(dir, 'file', 'model')]) {
      const outcome = await exportModel(artifact, blobs, place);
      expect(outcome).toMatchObject({ ok: false, reason: 'INVALID_INPUT' });
      if (!outcome.ok) expect(outcome.message).toMatch(/^Cannot write .*file.* \(ENOTDIR.*\): choose a folder that you may write to\.$/);
    }
    expect(value(await exportModel(artifact, blobs, join(dir, 'new', 'model')))).toContain('model.onnx');
  });
});

describe('keeping a model', { timeout: 60_000 }, () => {
  it('refuses a net that was not calibrated, unless stored statistics are asked for by name, which the manifest then says', async () => {
    const store = openBlobStore(join(dir, 'uncalibrated'));
    const net = randomNet(space, smallestSubnet(space), 34);
    const model = emitModel(net, { batch: 1, statistics: 'running' });
    const golden = { input: new Float32Array(1), output: new Float32Array(1) };
    expect(await keepModel(store, net, model, golden, 'calibrated', {})).toMatchObject({ ok: false, reason: 'UNCALIBRATED' });
    const kept = value(await keepModel(store, net, model, golden, 'stored', {}));
    expect(kept.manifest.provenance['statistics']).toMatch(/^stored/);
    expect(artifact.manifest.provenance['statistics']).toBe('calibrated');
  });

  it('of one net at two resolutions keeps the weights once: only the graphs differ', async () => {
    const store = openBlobStore(join(dir, 'shared'));
    const keep = async (resolution: number) => {
      const net = randomNet(space, uniformSubnet(space, { resolution, kernel: 3, expand: 3, depth: 2 }), 35);
      const model = emitModel(net, { batch: 1, statistics: 'running' });
      const golden = { input: Float32Array.of(resolution), output: new Float32Array(1) };
      return value(await keepModel(store, net, model, golden, 'stored', {})).manifest;
    };
    const [a, b] = [await keep(16), await keep(12)];
    expect(b.weights).toEqual(a.weights);
    expect(b.graph.sha256).not.toBe(a.graph.sha256);
  });
});
