// Block transfer into a real blob store, from a controller's real block server, in one process: the wire between them drops, damages and delays.
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { createTransfer, diskShortage, type Transfer } from '../../../agent/transfer.ts';
import { createBlockServer, type BlockServer } from '../../../controller/fleet/block-server.ts';
import { openDatabase, type Db } from '../../../controller/store/database.ts';
import { insertDesired } from '../../../controller/store/deployments.ts';
import { insertManifestOnce } from '../../../controller/store/manifests.ts';
import { BLOCK_BYTES, blobsOf, type BlobRef } from '../../../shared/artifact.ts';
import { decodeFrame, encodeFrame, type Frame } from '../../../shared/blocks.ts';
import { systemClock, type Clock } from '../../../shared/clock.ts';
import { openBlobStore, refOf, type BlobStore } from '../../../shared/node/blob-store.ts';
import { storeModel } from '../../helpers/fleet-models.ts';
import { value } from '../../helpers/outcome.ts';

const SIZES = [10, BLOCK_BYTES, BLOCK_BYTES + 1, 5 * BLOCK_BYTES - 7];
const never = new AbortController().signal;
/** Waits are cut to a twentieth. */
const hasty: Clock = {
  monotonicMs: () => systemClock.monotonicMs() * 20,
  wallMs: () => systemClock.wallMs(),
  sleep: (ms, signal) => systemClock.sleep(ms / 20, signal),
};

