// Deployments on a real model server (ONNX Runtime in its thread, HTTP on loopback) and a real database; only the clock of the probation is ours.
import { mkdtempSync, rmSync } from 'node:fs';
import { request } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Worker } from 'node:worker_threads';
import Database from 'better-sqlite3';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import type { Clock, ModelServer, ModelSource, Slot } from '../../../agent/ports.ts';
import { startModelServer, type NodeModelServer } from '../../../agent/node/serve.ts';
import { createSlotStore } from '../../../agent/node/slot-store.ts';
import { createSlots, type Slots, type SlotsState } from '../../../agent/slots.ts';
import { arbitraryInput } from '../../../agent/measure.ts';
import { writeArtifact } from '../../helpers/small-models.ts';

type Blobs = Extract<ModelSource, { kind: 'blobs' }>;

const SMALL = { channels: 4, size: 8, layers: 1 };
const INPUT = arbitraryInput(4 * 8 * 8);

let dir = '';
let server: NodeModelServer;
let dbPath = '';

async function start(port = 0): Promise<NodeModelServer> {
  const started = await startModelServer({ runtime: 'onnxruntime-node', intraOpThreads: 1, host: '127.0.0.1', port });
  if (!started.ok) throw new Error(started.message);
  return started.value;
}

beforeEach(async () => {
  dir = mkdtempSync(join(tmpdir(), 'ofa-slots-'));
  dbPath = join(dir, 'agent.db');
  server = await start();
});

afterEach(async () => {
  await server.close();
  rmSync(dir, { recursive: true, force: true });
});

const slotOf = (rev: number, source: Blobs): Slot => ({ rev, manifestSha256: source.manifestSha256, manifest: source.manifest });

/** A clock whose sleeps end when `wake` is called. */
function handClock(): { readonly clock: Clock; readonly wake: () => void; readonly sleeping: () => boolean } {
  let end: (() => void) | null = null;
  const clock: Clock = {
    monotonicMs: () => performance.now(),
    wallMs: () => Date.now(),
    sleep: (_, signal) =>
      new Promise((resolve) => {
        end = resolve;
        const onAbort = () => {
          end = null;
          resolve();
        };
        signal?.addEventListener('abort', onAbort, { once: true });
      }),
  };
  return {
    clock,
    sleeping: () => end !== null,
    wake: () => {
      const go = end;
      end = null;
      go?.();
    },
  };
}

interface Agent {
  readonly slots: Slots;
  readonly phases: string[];
  readonly wake: () => void;
  readonly inProbation: () => Promise<void>;
  readonly stop: () => void;
}

/** The slots of an agent on this state; `stop` leaves the state as a crash would. */
function agent(model: ModelServer = server, deviceId = 'dev-1'): Agent {
  const db = new Database(dbPath);
  const { clock, wake, sleeping } = handClock();
  const phases: string[] = [];
  const slots: Slots = createSlots({
    store: createSlotStore(db, deviceId),
    server: model,
    clock,
    probationMs: 1000,
    sourceOf: ({ manifestSha256, manifest }) => ({ kind: 'blobs', manifestSha256, manifest, blobsDir: join(dir, 'blobs') }),
    onChange: () => phases.push(slots.state().phase),
  });
  const inProbation = async () => {
    while (!sleeping()) await new Promise((resolve) => setTimeout(resolve, 5));
  };
  return { slots, phases, wake, inProbation, stop: () => db.close() };
}

const never = () => new AbortController().signal;
const artifact = (shape: { channels: number; size: number; layers: number }, goldenError = 0) =>
  writeArtifact(join(dir, 'blobs'), shape, goldenError);
const served = async () => {
  const answer = await server.infer(INPUT);
  return answer.ok ? answer.value.output.length : answer.reason;
};

async function deployed(a: Agent, slot: Slot): Promise<void> {
  const deploying = a.slots.deploy(slot, never());
  await a.inProbation();
  a.wake();
  expect((await deploying).ok).toBe(true);
}

