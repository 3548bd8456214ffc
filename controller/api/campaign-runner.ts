// Runs campaigns inside the controller, one at a time, and takes up those that an earlier run of the controller left unfinished.
// State: `current` is the campaign that runs; it is null between them. Rows in the database say what is finished.
import { systemClock } from '@ofa-fleet/shared/clock.ts';
import type { Plan } from '@ofa-fleet/shared/measurement.ts';
import { failed, ok, type Outcome } from '@ofa-fleet/shared/outcome.ts';
import { runCampaign, type CampaignEnd, type CampaignProgress } from '../campaign.ts';
import type { Controller } from '../main.ts';
import { createCampaign, endCampaign, listCampaigns, loadCampaign } from '../store/campaigns.ts';
import { measureFrontEnergy } from './front-energy.ts';

export interface CampaignRequest {
  readonly subnets: number;
  readonly seed: number;
  readonly algorithm: 'nsga2' | 'random';
  /** null: every class with a device online. */
  readonly deviceClasses: readonly string[] | null;
  readonly budgetMs: number | null;
  /** Ends the search after so long; null: never. Counted anew when a restarted controller goes on. */
  readonly capMs: number | null;
  readonly plan: Plan;
}

export type CampaignEvent =
  | { readonly kind: 'progress'; readonly campaignId: string; readonly progress: CampaignProgress }
  | { readonly kind: 'end'; readonly campaignId: string; readonly outcome: Outcome<CampaignEnd> };

export interface CampaignRunner {
  /** BUSY while another runs; INVALID_INPUT where no device is there to measure. */
  start(request: CampaignRequest): Promise<Outcome<string>>;
  /** Ends it for good; what was measured stays. NOT_FOUND where it does not run. */
  stop(campaignId: string): Promise<Outcome<null>>;
  /** What happened last in the campaign that runs, or ran last. */
  latest(): CampaignEvent | null;
  subscribe(listener: (event: CampaignEvent) => void): () => void;
  /** Leaves the running campaign unfinished, for the next start to take up. */
  close(): Promise<void>;
}

export async function createCampaignRunner(
  controller: Controller,
  newId: () => string,
  log: (line: string) => void,
): Promise<CampaignRunner> {
  const { db, fleet, checkpoint, weightsHash, splits } = controller;
  const listeners = new Set<(event: CampaignEvent) => void>();
  const leave = new AbortController();
  let current: { readonly id: string; readonly end: AbortController; readonly done: Promise<void> } | null = null;
  let last: CampaignEvent | null = null;

  const tell = (event: CampaignEvent) => {
    last = event;
    for (const listener of [...listeners]) listener(event);
  };

  const run = async (campaignId: string, end: AbortSignal): Promise<void> => {
    const outcome = await runCampaign(
      {
        db,
        fleet,
        prepare: (subnet, signal) => controller.prepare(subnet, signal),
        clock: systemClock,
        onProgress: (progress) => tell({ kind: 'progress', campaignId, progress }),
      },
      campaignId,
      { end, leave: leave.signal },
    );
    if (outcome.ok && (outcome.value.reason === 'complete' || outcome.value.reason === 'cap')) {
      await measureFrontEnergy(controller, campaignId, leave.signal);
    }
    if (!outcome.ok) log(outcome.message);
    current = null;
    tell({ kind: 'end', campaignId, outcome });
  };

  const begin = (campaignId: string, capMs: number | null) => {
    const end = new AbortController();
    const timer = capMs === null ? null : setTimeout(() => end.abort('cap'), capMs);
    const done = run(campaignId, end.signal)
      .catch((error: unknown) => {
        current = null;
        const message = `The campaign broke off: ${error instanceof Error ? error.message : String(error)}. Start \`ofa-fleet serve\` again to go on.`;
        tell({ kind: 'end', campaignId, outcome: failed('CRASHED', message) });
        log(message);
      })
      .finally(() => {
        if (timer !== null) clearTimeout(timer);
      });
    current = { id: campaignId, end, done };
  };

  const unfinished = (await listCampaigns(db)).find((campaign) => campaign.endedReason === null);
  if (unfinished !== undefined) {
    const loaded = await loadCampaign(db, unfinished.id);
    if (loaded.ok && loaded.value.weightsHash === weightsHash && loaded.value.settings.validationSplit === splits.validation) {
      log(`Going on with campaign ${unfinished.id}: ${unfinished.asks} asked, ${unfinished.tells} results so far.`);
      begin(unfinished.id, null);
    } else {
      await endCampaign(db, unfinished.id, 'failed');
      log(
        `Campaign ${unfinished.id} was begun with another supernet or other images and cannot go on; \`ofa-fleet report\` still shows it.`,
      );
    }
  }

  return {
    async start(request) {
      if (current !== null) {
        return failed('BUSY', `Campaign ${current.id} runs already: wait for it, or end it with \`ofa-fleet search --stop\`.`);
      }
      const online = (await fleet.devices()).filter((device) => device.presence === 'online').map((device) => device.deviceClass);
      const deviceClasses = [...new Set(request.deviceClasses ?? online)].sort();
      const absent = deviceClasses.filter((name) => !online.includes(name));
      if (deviceClasses.length === 0) {
        return failed('INVALID_INPUT', 'No device is online to measure on: join one with the line that `ofa-fleet fleet --token` prints.');
      }
      if (absent.length > 0) {
        return failed(
          'INVALID_INPUT',
          `No device of class ${absent.join(', ')} is online; there are: ${[...new Set(online)].join(', ') || 'none'}.`,
        );
      }
      const id = newId();
      const { subnets, seed, algorithm, budgetMs, plan } = request;
      const settings = { subnets, seed, algorithm, deviceClasses, plan, budgetMs, validationSplit: splits.validation, testSplit: splits.test, space: checkpoint.space }; // prettier-ignore
      await createCampaign(db, { id, at: Date.now(), settings, weightsHash });
      begin(id, request.capMs);
      return ok(id);
    },
    async stop(campaignId) {
      if (current?.id !== campaignId) return failed('NOT_FOUND', `Campaign ${campaignId} does not run.`);
      current.end.abort('stopped');
      await current.done;
      return ok(null);
    },
    latest: () => last,
    subscribe(listener) {
      listeners.add(listener);
      return () => listeners.delete(listener);
    },
    async close() {
      leave.abort();
      await current?.done;
    },
  };
}