describe('fetching a model', () => {
  let dir = '';
  let db: Db;
  let here: BlobStore;
  let there: BlobStore;
  let server: BlockServer;
  let manifest: BlobRef;
  let blobs: readonly BlobRef[] = [];
  /** What the wire does to each frame: null drops it. */
  let wire: (frame: Uint8Array, n: number) => Uint8Array | null;
  let asked = 0;
  let onWay = 0;
  let mostOnWay = 0;

  beforeEach(async () => {
    dir = mkdtempSync(join(tmpdir(), 'ofa-transfer-'));
    db = value(await openDatabase(':memory:'));
    there = openBlobStore(join(dir, 'controller'));
    here = openBlobStore(join(dir, 'agent'));
    const model = await storeModel(there, 5, SIZES);
    blobs = blobsOf(model.manifest);
    manifest = refOf(value(there.get(model.manifestSha256)));
    await db.insertInto('device').values({ device_id: 'dev-a', name: 'a', device_class: 'c', info_json: '{}', fleet: 'main', shard: '00', password_hash: '', enrolled_at: 0 }).execute(); // prettier-ignore
    await insertManifestOnce(db, manifest, 0);
    await insertDesired(db, 'dev-a', manifest.sha256, 0);
    server = createBlockServer(db, there);
    wire = (frame) => frame;
    [asked, onWay, mostOnWay] = [0, 0, 0];
  });
  afterEach(async () => {
    await db.destroy();
    rmSync(dir, { recursive: true, force: true });
  });

  function connect(
    deviceId = 'dev-a',
    models: BlobStore = here,
    disk = () => Promise.resolve<{ freeBytes: number; totalBytes: number } | null>(null),
  ): Transfer {
    const transfer: Transfer = createTransfer({
      models,
      disk,
      clock: hasty,
      send(request) {
        asked++;
        mostOnWay = Math.max(mostOnWay, ++onWay);
        const send = (frame: Frame) => {
          const bytes = wire(encodeFrame(frame), asked);
          const got = bytes === null ? null : decodeFrame(bytes);
          if (got?.ok === true) transfer.onFrame(got.value);
          return Promise.resolve(true);
        };
        setImmediate(() => {
          void server.serve({ ...request, deviceId }, send).then((refusal) => {
            onWay--;
            if (refusal !== null) transfer.onControl(refusal);
          });
        });
        return Promise.resolve(true);
      },
    });
    return transfer;
  }
  const blockCount = () => SIZES.reduce((sum, bytes) => sum + Math.ceil(bytes / BLOCK_BYTES), 0) + 3;

  it('brings every blob that the manifest names, four blocks on the way at most', async () => {
    expect((await connect().fetch(manifest, never, () => undefined)).ok).toBe(true);
    for (const { sha256 } of blobs) expect(value(here.get(sha256))).toEqual(value(there.get(sha256)));
    expect(mostOnWay).toBeLessThanOrEqual(4);
  });

  it('asks for nothing that is held already', async () => {
    await connect().fetch(manifest, never, () => undefined);
    asked = 0;
    expect((await connect().fetch(manifest, never, () => undefined)).ok).toBe(true);
    expect(asked).toBe(0);
  });

  it('asks again for what was lost or damaged on the way, and for no more than that', async () => {
    let lost = 0;
    wire = (frame, n) => {
      if (n % 5 === 0) return (lost++, null);
      if (n % 7 !== 0) return frame;
      lost++;
      return Uint8Array.from(frame, (byte, i) => (i === 20 ? byte ^ 1 : byte));
    };
    expect((await connect().fetch(manifest, never, () => undefined)).ok).toBe(true);
    expect(lost).toBeGreaterThan(1);
    // manifest, three lists for the blobs of more than one block, and the blocks
    expect(asked).toBe(blockCount() + 1 + 2 + lost);
    for (const { sha256 } of blobs) expect(here.has(sha256)).toBe(true);
  });

  it('gives a block up that is wrong behind a right checksum, and the blob does not come to exist', async () => {
    const big = blobs.find(({ bytes }) => bytes === SIZES[3]) as BlobRef;
    wire = (bytes) => {
      const frame = value(decodeFrame(bytes));
      return frame.bytes.length === (SIZES[3] as number) % BLOCK_BYTES
        ? encodeFrame({ ...frame, bytes: frame.bytes.map((b) => b ^ 1) })
        : bytes;
    };
    expect(await connect().fetch(manifest, never, () => undefined)).toMatchObject({ ok: false, reason: 'HASH_MISMATCH' });
    expect(here.has(big.sha256)).toBe(false);
  });

  it('resumes: what had come before an interruption is not fetched again', async () => {
    const cut = new AbortController();
    wire = (frame, n) => {
      if (n === 8) cut.abort();
      return frame;
    };
    expect(await connect().fetch(manifest, cut.signal, () => undefined)).toMatchObject({ ok: false, reason: 'CANCELED' });
    wire = (frame) => frame;
    expect((await connect('dev-a', openBlobStore(join(dir, 'agent'))).fetch(manifest, never, () => undefined)).ok).toBe(true);
    expect(asked).toBeLessThanOrEqual(blockCount() + 1 + 2 + 4 + 1);
    for (const { sha256 } of blobs) expect(value(here.get(sha256))).toEqual(value(there.get(sha256)));
  });

  it('is refused to a device for which no manifest is live', async () => {
    expect(await connect('dev-b').fetch(manifest, never, () => undefined)).toMatchObject({ ok: false, reason: 'NOT_AUTHORISED' });
  });

  it('is given up when nothing comes for a minute', async () => {
    wire = () => null;
    expect(await connect().fetch(manifest, never, () => undefined)).toMatchObject({ ok: false, reason: 'UNREACHABLE' });
  });

  it('is given up as BUSY, not as a controller that is away, where the controller says so for a minute', async () => {
    const transfer: Transfer = createTransfer({
      models: here,
      disk: () => Promise.resolve(null),
      clock: hasty,
      send({ handle }) {
        setImmediate(() => transfer.onControl({ handle, reason: 'BUSY', message: 'too many blocks are asked for', retryAfterMs: 5000 }));
        return Promise.resolve(true);
      },
    });
    expect(await transfer.fetch(manifest, never, () => undefined)).toMatchObject({ ok: false, reason: 'BUSY' });
  });

  it('does not begin where the disk has no room, and says how much is needed', async () => {
    const tight = () => Promise.resolve({ freeBytes: 100 * 2 ** 20, totalBytes: 2 ** 40 });
    const got = await connect('dev-a', here, tight).fetch(manifest, never, () => undefined);
    expect(got).toMatchObject({ ok: false, reason: 'LOW_DISK' });
    if (!got.ok) expect(got.message).toMatch(/100 MiB are free.*1025 MiB are needed/);
    expect(await diskShortage(() => Promise.resolve({ freeBytes: 2 ** 31, totalBytes: 2 ** 40 }), 0)).toBeNull();
  });
});