describe('a deployment', () => {
  it('is verified, on probation, then committed, and answers from the activation on', async () => {
    const a = agent();
    const model = await artifact(SMALL);
    expect(await served()).toBe('NOT_FOUND');
    const deploying = a.slots.deploy(slotOf(1, model), never());
    await a.inProbation();
    expect(await served()).toBe(SMALL.channels);
    a.wake();
    expect(await deploying).toEqual({ ok: true, value: null });
    expect(a.phases).toEqual(['verifying', 'probation', 'committed']);
    expect(a.slots.state()).toEqual<SlotsState>({ phase: 'committed', rev: 1, activeManifestSha256: model.manifestSha256, failure: null });
    a.stop();
  });

  it('belongs to an identity: a device that has enrolled anew takes revision 1 again', async () => {
    const before = agent();
    const model = await artifact(SMALL);
    await deployed(before, slotOf(1, model));
    before.stop();
    const after = agent(server, 'dev-2');
    await after.slots.boot();
    expect(after.slots.state()).toMatchObject({ rev: 0, activeManifestSha256: null });
    await deployed(after, slotOf(1, model));
    after.stop();
  });

  it('of a wrong model never becomes active; the one before goes on', async () => {
    const a = agent();
    const good = await artifact(SMALL);
    await deployed(a, slotOf(1, good));
    const outcome = await a.slots.deploy(slotOf(2, await artifact(SMALL, 0.5)), never());
    expect(outcome).toMatchObject({ ok: false, reason: 'OUTPUT_MISMATCH' });
    expect(a.slots.state()).toMatchObject({ phase: 'failed', rev: 2, activeManifestSha256: good.manifestSha256 });
    expect(await served()).toBe(SMALL.channels);
    a.stop();
  });

  it('that fails its probation is taken back, and the model before it serves again', async () => {
    // The server's check fails once: what a device does whose memory or addon gave way meanwhile.
    let healthy = true;
    const failing: ModelServer = {
      ...server,
      check: () => (healthy ? server.check() : Promise.resolve({ ok: false, reason: 'CRASHED', message: 'it gave way.' })),
    };
    const a = agent(failing);
    const first = await artifact(SMALL);
    await deployed(a, slotOf(1, first));
    const deploying = a.slots.deploy(slotOf(2, await artifact({ ...SMALL, layers: 2 })), never());
    await a.inProbation();
    healthy = false;
    a.wake();
    const outcome = await deploying;
    expect(outcome).toMatchObject({ ok: false, reason: 'CRASHED' });
    expect(outcome.ok ? '' : outcome.message).toContain('serving revision 1 again');
    expect(a.slots.state()).toMatchObject({ phase: 'failed', rev: 2, activeManifestSha256: first.manifestSha256 });
    expect((await server.check()).ok).toBe(true);
    a.stop();
  });

  it('that was overtaken during its probation does not become the one to fall back to', async () => {
    const a = agent();
    const first = await artifact(SMALL);
    await deployed(a, slotOf(1, first));
    const overtaken = new AbortController();
    const second = a.slots.deploy(slotOf(2, await artifact({ ...SMALL, layers: 2 })), overtaken.signal);
    await a.inProbation();
    const third = a.slots.deploy(slotOf(3, await artifact({ ...SMALL, layers: 3 })), never());
    overtaken.abort();
    expect(await second).toMatchObject({ ok: false, reason: 'CANCELED' });
    await a.inProbation();
    void third.catch(() => null);
    a.stop();
    const again = agent();
    await again.slots.boot();
    expect(again.slots.state()).toMatchObject({ rev: 3, activeManifestSha256: first.manifestSha256 });
    expect(again.slots.state().failure?.message).toContain('serving revision 1 again');
    again.stop();
  });
});

