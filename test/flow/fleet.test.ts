// A small fleet of real parts in one process tree: broker, database, ONNX Runtime, an agent process. Only the measurement stands in for time.
import { mkdtempSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { DEFAULT_PLAN } from '../../shared/measurement.ts';
import { openBlobStore, type BlobStore } from '../../shared/node/blob-store.ts';
import type { Fleet, JobEnd } from '../../controller/fleet/fleet.ts';
import { startFleet } from '../../controller/fleet/start-fleet.ts';
import { openDatabase, type Db } from '../../controller/store/database.ts';
import type { AgentProcessSettings } from '../helpers/agent-process.ts';
import { storeModel } from '../helpers/fleet-models.ts';
import { startAgentProcess, type Running } from '../helpers/fleet-processes.ts';
import { value } from '../helpers/outcome.ts';

const never = new AbortController().signal;

async function until<T>(find: () => Promise<T | null | undefined | false>): Promise<T> {
  // the test's own limit ends this
  for (;;) {
    const found = await find();
    if (found !== null && found !== undefined && found !== false) return found;
    await sleep(50);
  }
}

describe('a fleet of one agent', () => {
  let dir = '';
  let db: Db;
  let blobs: BlobStore;
  let fleet: Fleet;
  let agent: Running;
  let settings: AgentProcessSettings;
  let deviceId = '';

  beforeAll(async () => {
    dir = mkdtempSync(join(tmpdir(), 'ofa-fleet-'));
    db = value(await openDatabase(join(dir, 'controller.db')));
    blobs = openBlobStore(join(dir, 'blobs'));
    fleet = value(await startFleet({ db, blobs, host: '127.0.0.1', port: 0 }));
    settings = {
      url: fleet.brokerUrl,
      token: await fleet.createToken({ name: 'one', lifetimeMs: 60_000 }),
      stateDir: join(dir, 'agent'),
      runtime: 'onnxruntime-node',
      deviceClass: 'bench',
      name: null,
      withParent: true,
      hostLockPath: join(dir, 'host.lock'),
      backoff: { baseMs: 50, capMs: 500 },
      measureMs: 20,
    };
    agent = startAgentProcess(settings);
    deviceId = await until(
      async () => (await fleet.devices()).find(({ presence, serveUrl }) => presence === 'online' && serveUrl !== null)?.deviceId,
    );
  });

  afterAll(async () => {
    if (agent.process.exitCode === null) await agent.kill();
    await fleet.close();
    await db.destroy();
    rmSync(dir, { recursive: true, force: true });
  });

  it('enrols by its token under the name that the token gives, and keeps its credentials for itself', async () => {
    const [device] = await fleet.devices();
    expect(device).toMatchObject({ name: 'one', deviceClass: 'bench', presence: 'online' });
    expect(statSync(join(dir, 'agent', 'identity.json')).mode & 0o777).toBe(0o600);
  });

  it('measures what is enqueued for its class, once for each key', async () => {
    const ends: JobEnd[] = [];
    const stop = fleet.onJobEnd((end) => ends.push(end));
    const { manifestSha256 } = await storeModel(blobs, 1, [10, 200_000]);
    const job = { key: 'a', deviceClass: 'bench', manifestSha256, plan: DEFAULT_PLAN };
    const jobId = await fleet.enqueue(job);
    expect(await fleet.enqueue(job)).toBe(jobId);
    await until(() => Promise.resolve(ends.length > 0));
    expect(await fleet.enqueue(job)).toBe(jobId);
    stop();
    expect(ends).toMatchObject([{ jobId, deviceId, outcome: { ok: true } }]);
    expect(await fleet.jobEnd(jobId)).toEqual(ends[0]);
  });

  it('serves what is deployed to it, over MQTT and HTTP, with the output of the model', async () => {
    const { manifestSha256, input, output } = await storeModel(blobs, 2, [70_000]);
    const deployed = value(await fleet.deploy(deviceId, manifestSha256, never));
    expect(deployed.rev).toBe(1);
    const device = (await fleet.devices()).find((d) => d.deviceId === deviceId);
    expect(device?.activeManifestSha256).toBe(manifestSha256);

    const answers = await Promise.all(Array.from({ length: 30 }, () => fleet.infer(deviceId, input, never)));
    for (const answer of answers) expect(value(answer).output).toEqual(output);

    const body = new Uint8Array(input.buffer);
    const http = (await (await fetch(`${device?.serveUrl}/infer`, { method: 'POST', body })).json()) as { output: number[] };
    expect(Float32Array.from(http.output)).toEqual(output);
  });

  it('says why an inference cannot be: a wrong length, a device that is away', async () => {
    expect(await fleet.infer(deviceId, new Float32Array(3), never)).toMatchObject({ ok: false, reason: 'INVALID_INPUT' });
    expect(await fleet.infer('dev-0000000000000000', new Float32Array(3), never)).toMatchObject({ ok: false, reason: 'UNREACHABLE' });
    expect(await fleet.infer(deviceId, new Float32Array(100_000), never)).toMatchObject({ ok: false, reason: 'INVALID_INPUT' });
  });

  it('accounts for the energy of its deployment, or says why there are no joules', async () => {
    const report = await until(() => db.selectFrom('energy_report').selectAll().where('inferences', '>=', 31).executeTakeFirst());
    expect(report.rev).toBe(1);
    expect(report.active_ms).toBeGreaterThan(0);
    if (report.reason === null) expect(report.active_joules).toBeGreaterThan(0);
    else expect([report.active_joules, report.idle_joules, report.reason]).toEqual([null, null, 'SENSOR_MISSING']);
  });

  it('keeps what it served before when a new model does not give its golden output, and says so', async () => {
    const before = (await fleet.devices())[0]?.activeManifestSha256;
    const { manifest } = await storeModel(blobs, 3);
    const wrong = value(await blobs.put(new Uint8Array(new Float32Array(72).fill(9).buffer)));
    const bad = { ...manifest, golden: { ...manifest.golden, output: wrong } };
    const { sha256 } = value(await blobs.put(new TextEncoder().encode(JSON.stringify(bad))));
    expect(await fleet.deploy(deviceId, sha256, never)).toMatchObject({ ok: false, reason: 'OUTPUT_MISMATCH' });
    expect((await fleet.devices())[0]?.activeManifestSha256).toBe(before);
  });

  it('goes on serving after a restart, with the token that was used up', async () => {
    const before = (await fleet.devices())[0]?.activeManifestSha256;
    agent.process.kill('SIGTERM');
    expect(await agent.ended()).toBe(0);
    await until(async () => (await fleet.devices())[0]?.presence === 'offline');
    agent = startAgentProcess(settings);
    const { input, output } = await storeModel(blobs, 2, [70_000]);
    await until(async () => (await fleet.devices())[0]?.presence === 'online');
    const answer = await until(async () => {
      const got = await fleet.infer(deviceId, input, never);
      return got.ok && got;
    });
    expect(value(answer).output).toEqual(output);
    expect((await fleet.devices())[0]?.activeManifestSha256).toBe(before);
  });

  it('refuses a second agent on the same state folder, naming the process', async () => {
    const second = startAgentProcess(settings);
    expect(await second.ended()).toBe(1);
    expect(second.stderr()).toContain(`process ${agent.process.pid}`);
  });

  it('refuses a used, an unknown and an expired token, each in one sentence', async () => {
    const other = { ...settings, stateDir: join(dir, 'other') };
    const used = startAgentProcess(other);
    expect(await used.ended()).toBe(1);
    expect(used.stderr()).toMatch(/was used already by one/);

    const unknown = startAgentProcess({ ...other, token: `clm-0123456789abcdef.${'0'.repeat(64)}` });
    expect(await unknown.ended()).toBe(1);
    expect(unknown.stderr()).toMatch(/does not know the token/);

    const expired = startAgentProcess({ ...other, token: await fleet.createToken({ name: null, lifetimeMs: 0 }) });
    expect(await expired.ended()).toBe(1);
    expect(expired.stderr()).toMatch(/was good for 0 s and is too old/);
  });

  it('refuses an address that is none of MQTT with exit code 2', async () => {
    const wrong = startAgentProcess({ ...settings, url: 'http://127.0.0.1:1', stateDir: join(dir, 'wrong') });
    expect(await wrong.ended()).toBe(2);
    expect(wrong.stderr()).toMatch(/speaks mqtt:\/\/, not http:\/\//);
  });

  it('refuses a port that is taken, naming it', async () => {
    const port = Number(new URL(fleet.brokerUrl).port);
    const second = await startFleet({ db, blobs, host: '127.0.0.1', port });
    expect(second).toMatchObject({ ok: false, reason: 'PORT_IN_USE' });
    if (!second.ok) expect(second.message).toContain(String(port));
  });

  it('gives a stopped measurement back to the queue uncounted, and a canceled one up', async () => {
    agent.process.kill('SIGTERM');
    await agent.ended();
    agent = startAgentProcess({ ...settings, measureMs: 60_000 });
    const { manifestSha256 } = await storeModel(blobs, 4);
    const jobId = await fleet.enqueue({ key: 'long', deviceClass: 'bench', manifestSha256, plan: DEFAULT_PLAN });
    const job = () => db.selectFrom('job').selectAll().where('job_id', '=', jobId).executeTakeFirstOrThrow();
    await until(async () => (await job()).state === 'RUNNING');
    agent.process.kill('SIGTERM');
    expect(await agent.ended()).toBe(0);
    expect(await job()).toMatchObject({ state: 'QUEUED', counted_attempts: 0 });

    agent = startAgentProcess({ ...settings, measureMs: 60_000 });
    await until(async () => (await job()).state === 'RUNNING');
    await fleet.cancel(jobId);
    expect(await fleet.jobEnd(jobId)).toMatchObject({ outcome: { ok: false, reason: 'CANCELED' } });
    const next = await fleet.enqueue({ key: 'after', deviceClass: 'bench', manifestSha256, plan: DEFAULT_PLAN });
    await until(
      async () => (await db.selectFrom('job').select('state').where('job_id', '=', next).executeTakeFirst())?.state === 'RUNNING',
    );
  });

  it('ends with its parent', async () => {
    agent.process.disconnect();
    expect(await agent.ended()).toBe(0);
  });
});
