// Accuracy of a kept model, on labels that are known because plain loops gave them.
import { streamOf } from '../../../controller/materialise/images.ts';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { evaluateAccuracy, type AccuracyRequest } from '../../../controller/evaluate/accuracy.ts';
import { emitModel } from '../../../controller/materialise/emit.ts';
import { keepModel } from '../../../controller/materialise/keep.ts';
import { uniformSubnet } from '../../../controller/subnet.ts';
import { openBlobStore } from '../../../shared/node/blob-store.ts';
import { value } from '../../helpers/outcome.ts';
import { randomImages, randomNet, smallSpace } from '../materialise/random-net.ts';
import { referenceForward } from '../materialise/reference.ts';

const space = smallSpace;
let dir: string;
let request: AccuracyRequest;
let classes: number[];

beforeAll(async () => {
  dir = mkdtempSync(join(tmpdir(), 'ofa-accuracy-'));
  const net = randomNet(space, uniformSubnet(space, { resolution: 12, kernel: 3, expand: 3, depth: 1, stages: 2 }), 41);
  const model = emitModel(net, { batch: 1, statistics: 'running' });
  const blobs = openBlobStore(dir);
  const golden = { input: new Float32Array(1), output: new Float32Array(1) };
  const { manifest } = value(await keepModel(blobs, net, model, golden, 'stored', {}));
  // 60 images: three whole batches and a part of one
  const images = randomImages(net, 60, 42);
  classes = referenceForward(net, images.data, images.count, 'running').logits.map((logits) => logits.indexOf(Math.max(...logits)));
  request = { manifest, blobs, images: streamOf(images), labels: classes, threads: 1 };
});
afterAll(() => rmSync(dir, { recursive: true, force: true }));

describe('accuracy', { timeout: 60_000 }, () => {
  it('counts the images whose largest logit is at their label, and tells each prediction', async () => {
    const labels = classes.map((label, i) => (i % 4 === 0 ? (label + 1) % space.classes : label));
    const accuracy = value(await evaluateAccuracy({ ...request, labels }));
    expect(accuracy).toEqual({ correct: 45, total: 60, predictions: Uint16Array.from(classes) });
  });

  it('stops between two batches when asked to', async () => {
    const outcome = await evaluateAccuracy({ ...request, signal: AbortSignal.abort() });
    expect(outcome).toMatchObject({ ok: false, reason: 'CANCELED' });
  });

  it('refuses images of another resolution and labels of another number, naming both', async () => {
    const other = await evaluateAccuracy({ ...request, images: { ...request.images, shape: [1, 16, 16] } });
    expect(other).toMatchObject({ ok: false, reason: 'INVALID_INPUT', message: expect.stringContaining('1 x 12 x 12') as string });
    const fewer = await evaluateAccuracy({ ...request, labels: classes.slice(1) });
    expect(fewer).toMatchObject({
      ok: false,
      reason: 'INVALID_INPUT',
      message: expect.stringContaining('60 images have 59 labels') as string,
    });
  });

  it('is not found with a weight missing', async () => {
    rmSync(request.blobs.path(request.manifest.weights[0]?.sha256 as string));
    expect(await evaluateAccuracy(request)).toMatchObject({ ok: false, reason: 'UNKNOWN_BLOB' });
  });
});
