// The demo's real parts as a laboratory: controller with broker, agents as processes, the shipped supernet and images; a lesion cuts one.
import { spawn, type ChildProcess } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { availableParallelism, tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { manifestSchema } from '../../shared/artifact.ts';
import { systemClock } from '../../shared/clock.ts';
import { DEFAULT_PLAN } from '../../shared/measurement.ts';
import { defaultHostLockPath } from '../../shared/node/host-lock.ts';
import { runCampaign, type CampaignParts } from '../../controller/campaign.ts';
import { openController, SHIPPED_CHECKPOINT, type Controller } from '../../controller/main.ts';
import { hypervolume } from '../../controller/search/hypervolume.ts';
import { nonDominatedFronts } from '../../controller/search/pareto.ts';
import { createCampaign, loadCampaign } from '../../controller/store/campaigns.ts';
import type { Subnet } from '../../controller/subnet.ts';
import { value } from '../helpers/outcome.ts';

export const AGENT = fileURLToPath(new URL('../../agent/node/cli.ts', import.meta.url));
const JOIN_LIMIT_MS = 30_000;

export interface LabAgent {
  /** Name and device class. */
  readonly name: string;
  readonly runtime?: 'onnxruntime-node' | 'onnxruntime-web';
  /** A module loaded into the agent's processes before anything else: how a lesion reaches the runtime without a hook in the product. */
  readonly preload?: URL;
  /** Called with the agent's pid once it runs, e.g. to put it under a CPU quota. */
  readonly confine?: (pid: number) => void;
}

/** A subnet with what a campaign was told of it on one class. */
export interface Point {
  readonly subnetId: string;
  readonly subnet: Subnet;
  readonly error: number;
  readonly latencyMs: number;
  readonly ci: { readonly lo: number; readonly hi: number };
}

export interface Lab {
  readonly controller: Controller;
  /** Runs a campaign and gives what each class was told, by class; `censored` counts what had no number. */
  search(options: {
    readonly subnets: number;
    readonly seed: number;
    readonly capMs?: number;
    readonly fleet?: CampaignParts['fleet'];
  }): Promise<{ readonly points: Readonly<Record<string, readonly Point[]>>; readonly censored: readonly string[] }>;
  /** Writes a model that the controller holds as a folder with `model.onnx`, and gives the file's path. */
  exportModel(manifestSha256: string): string;
  close(): Promise<void>;
}

export async function openLab(agents: readonly LabAgent[], checkpointPath = SHIPPED_CHECKPOINT): Promise<Lab> {
  const dir = mkdtempSync(join(tmpdir(), 'ofa-lesion-'));
  const controller = value(
    await openController({
      stateDir: join(dir, 'controller'),
      checkpointPath,
      dataDir: null,
      validationImages: 1000,
      threads: availableParallelism(),
      host: '127.0.0.1',
      mqttPort: 0,
      hostLockPath: defaultHostLockPath(),
      log: () => undefined,
    }),
  );
  const children: ChildProcess[] = [];
  for (const { name, runtime = 'onnxruntime-node', preload, confine } of agents) {
    const token = await controller.fleet.createToken({ name, lifetimeMs: JOIN_LIMIT_MS });
    const args = ['join', controller.fleet.brokerUrl, token, '--state', join(dir, name), '--runtime', runtime, '--class', name, '--name', name, '--with-parent']; // prettier-ignore
    const env = { ...process.env, ...(preload === undefined ? {} : { NODE_OPTIONS: `--import=${preload.href}` }) };
    const child = spawn(process.execPath, [AGENT, ...args], { stdio: ['pipe', 'ignore', 'inherit'], env });
    if (child.pid !== undefined) confine?.(child.pid);
    children.push(child);
  }
  await joined(controller, agents.length);
  let campaigns = 0;

  return {
    controller,
    async search({ subnets, seed, capMs, fleet = controller.fleet }) {
      const { db, checkpoint, splits, weightsHash } = controller;
      const id = `lesion-${campaigns++}`;
      const deviceClasses = agents.map(({ name }) => name);
      const settings = { subnets, seed, algorithm: 'nsga2' as const, deviceClasses, plan: DEFAULT_PLAN, budgetMs: null, validationSplit: splits.validation, testSplit: splits.test, space: checkpoint.space }; // prettier-ignore
      await createCampaign(db, { id, at: Date.now(), settings, weightsHash });
      const end = new AbortController();
      const timer = setTimeout(() => end.abort('cap'), capMs ?? 600_000);
      const parts = { db, fleet, prepare: (subnet: Subnet, signal: AbortSignal) => controller.prepare(subnet, signal), clock: systemClock, onProgress: () => undefined }; // prettier-ignore
      value(await runCampaign(parts, id, { end: end.signal, leave: new AbortController().signal }));
      clearTimeout(timer);
      const { asks, tells } = value(await loadCampaign(db, id));
      const points: Record<string, Point[]> = Object.fromEntries(deviceClasses.map((name) => [name, []]));
      const censored: string[] = [];
      for (const { subnetId, deviceClass, outcome } of tells) {
        const ask = asks.find((one) => one.subnetId === subnetId);
        if (ask === undefined) throw new Error(`told of ${subnetId}, which was not asked`);
        if (!outcome.ok) censored.push(outcome.reason);
        else {
          const { objectives, latency } = outcome.value;
          const ci = latency.ci ?? { lo: latency.value, hi: latency.value };
          points[deviceClass]?.push({ subnetId, subnet: ask.subnet, error: objectives.error, latencyMs: latency.value, ci });
        }
      }
      return { points, censored };
    },
    exportModel(manifestSha256) {
      const { blobs } = controller;
      const manifest = manifestSchema.parse(JSON.parse(Buffer.from(value(blobs.get(manifestSha256))).toString()));
      const folder = join(dir, 'export', manifestSha256.slice(0, 16));
      mkdirSync(join(folder, 't'), { recursive: true });
      writeFileSync(join(folder, 'model.onnx'), value(blobs.get(manifest.graph.sha256)));
      for (const [i, { sha256 }] of manifest.weights.entries()) writeFileSync(join(folder, 't', String(i)), value(blobs.get(sha256)));
      return join(folder, 'model.onnx');
    },
    async close() {
      const gone = children.map((child) => new Promise((resolve) => child.once('exit', resolve)));
      for (const child of children) child.kill('SIGTERM');
      await Promise.all(gone);
      await controller.close();
      rmSync(dir, { recursive: true, force: true });
    },
  };
}

async function joined({ fleet }: Controller, count: number): Promise<void> {
  const deadline = Date.now() + JOIN_LIMIT_MS;
  for (;;) {
    const online = (await fleet.devices()).filter(({ presence, info }) => presence === 'online' && info !== null);
    if (online.length === count) return;
    if (Date.now() > deadline) throw new Error(`${online.length} of ${count} agents joined within ${JOIN_LIMIT_MS / 1000} s`);
    await sleep(50);
  }
}

/** Members of the front by what `pointOf` reads. */
export function frontOf(points: readonly Point[]): readonly Point[] {
  const [first = []] = nonDominatedFronts(points.map(({ error, latencyMs }) => [error, latencyMs]));
  return first.map((i) => points[i] as Point);
}

/** Hypervolume of (error, latency) up to (`errorLimit`, `latencyLimitMs`), as a share of that rectangle. */
export function share(
  points: readonly { readonly error: number; readonly latencyMs: number }[],
  errorLimit: number,
  latencyLimitMs: number,
): number {
  return hypervolume(points.map(({ error, latencyMs }) => [error, latencyMs]), [errorLimit, latencyLimitMs]) / (errorLimit * latencyLimitMs); // prettier-ignore
}
