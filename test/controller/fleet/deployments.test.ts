// Desired models on a real database: what a device is told to serve, and which blobs are open to it meanwhile.
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { BlobRef } from '../../../shared/artifact.ts';
import type { Frame } from '../../../shared/blocks.ts';
import { openBlobStore, type BlobStore } from '../../../shared/node/blob-store.ts';
import type { Desired } from '../../../shared/protocol.ts';
import { createBlockServer, type BlockServer } from '../../../controller/fleet/block-server.ts';
import { createDeployments, type Deployments } from '../../../controller/fleet/deployments.ts';
import { openDatabase, type Db } from '../../../controller/store/database.ts';
import { insertManifestOnce } from '../../../controller/store/manifests.ts';
import { value } from '../../helpers/outcome.ts';

const never = new AbortController().signal;

describe('a deployment', () => {
  let dir = '';
  let db: Db;
  let blobs: BlobStore;
  let blocks: BlockServer;
  let deployments: Deployments;
  const models: BlobRef[] = [];

  beforeEach(async () => {
    dir = mkdtempSync(join(tmpdir(), 'ofa-deployments-'));
    db = value(await openDatabase(':memory:'));
    blobs = openBlobStore(join(dir, 'blobs'));
    blocks = createBlockServer(db, blobs);
    deployments = createDeployments(
      db,
      () => 1,
      (deviceId) => blocks.forget(deviceId),
    );
    await db.insertInto('device').values({ device_id: 'd', name: 'd', device_class: 'c', info_json: '{}', fleet: 'main', shard: '00', password_hash: '', enrolled_at: 0 }).execute(); // prettier-ignore
    models.length = 0;
    for (const seed of ['1', '2']) {
      const blob = value(await blobs.put(new TextEncoder().encode(`bytes of model ${seed}`)));
      const side = { name: 'x', shape: [1] };
      const manifest = { kind: 'model', opset: 17, input: side, output: side, graph: blob, weights: [], golden: { input: blob, output: blob, tolerance: 1 }, provenance: { seed } }; // prettier-ignore
      const ref = value(await blobs.put(new TextEncoder().encode(JSON.stringify(manifest))));
      await insertManifestOnce(db, ref, 0);
      models.push(ref);
    }
  });
  afterEach(async () => {
    await db.destroy();
    rmSync(dir, { recursive: true, force: true });
  });

  const model = (n: number) => models[n] as BlobRef;
  const report = (rev: number, phase: 'committed' | 'failed', active: BlobRef | null) =>
    deployments.onReported('d', {
      rev,
      phase,
      activeManifestSha256: active?.sha256 ?? null,
      serveUrl: null,
      failure: phase === 'failed' ? { reason: 'CRASHED', message: 'it ended the agent' } : null,
    });
  const ask = async ({ sha256 }: BlobRef) => {
    const frames: Frame[] = [];
    const refusal = await blocks.serve({ deviceId: 'd', handle: 1, sha256, first: 0, count: 1 }, (frame) => {
      frames.push(frame);
      return Promise.resolve(true);
    });
    return refusal?.reason ?? frames.length;
  };

  it('that failed on the device is not asked of it again when it comes back; the next one is', async () => {
    const first = deployments.deploy('d', model(0).sha256, () => void report(1, 'committed', model(0)), never);
    expect(value(await first)).toEqual({ rev: 1 });
    expect(await deployments.desired('d')).toEqual({ rev: 1, manifest: model(0) });
    const second = deployments.deploy('d', model(1).sha256, () => void report(2, 'failed', model(0)), never);
    expect(await second).toMatchObject({ ok: false, reason: 'CRASHED' });
    expect(await deployments.desired('d')).toBeNull();
    const third = deployments.deploy('d', model(0).sha256, () => void report(3, 'committed', model(0)), never);
    expect(value(await third)).toEqual({ rev: 3 });
    expect(await deployments.desired('d')).toEqual({ rev: 3, manifest: model(0) });
  });

  it('opens its blobs to the device before it is announced, though they were refused just before', async () => {
    expect(await ask(model(0))).toBe('NOT_AUTHORISED');
    const answers: (string | number)[] = [];
    const announce = async ({ manifest }: Desired) => {
      answers.push(await ask(manifest));
      await report(1, 'committed', model(0));
    };
    value(await deployments.deploy('d', model(0).sha256, (desired) => void announce(desired), never));
    expect(answers).toEqual([1]);
  });

  it('is not hidden by a look at the tables that began before it and ended after it', async () => {
    value(await deployments.deploy('d', model(0).sha256, () => void report(1, 'committed', model(0)), never));
    blocks = createBlockServer(db, blobs);
    // reads what is live, and then once more what it names: the deployment comes in between
    const early = ask(model(0));
    await deployments.deploy('d', model(1).sha256, () => undefined, AbortSignal.abort());
    await early;
    expect(await ask(model(1))).toBe(1);
  });
});
