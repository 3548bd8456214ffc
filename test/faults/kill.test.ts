// Agents and the controller (with its broker) are killed at random moments of a working fleet, as processes, over real MQTT.
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { DEFAULT_PLAN } from '../../shared/measurement.ts';
import { openBlobStore } from '../../shared/node/blob-store.ts';
import type { UpPayload } from '../../shared/protocol.ts';
import { openDatabase } from '../../controller/store/database.ts';
import { openAgentDatabase } from '../../agent/node/outbox.ts';
import { latencyOf, type AgentProcessSettings } from '../helpers/agent-process.ts';
import { seededBytes, storeModel } from '../helpers/fleet-models.ts';
import { startAgentProcess, startControllerProcess, type ControllerProcess, type Running } from '../helpers/fleet-processes.ts';
import { startTap, type Tap } from '../helpers/mqtt-tap.ts';
import { value } from '../helpers/outcome.ts';

const JOBS = 16;
const KILLS = 12;
const SEED = 20261124;

interface Ack {
  readonly jobId: string;
  readonly attempt: number;
  readonly verdict: string;
}

/** Acknowledgements of results, as they went over the wire towards an agent. */
function resultAcks(tap: Tap): readonly Ack[] {
  const results = new Set<string>();
  const acks: Ack[] = [];
  for (const { direction, topic, payload } of tap.seen) {
    if (direction === 'to-broker' && topic.endsWith('/job-update')) {
      const { id, p } = JSON.parse(payload.toString()) as { id: string; p: UpPayload<'job-update'> };
      if (p.phase === 'result') results.add(id);
    }
    if (direction === 'to-client' && topic.endsWith('/job-ack')) {
      const { p } = JSON.parse(payload.toString()) as { p: Ack & { ackOf: string } };
      if (results.has(p.ackOf)) acks.push(p);
    }
  }
  return acks;
}

describe('a fleet whose parts are killed with -9', () => {
  let dir = '';
  let tap: Tap;
  let controller: ControllerProcess;
  let agents: Running[] = [];
  const announced: string[] = [];

  beforeAll(async () => {
    dir = mkdtempSync(join(tmpdir(), 'ofa-kill-'));
    const blobs = openBlobStore(join(dir, 'blobs'));
    const manifests: string[] = [];
    for (let i = 0; i < JOBS; i++) manifests.push((await storeModel(blobs, i, [100, 150_000])).manifestSha256);

    const onEnd = ({ jobId }: { jobId: string }) => announced.push(jobId);
    controller = await startControllerProcess(dir, 0, onEnd);
    const port = Number(new URL(controller.brokerUrl).port);
    tap = await startTap(port);
    const settings: AgentProcessSettings[] = [];
    for (const name of ['a', 'b']) {
      settings.push({
        url: tap.url,
        token: await controller.call('createToken', { name, lifetimeMs: 60_000 }),
        stateDir: join(dir, name),
        runtime: 'onnxruntime-node',
        deviceClass: 'bench',
        name,
        withParent: true,
        hostLockPath: join(dir, `${name}.lock`),
        backoff: { baseMs: 50, capMs: 400 },
        measureMs: 200,
      });
    }
    agents = settings.map(startAgentProcess);
    for (const [i, manifestSha256] of manifests.entries()) {
      await controller.call('enqueue', { key: `job ${i}`, deviceClass: 'bench', manifestSha256, plan: DEFAULT_PLAN });
    }

    const random = seededBytes(SEED, 2 * KILLS);
    for (let kill = 0; kill < KILLS; kill++) {
      await sleep(150 + 5 * (random[2 * kill] as number));
      const victim = (random[2 * kill + 1] as number) % 3;
      if (victim === 2) {
        await controller.kill();
        controller = await startControllerProcess(dir, port, onEnd);
      } else {
        await agents[victim]?.kill();
        agents[victim] = startAgentProcess(settings[victim] as AgentProcessSettings);
      }
    }
    const db = value(await openDatabase(join(dir, 'controller.db')));
    for (let i = 0; i < 300; i++) {
      const open = await db.selectFrom('job').select('job_id').where('ended_at', 'is', null).execute();
      if (open.length === 0) break;
      await sleep(100);
    }
    await db.destroy();
    for (let i = 0; i < 100; i++) {
      if ((await controller.call('devices')).every(({ presence }) => presence === 'online')) break;
      await sleep(100);
    }
    await sleep(500);
    for (const agent of agents) agent.process.kill('SIGTERM');
    await Promise.all(agents.map((agent) => agent.ended()));
    await controller.kill();
  }, 150_000);

  afterAll(async () => {
    for (const agent of agents) if (agent.process.exitCode === null) await agent.kill();
    await tap.close();
    rmSync(dir, { recursive: true, force: true });
  });

  it('ends every job, with a measurement or with the reason that its model kills agents', async () => {
    const db = value(await openDatabase(join(dir, 'controller.db')));
    const jobs = await db.selectFrom('job').selectAll().execute();
    await db.destroy();
    expect(jobs).toHaveLength(JOBS);
    for (const job of jobs) expect([job.state, job.end_reason]).toBeOneOf([['SUCCEEDED', null], ['FAILED', 'CRASHES_AGENT']]); // prettier-ignore
    expect(jobs.filter(({ state }) => state === 'SUCCEEDED').length).toBeGreaterThan(JOBS / 2);
  });

  it('loses no result that it had acknowledged, and counts none twice', async () => {
    const db = value(await openDatabase(join(dir, 'controller.db')));
    const results = await db.selectFrom('job_result').selectAll().execute();
    await db.destroy();
    const accepted = resultAcks(tap).filter(({ verdict }) => verdict === 'accepted' || verdict === 'accepted-late');
    expect(accepted.length).toBeGreaterThan(0);
    for (const ack of accepted) {
      expect(results.filter(({ job_id, attempt }) => job_id === ack.jobId && attempt === ack.attempt)).toHaveLength(1);
    }
    expect(new Set(accepted.map(({ jobId }) => jobId)).size).toBe(accepted.length);
    expect(new Set(announced).size).toBe(announced.length);
  });

  it('keeps with each job the measurement of its own model', async () => {
    const db = value(await openDatabase(join(dir, 'controller.db')));
    const rows = await db.selectFrom('job_result').innerJoin('job', 'job.job_id', 'job_result.job_id').selectAll().execute();
    await db.destroy();
    for (const { manifest_sha256, outcome_json } of rows) {
      const outcome = JSON.parse(outcome_json) as { ok: true; value: { latency: { value: number } } };
      expect(outcome.value.latency.value).toBeCloseTo(latencyOf(manifest_sha256), 1);
    }
  });

  it('leaves nothing held or unsent on agents that end when they are asked to', () => {
    expect(agents.map((agent) => agent.process.exitCode)).toEqual([0, 0]);
    for (const name of ['a', 'b']) {
      const db = value(openAgentDatabase(join(dir, name, 'agent.db')));
      expect(db.prepare('SELECT (SELECT count(*) FROM outbox) + (SELECT count(*) FROM held) AS n').get()).toEqual({ n: 0 });
      db.close();
    }
  });
});