describe('a start of the agent', () => {
  it('serves what was committed, without a new probation', async () => {
    const before = agent();
    const model = await artifact(SMALL);
    await deployed(before, slotOf(7, model));
    before.stop();
    await server.close();
    server = await start();
    const after = agent();
    expect((await after.slots.boot()).ok).toBe(true);
    expect(after.slots.state()).toMatchObject({ phase: 'committed', rev: 7, activeManifestSha256: model.manifestSha256 });
    expect(await served()).toBe(SMALL.channels);
    after.stop();
  });

  it('during a probation falls back to the model before, and says so', async () => {
    const before = agent();
    const first = await artifact(SMALL);
    await deployed(before, slotOf(1, first));
    void before.slots.deploy(slotOf(2, await artifact({ ...SMALL, layers: 2 })), never()).catch(() => null);
    await before.inProbation();
    before.stop();
    const after = agent();
    expect(await after.slots.boot()).toMatchObject({ ok: false, reason: 'INTERRUPTED' });
    expect(after.slots.state()).toMatchObject({ phase: 'failed', rev: 2, activeManifestSha256: first.manifestSha256 });
    expect((await server.check()).ok).toBe(true);
    after.stop();
  });

  it('during the first probation ever serves nothing', async () => {
    const before = agent();
    void before.slots.deploy(slotOf(1, await artifact(SMALL)), never()).catch(() => null);
    await before.inProbation();
    before.stop();
    const after = agent();
    await after.slots.boot();
    expect(after.slots.state()).toMatchObject({ phase: 'failed', activeManifestSha256: null });
    expect(await served()).toBe('NOT_FOUND');
    after.stop();
  });

  it('after a model ended the agent while it was loaded serves the one before, and says so at each start until a newer one is committed', async () => {
    const before = agent();
    const first = await artifact(SMALL);
    await deployed(before, slotOf(1, first));
    before.stop();
    // Never answers, as an agent that died in it: what is on the disk is what a segmentation fault leaves.
    const fatal = agent({ ...server, stage: () => new Promise(() => undefined) });
    void fatal.slots.deploy(slotOf(2, await artifact({ ...SMALL, layers: 2 })), never());
    await vi.waitFor(() => expect(fatal.phases).toEqual(['verifying']));
    fatal.stop();
    for (let i = 0; i < 2; i++) {
      const after = agent();
      expect((await after.slots.boot()).ok).toBe(true);
      expect(after.slots.state()).toMatchObject({ phase: 'failed', rev: 2, activeManifestSha256: first.manifestSha256 });
      expect(after.slots.state().failure?.reason).toBe('CRASHES_AGENT');
      after.stop();
    }
    const last = agent();
    await last.slots.boot();
    await deployed(last, slotOf(3, first));
    last.stop();
    const again = agent();
    await again.slots.boot();
    expect(again.slots.state()).toMatchObject({ phase: 'committed', rev: 3, failure: null });
    again.stop();
  });

  it('whose model does not load any more says that nothing is served', async () => {
    const before = agent();
    await deployed(before, slotOf(1, await artifact(SMALL)));
    before.stop();
    await server.close();
    server = await start();
    rmSync(join(dir, 'blobs'), { recursive: true });
    const after = agent();
    expect(await after.slots.boot()).toMatchObject({ ok: false, reason: 'UNKNOWN_BLOB' });
    expect(after.slots.state()).toMatchObject({ phase: 'failed', rev: 1, activeManifestSha256: null });
    expect((await fetch(`${server.url}/health`)).status).toBe(503);
    after.stop();
  });

  it('with nothing deployed is quiet', async () => {
    const a = agent();
    expect(await a.slots.boot()).toEqual({ ok: true, value: null });
    expect(a.slots.state()).toEqual<SlotsState>({ phase: 'none', rev: 0, activeManifestSha256: null, failure: null });
    a.stop();
  });
});

