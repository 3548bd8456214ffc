// The agent's core on a real database and blob store, in hasty time. The controller and the sensors of the machine are played by this file.
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type Database from 'better-sqlite3';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { createAgent } from '../../../agent/agent.ts';
import { createGates } from '../../../agent/gates.ts';
import { quietMs } from '../../../agent/job-run.ts';
import { createOutbox, openAgentDatabase } from '../../../agent/node/outbox.ts';
import { createSlotStore } from '../../../agent/node/slot-store.ts';
import { startModelServer, type NodeModelServer } from '../../../agent/node/serve.ts';
import { createSlots } from '../../../agent/slots.ts';
import type { Bus, BusEvents } from '../../../shared/bus.ts';
import { systemClock, type Clock } from '../../../shared/clock.ts';
import { uuidV7 } from '../../../shared/ids.ts';
import { DEFAULT_PLAN } from '../../../shared/measurement.ts';
import { openBlobStore, type BlobStore } from '../../../shared/node/blob-store.ts';
import { ok } from '../../../shared/outcome.ts';
import type { DownMessage, Grant, UpKind } from '../../../shared/protocol.ts';
import { deviceInfo } from '../../helpers/devices.ts';
import { measurementOf } from '../../helpers/measurements.ts';
import { value } from '../../helpers/outcome.ts';
import { writeArtifact } from '../../helpers/small-models.ts';

const hasty: Clock = {
  monotonicMs: () => systemClock.monotonicMs() * 500,
  wallMs: () => systemClock.wallMs(),
  sleep: (ms, signal) => systemClock.sleep(ms / 500, signal),
};
/** Of more samples than a page of the database holds. */
const OUTCOME = { ...measurementOf(2), samplesMs: Array.from({ length: 2000 }, () => 2.123456) };

