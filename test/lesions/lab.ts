// The demo's real parts as a laboratory: controller with broker, agents as processes, the shipped supernet and images; a lesion cuts one.
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { availableParallelism, tmpdir } from 'node:os';
import { join } from 'node:path';
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
import { startRealAgents, type RealAgent } from '../helpers/real-agents.ts';

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

export async function openLab(agents: readonly RealAgent[], checkpointPath = SHIPPED_CHECKPOINT): Promise<Lab> {
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
  const running = await startRealAgents(controller.fleet, dir, agents);
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
      await running.stop();
      await controller.close();
      rmSync(dir, { recursive: true, force: true });
    },
  };
}

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
