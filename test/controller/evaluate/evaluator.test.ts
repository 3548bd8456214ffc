// The evaluation thread as the controller uses it: a real worker, with the runtimes in it.
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { startEvaluator, type Evaluator, type EvaluatorSettings } from '../../../controller/evaluate/evaluator.ts';
import { largestSubnet, smallestSubnet, subnetId } from '../../../controller/subnet.ts';
import { weightsHash, writeCheckpoint } from '../../../controller/supernet/checkpoint.ts';
import { openBlobStore } from '../../../shared/node/blob-store.ts';
import { value } from '../../helpers/outcome.ts';
import { smallSpace } from '../materialise/random-net.ts';
import { randomCheckpoint, randomPictures } from '../materialise/random-supernet.ts';

const checkpoint = randomCheckpoint(smallSpace, 61);
let dir: string;
let settings: EvaluatorSettings;
let evaluator: Evaluator | null = null;

const start = async (): Promise<Evaluator> => (evaluator = value(await startEvaluator(settings)));

beforeAll(() => {
  dir = mkdtempSync(join(tmpdir(), 'ofa-evaluator-'));
  const checkpointPath = join(dir, 'supernet.safetensors');
  writeCheckpoint(checkpointPath, checkpoint);
  const splits = { validation: randomPictures(40, 62), test: randomPictures(30, 63), long: randomPictures(20_000, 64) };
  settings = { checkpointPath, blobsDir: join(dir, 'blobs'), calibration: randomPictures(20, 65), splits, threads: 1 };
});
afterEach(async () => {
  await evaluator?.close();
  evaluator = null;
});
afterAll(() => rmSync(dir, { recursive: true, force: true }));

describe('the evaluation thread', { timeout: 60_000 }, () => {
  it('materialises into the shared store and scores the artifact on the split asked', async () => {
    const { space, weightsHash: hash, materialise, accuracy } = await start();
    expect(space).toEqual(smallSpace);
    expect(hash).toBe(weightsHash(checkpoint));
    const artifact = value(await materialise(smallestSubnet(space)));
    expect(artifact.subnetId).toBe(subnetId(space, smallestSubnet(space)));
    expect(openBlobStore(settings.blobsDir).has(artifact.manifestRef.sha256)).toBe(true);
    const validation = value(await accuracy(artifact, 'validation'));
    expect(validation.total).toBe(40);
    expect(validation.predictions).toHaveLength(40);
    // every label of these pictures is 0
    expect(validation.correct).toBe(validation.predictions.filter((label) => label === 0).length);
    expect(value(await accuracy(artifact, 'test')).total).toBe(30);
  });

  it('leaves the thread that asks free to answer others meanwhile', async () => {
    const { materialise, accuracy } = await start();
    const artifact = value(await materialise(smallestSubnet(smallSpace)));
    let ticks = 0;
    const timer = setInterval(() => ticks++, 1);
    value(await accuracy(artifact, 'long'));
    clearInterval(timer);
    expect(ticks).toBeGreaterThan(5);
  });

  it('stops what is under way and what waits when their signals abort, and then answers on', async () => {
    const { materialise, accuracy } = await start();
    const artifact = value(await materialise(largestSubnet(smallSpace)));
    const stop = new AbortController();
    const [running, waiting, after] = [
      accuracy(artifact, 'long', { signal: stop.signal }),
      accuracy(artifact, 'long', { signal: stop.signal }),
      accuracy(artifact, 'test'),
    ];
    stop.abort();
    expect(await running).toMatchObject({ ok: false, reason: 'CANCELED' });
    expect(await waiting).toMatchObject({ ok: false, reason: 'CANCELED' });
    expect(value(await after).total).toBe(30);
    expect(await accuracy(artifact, 'test', { signal: stop.signal })).toMatchObject({ ok: false, reason: 'CANCELED' });
  });

  it('answers what is pending when it is closed, and can be started again in the same process', async () => {
    const first = await start();
    const artifact = value(await first.materialise(smallestSubnet(smallSpace)));
    const pending = first.accuracy(artifact, 'long');
    await first.close();
    expect(await pending).toMatchObject({ ok: false, reason: 'CANCELED' });
    expect(await first.accuracy(artifact, 'test')).toMatchObject({ ok: false, reason: 'CANCELED' });
    const second = await start();
    expect(value(await second.materialise(smallestSubnet(smallSpace)))).toEqual(artifact);
    expect(value(await second.accuracy(artifact, 'test')).total).toBe(30);
  });

  it('does not start on a checkpoint that is missing or no checkpoint, and says which', async () => {
    const missing = await startEvaluator({ ...settings, checkpointPath: join(dir, 'none.safetensors') });
    expect(missing).toMatchObject({ ok: false, reason: 'NOT_FOUND', message: expect.stringContaining('none.safetensors') as string });
    writeFileSync(join(dir, 'torn.safetensors'), 'torn');
    expect(await startEvaluator({ ...settings, checkpointPath: join(dir, 'torn.safetensors') })).toMatchObject({
      ok: false,
      reason: 'CORRUPT_FILE',
    });
  });

  it('tells a bug of its caller as an exception, not as a result', async () => {
    const { materialise, accuracy } = await start();
    const artifact = value(await materialise(smallestSubnet(smallSpace)));
    await expect(accuracy(artifact, 'no such split')).rejects.toThrow('no split "no such split"');
  });
});
