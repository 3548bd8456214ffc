// What a device makes of desired revisions: a real transfer into a real blob store and a real model server; only waits are cut short.
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import Database from 'better-sqlite3';
import { createDeployment, type Deployment } from '../../../agent/deployment.ts';
import { startModelServer, type NodeModelServer } from '../../../agent/node/serve.ts';
import { createSlotStore } from '../../../agent/node/slot-store.ts';
import { createSlots } from '../../../agent/slots.ts';
import { createTransfer } from '../../../agent/transfer.ts';
import type { BlobRef } from '../../../shared/artifact.ts';
import { systemClock, type Clock } from '../../../shared/clock.ts';
import { openBlobStore, type BlobStore } from '../../../shared/node/blob-store.ts';
import type { UpPayload } from '../../../shared/protocol.ts';
import { value } from '../../helpers/outcome.ts';
import { writeArtifact } from '../../helpers/small-models.ts';

/** A minute without a block passes in 60 ms. */
const hasty: Clock = {
  monotonicMs: () => systemClock.monotonicMs() * 1000,
  wallMs: () => systemClock.wallMs(),
  sleep: (ms, signal) => systemClock.sleep(0.8 * (ms / 1000), signal), // rings early, as timers may
};
const never = new AbortController().signal;

describe('a desired revision', () => {
  let dir = '';
  let db: Database.Database;
  let server: NodeModelServer;
  let models: BlobStore;
  let deployment: Deployment;
  let reports: UpPayload<'reported'>[] = [];
  let onRetry = (): void => undefined;
  const phases = () => reports.map(({ rev, phase }) => `${rev} ${phase}`);

  beforeEach(async () => {
    dir = mkdtempSync(join(tmpdir(), 'ofa-deployment-'));
    db = new Database(join(dir, 'agent.db'));
    models = openBlobStore(join(dir, 'blobs'));
    server = value(await startModelServer({ runtime: 'onnxruntime-node', intraOpThreads: 1, host: '127.0.0.1', port: 0 }));
    reports = [];
    const slots = createSlots({
      store: createSlotStore(db, 'dev-1'),
      server,
      clock: systemClock,
      sourceOf: ({ manifestSha256, manifest }) => ({ kind: 'blobs', manifestSha256, manifest, blobsDir: models.dir }),
      probationMs: 300,
      onChange: () => deployment.onSlots(),
    });
    // There is no controller: what is not on the disk does not come.
    const transfer = createTransfer({ models, disk: () => Promise.resolve(null), clock: hasty, send: () => Promise.resolve(true) });
    deployment = createDeployment({
      slots,
      transfer,
      serveUrl: null,
      report: (reported) => reports.push(reported),
      clock: hasty,
      onRetry: () => onRetry(),
    });
  });
  afterEach(async () => {
    await server.close();
    db.close();
    rmSync(dir, { recursive: true, force: true });
  });

  /** The manifest as a blob of this device's store. */
  async function stored(layers: number): Promise<BlobRef> {
    const { manifest } = await writeArtifact(models.dir, { channels: 4, size: 8, layers });
    return value(await models.put(new TextEncoder().encode(JSON.stringify(manifest))));
  }
  const settled = async (what: string) => {
    while (!phases().includes(what)) await systemClock.sleep(5);
  };

  it('that cannot be fetched yet stays wanted, says why, and is deployed once it can', async () => {
    const manifest = await stored(1);
    const bytes = value(models.get(manifest.sha256));
    rmSync(models.path(manifest.sha256));
    deployment.want({ rev: 1, manifest });
    const retried = new Promise<void>((resolve) => (onRetry = resolve));
    await deployment.apply(never);
    expect(reports.at(-1)).toMatchObject({ rev: 1, phase: 'fetching', failure: { reason: 'UNREACHABLE' } });
    expect(deployment.isBehind()).toBe(false);
    await retried;
    expect(deployment.isBehind()).toBe(true);
    value(await models.put(bytes));
    await deployment.apply(never);
    await settled('1 committed');
    expect(phases()).not.toContain('1 failed');
  });

  it('does not end the probation of the one before, which is committed though the newer one never comes', async () => {
    deployment.want({ rev: 1, manifest: await stored(1) });
    await deployment.apply(never);
    expect(phases().at(-1)).toBe('1 probation');
    const lost = await stored(2);
    rmSync(models.path(lost.sha256));
    deployment.want({ rev: 2, manifest: lost });
    await deployment.apply(never);
    await settled('1 committed');
    expect((await server.check()).ok).toBe(true);
  });
});
