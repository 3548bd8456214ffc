// The demo's real parts as a laboratory: controller with broker, agents as processes, the shipped supernet and images; a lesion cuts one.
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { availableParallelism, tmpdir } from 'node:os';
import { join } from 'node:path';
import { manifestSchema } from '../../shared/artifact.ts';
import { systemClock } from '../../shared/clock.ts';
import { DEFAULT_PLAN, type Plan } from '../../shared/measurement.ts';
import { defaultHostLockPath } from '../../shared/node/host-lock.ts';
import { runCampaign, type CampaignParts } from '../../controller/campaign.ts';
import { afterSearch } from '../../controller/campaigns/after-search.ts';
import { openController, SHIPPED_CHECKPOINT, type Controller } from '../../controller/main.ts';
import { loadReportData } from '../../controller/report/data.ts';
import { hypervolume } from '../../controller/search/hypervolume.ts';
import { nonDominatedFronts } from '../../controller/search/pareto.ts';
import { createCampaign } from '../../controller/store/campaigns.ts';
import type { Subnet } from '../../controller/subnet.ts';
import { value } from '../helpers/outcome.ts';
import { startRealAgents, type RealAgent } from '../helpers/real-agents.ts';

/** Beyond it a campaign of the lesions hangs. */
const LONGEST_SEARCH_MS = 900_000;

/** A subnet with what a campaign was told of it on one class. */
export interface Point {
  readonly subnetId: string;
  readonly subnet: Subnet;
  readonly error: number;
  readonly latencyMs: number;
  readonly ci: { readonly lo: number; readonly hi: number };
  /** What a model that does nothing took in the same process. */
  readonly bindingMs: number;
}

interface SearchOptions {
  readonly subnets: number;
  readonly seed: number;
  /** Every agent's where absent. */
  readonly deviceClasses?: readonly string[];
  readonly algorithm?: 'nsga2' | 'random';
  readonly plan?: Plan;
  readonly capMs?: number;
  readonly fleet?: CampaignParts['fleet'];
}

export interface Lab {
  readonly controller: Controller;
  /** Runs a campaign and gives what each class was told, by class; `censored` holds the reason of each that had no number. */
  search(
    options: SearchOptions,
  ): Promise<{ readonly points: Readonly<Record<string, readonly Point[]>>; readonly censored: readonly string[] }>;
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
    async search({ subnets, seed, capMs, plan = DEFAULT_PLAN, algorithm = 'nsga2', fleet = controller.fleet, ...options }) {
      const { db, checkpoint, splits, weightsHash } = controller;
      const id = `lesion-${campaigns++}`;
      const deviceClasses = [...(options.deviceClasses ?? agents.map(({ name }) => name))];
      const settings = { subnets, seed, algorithm, deviceClasses, plan, budgetMs: null, validationSplit: splits.validation, testSplit: splits.test, space: checkpoint.space }; // prettier-ignore
      await createCampaign(db, { id, at: Date.now(), settings, weightsHash });
      const end = new AbortController();
      const timer = setTimeout(() => end.abort('cap'), capMs ?? LONGEST_SEARCH_MS);
      const parts = { db, fleet, prepare: (subnet: Subnet, signal: AbortSignal) => controller.prepare(subnet, signal), clock: systemClock, afterSearch: (signal: AbortSignal) => afterSearch(controller, id, signal), onProgress: () => undefined }; // prettier-ignore
      value(await runCampaign(parts, id, { end: end.signal, leave: new AbortController().signal }));
      clearTimeout(timer);
      const { campaign, trials, measurements } = value(await loadReportData(db, id));
      const censored = campaign.tells.flatMap(({ outcome }) => (outcome.ok ? [] : [outcome.reason]));
      const onClass = (deviceClass: string) =>
        trials.flatMap(({ subnetId, subnet, error, latencyMs }): Point[] => {
          const latency = latencyMs[deviceClass];
          if (latency === undefined) return [];
          const behind = measurements.find(
            (one) => one.purpose === 'search' && one.subnetId === subnetId && one.deviceClass === deviceClass,
          );
          return [{ subnetId, subnet, error, latencyMs: latency.value, ci: latency.ci ?? { lo: latency.value, hi: latency.value }, bindingMs: behind?.measurement.bindingMs ?? 0 }]; // prettier-ignore
        });
      const points = Object.fromEntries(deviceClasses.map((name) => [name, onClass(name)]));
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