describe('an agent', () => {
  let dir = '';
  let db: Database.Database;
  let models: BlobStore;
  let server: NodeModelServer;
  let stop: AbortController;
  let running: Promise<void>;
  let temperature: number;
  let charge: number;
  /** What happens to the device once it has asked for work. */
  let onAsked: () => void;
  /** What the controller grants next. */
  let grants: Grant[];
  let sent: { readonly kind: UpKind; readonly payload: unknown }[];
  const said: string[] = [];

  /** A controller that welcomes, grants what there is, and acknowledges every update. */
  function controller(events: BusEvents): Bus {
    const fields = { v: 0, ts: 0, mono: 0, boot: '', sid: uuidV7(1), seq: 0, ttlMs: null };
    const answer = (corr: string | null, message: Pick<DownMessage, 't' | 'p'>) =>
      setImmediate(() => events.onMessage({ ...fields, id: uuidV7(1), corr, ...message } as DownMessage));
    setImmediate(() => events.onUp());
    return {
      isUp: () => true,
      newId: () => uuidV7(Date.now()),
      rebirth: () => undefined,
      close: () => Promise.resolve(),
      send(kind, payload, options) {
        const id = options?.id ?? uuidV7(Date.now());
        sent.push({ kind, payload });
        if (kind === 'hello') answer(id, { t: 'welcome', p: { held: [], desired: null, serverTimeMs: 0, heartbeatMs: 5000 } });
        if (kind === 'job-next') {
          const grant = grants.shift();
          if (grant !== undefined) onAsked();
          answer(id, { t: 'job-grant', p: grant === undefined ? { none: true, retryAfterMs: 5000 } : { none: false, grant } });
        }
        if (kind === 'job-update' && options?.id !== undefined) {
          const { jobId, attempt } = payload as Grant;
          answer(null, { t: 'job-ack', p: { ackOf: id, jobId, attempt, verdict: 'accepted', version: 1 } });
        }
        return Promise.resolve(id);
      },
    };
  }

  beforeEach(async () => {
    dir = mkdtempSync(join(tmpdir(), 'ofa-agent-'));
    db = value(openAgentDatabase(join(dir, 'agent.db')));
    models = openBlobStore(join(dir, 'blobs'));
    server = value(await startModelServer({ runtime: 'onnxruntime-node', intraOpThreads: 1, host: '127.0.0.1', port: 0 }));
    [temperature, charge, grants, sent] = [40, 80, [], []];
    onAsked = () => undefined;
    said.length = 0;
    stop = new AbortController();
    const slots = createSlots({
      store: createSlotStore(db, 'dev-1'),
      server,
      clock: hasty,
      sourceOf: ({ manifestSha256, manifest }) => ({ kind: 'blobs', manifestSha256, manifest, blobsDir: models.dir }),
      probationMs: 3000,
      onChange: () => undefined,
    });
    running = createAgent({
      connect: controller,
      info: deviceInfo(null),
      clock: hasty,
      random: () => 0,
      outbox: createOutbox(db, Date.now, () => undefined),
      models,
      disk: () => Promise.resolve(null),
      measurer: { measure: () => Promise.resolve(ok(OUTCOME)) },
      turns: { acquire: () => Promise.resolve({ release: () => undefined }) },
      slots,
      bindSlots: () => undefined,
      serveUrl: null,
      infer: (input) => server.infer(input),
      gates: createGates({
        clock: hasty,
        maxTemperatureC: 85,
        waitsForOthers: false,
        read: () => ({ temperatureC: temperature, slowed: null, battery: { status: 'Discharging', percent: charge }, cpu: null }),
        readTemperatureC: () => temperature,
      }),
      log: (line) => said.push(line),
      onDown: () => undefined,
    }).run(stop.signal);
  });
  afterEach(async () => {
    stop.abort();
    await running;
    await server.close();
    db.close();
    rmSync(dir, { recursive: true, force: true });
  });

  const of = (kind: UpKind) => sent.filter((message) => message.kind === kind).map(({ payload }) => payload);

  it('asks for no work while it is too hot, tells why with its heartbeat, and asks again once it has cooled', async () => {
    temperature = 91;
    await vi.waitFor(() => expect(of('hb').at(-1)).toMatchObject({ notReady: { reason: 'TOO_HOT' } }), 5000);
    const asked = of('job-next').length;
    await systemClock.sleep(100);
    expect(of('job-next')).toHaveLength(asked);
    expect(said.join()).toContain('91 °C, the limit is 85 °C');
    temperature = 60;
    await vi.waitFor(() => expect(of('job-next').length).toBeGreaterThan(asked), 5000);
  });

  it('asks for no work while its battery is low, and says so', async () => {
    charge = 29;
    await vi.waitFor(() => expect(of('hb').at(-1)).toMatchObject({ notReady: { reason: 'LOW_BATTERY' } }), 5000);
    charge = 31;
    await vi.waitFor(() => expect(of('hb').at(-1)).toMatchObject({ notReady: null }), 5000);
  });

  it('gives a job back that it got while it became too hot: not ready, again in so long, which costs no attempt', async () => {
    const { manifest } = await writeArtifact(models.dir, { channels: 4, size: 8, layers: 1 });
    const ref = value(await models.put(new TextEncoder().encode(JSON.stringify(manifest))));
    onAsked = () => (temperature = 91);
    const job = { jobId: uuidV7(1), attempt: 1 };
    grants.push({ ...job, version: 1, kind: 'measure', leaseMs: 1e6, deadlineMs: 1e6, manifest: ref, plan: DEFAULT_PLAN });
    const rejected = expect.objectContaining({ phase: 'reject', ...job, reason: 'TOO_HOT', retryAfterMs: 15_000 }) as unknown;
    await vi.waitFor(() => expect(of('job-update')).toContainEqual(rejected), 5000);
    expect(of('job-update')).not.toContainEqual(expect.objectContaining({ phase: 'accepted' }));
  });

  it('outlives a full disk: it takes no work, confesses the job that it could not write, and goes on when there is room', async () => {
    const { manifest } = await writeArtifact(models.dir, { channels: 4, size: 8, layers: 1 });
    const ref = value(await models.put(new TextEncoder().encode(JSON.stringify(manifest))));
    // SQLite's own limit: the file may not grow any more
    db.pragma(`max_page_count = ${String(db.pragma('page_count', { simple: true }))}`);
    const grant: Grant = {
      jobId: uuidV7(1),
      attempt: 1,
      version: 1,
      kind: 'measure',
      leaseMs: 1e6,
      deadlineMs: 1e6,
      manifest: ref,
      plan: DEFAULT_PLAN,
    };
    grants.push(grant);
    await vi.waitFor(() => expect(said.join()).toContain('the disk is full (SQLITE_FULL)'), 10_000);
    expect(of('job-update')).not.toContainEqual(expect.objectContaining({ phase: 'result' }));
    db.pragma('max_page_count = 100000');
    await vi.waitFor(() => expect(of('job-update')).toContainEqual({ phase: 'interrupted', jobId: grant.jobId, attempt: 1 }), 10_000);
    grants.push({ ...grant, attempt: 2 });
    const result = expect.objectContaining({ phase: 'result', attempt: 2 }) as unknown;
    await vi.waitFor(() => expect(of('job-update')).toContainEqual(result), 10_000);
  });

  it('announces a silence that covers the energy windows where energy is asked for', () => {
    const latency = quietMs(DEFAULT_PLAN);
    expect(latency).toBeGreaterThan(DEFAULT_PLAN.capMs);
    expect(quietMs({ ...DEFAULT_PLAN, energyRelativeHalfWidth: 0.05 })).toBeGreaterThanOrEqual(latency + 180_000);
  });
});