describe('the model server', () => {
  const post = (body: Uint8Array<ArrayBuffer>) => fetch(`${server.url}/infer`, { method: 'POST', body });
  const bytes = (values: Float32Array) => Uint8Array.from(new Uint8Array(values.buffer, values.byteOffset, values.byteLength));

  it('answers over HTTP what it answers in process', async () => {
    await server.stage(await artifact(SMALL));
    await server.activate();
    const response = await post(bytes(INPUT));
    const body = (await response.json()) as { output: number[]; latencyMs: number };
    const own = await server.infer(INPUT);
    expect(response.status).toBe(200);
    expect(body.output).toEqual(Array.from(own.ok ? own.value.output : []));
    expect(body.latencyMs).toBeGreaterThan(0);
    const health = await fetch(`${server.url}/health`);
    expect(await health.json()).toEqual({ ok: true, inputLength: INPUT.length, runtime: 'onnxruntime-node' });
  });

  it('refuses an input of the wrong length with 400, naming what it got and what it takes', async () => {
    await server.stage(await artifact(SMALL));
    await server.activate();
    const response = await post(bytes(INPUT.subarray(1)));
    expect(response.status).toBe(400);
    expect(((await response.json()) as { message: string }).message).toContain(
      `has ${4 * INPUT.length - 4} bytes, the deployed model takes ${4 * INPUT.length}`,
    );
    expect(await server.infer(INPUT.subarray(1))).toMatchObject({ ok: false, reason: 'INVALID_INPUT' });
  });

  it('reads no more of a body than shows that it is too long', async () => {
    await server.stage(await artifact(SMALL));
    await server.activate();
    const response = await post(new Uint8Array(64 * INPUT.length));
    expect(response.status).toBe(400);
    expect(((await response.json()) as { message: string }).message).toContain(`has more than ${4 * INPUT.length} bytes`);
  });

  it('sends requests away with 503 where too many wait already, and answers those that waited', async () => {
    await server.stage(await artifact(SMALL));
    await server.activate();
    // They hold their bodies back until told, so they wait for certain.
    const slow = Array.from({ length: 64 }, () => {
      const sent = request(`${server.url}/infer`, { method: 'POST', headers: { 'content-length': 4 * INPUT.length } });
      const status = new Promise<number | undefined>((resolve, reject) => {
        sent.once('response', (response) => resolve(response.resume().statusCode)).once('error', reject);
      });
      sent.flushHeaders();
      return { sent, status };
    });
    await vi.waitFor(async () => {
      const response = await post(bytes(INPUT));
      expect(response.status).toBe(503);
      expect(await response.json()).toMatchObject({ reason: 'BUSY' });
    });
    for (const { sent } of slow) sent.end(bytes(INPUT));
    expect(new Set(await Promise.all(slow.map(({ status }) => status)))).toEqual(new Set([200]));
    expect((await post(bytes(INPUT))).status).toBe(200);
  });

  it('answers 503 with nothing deployed and 404 elsewhere', async () => {
    expect((await post(bytes(INPUT))).status).toBe(503);
    expect((await fetch(`${server.url}/health`)).status).toBe(503);
    expect((await fetch(`${server.url}/other`)).status).toBe(404);
  });

  it('drops and fails no request while models are switched', async () => {
    const models = [await artifact(SMALL), await artifact({ ...SMALL, layers: 2 })];
    await server.stage(models[0] as Blobs);
    await server.activate();
    let stop = false;
    const statuses: number[] = [];
    const client = async () => {
      while (!stop) {
        const response = await post(bytes(INPUT));
        await response.arrayBuffer();
        statuses.push(response.status);
      }
    };
    const clients = [client(), client(), client()];
    for (let i = 0; i < 10; i++) {
      const staged = await server.stage(models[(i + 1) % 2] as Blobs);
      expect(staged.ok).toBe(true);
      await server.activate();
    }
    stop = true;
    await Promise.all(clients);
    expect(statuses.length).toBeGreaterThan(10);
    expect(statuses.filter((status) => status !== 200)).toEqual([]);
  });

  it('whose thread has died says so, to its host and to whoever asks, and calls nothing served', async () => {
    const made = new Promise<Worker>((resolve) => process.once('worker', resolve));
    const other = await start();
    await other.stage(await artifact(SMALL));
    await other.activate();
    await (await made).terminate();
    expect(await other.crashed).toMatchObject({ reason: 'CRASHED' });
    expect((await fetch(`${other.url}/health`)).status).toBe(503);
    const response = await fetch(`${other.url}/infer`, { method: 'POST', body: bytes(INPUT) });
    expect(response.status).toBe(503);
    expect(await response.json()).toMatchObject({ reason: 'CRASHED' });
    await other.close();
  });

  it('says when its port is taken', async () => {
    const port = Number(new URL(server.url).port);
    const second = await startModelServer({ runtime: 'onnxruntime-node', intraOpThreads: 1, host: '127.0.0.1', port });
    expect(second).toMatchObject({ ok: false, reason: 'PORT_IN_USE' });
    expect(second.ok ? '' : second.message).toContain(String(port));
  });
});
