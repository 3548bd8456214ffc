// Runs campaigns inside the controller, one at a time, and takes up those that an earlier run of the controller left unfinished.
// State: `current` is the campaign that runs; it is null between them. `starting` keeps the place while a start looks at the fleet. Rows in the database say what is finished.
import { systemClock } from '@ofa-fleet/shared/clock.ts';
import type { Plan } from '@ofa-fleet/shared/measurement.ts';
import { failed, ok, type Outcome } from '@ofa-fleet/shared/outcome.ts';
import { endForGood, runCampaign, type CampaignEnd, type CampaignProgress } from '../campaign.ts';
import type { Controller } from '../main.ts';
import { createCampaign, listCampaigns, loadCampaign } from '../store/campaigns.ts';
import { afterSearch } from './after-search.ts';

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
  /** Ends it for good, also one that a fault left unfinished; what was measured stays. NOT_FOUND where it is at its end. */
  stop(campaignId: string): Promise<Outcome<null>>;
  /** What happened last in the campaign that runs, or ran last. */
  latest(): CampaignEvent | null;
  subscribe(listener: (event: CampaignEvent) => void): () => void;
  /** Leaves the running campaign unfinished, for the next start to take up. */
  close(): Promise<void>;
}

export async function createCampaignRunner(
  controller: Pick<Controller, 'db' | 'fleet' | 'checkpoint' | 'weightsHash' | 'splits' | 'prepare'>,
  newId: () => string,
  log: (line: string) => void,
): Promise<CampaignRunner> {
  const { db, fleet, checkpoint, weightsHash, splits } = controller;
  const listeners = new Set<(event: CampaignEvent) => void>();
  const leave = new AbortController();
  let current: { readonly id: string; readonly end: AbortController; readonly done: Promise<void> } | null = null;
  let starting = false;
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
        afterSearch: (signal) => afterSearch(controller, campaignId, signal),
        onProgress: (progress) => tell({ kind: 'progress', campaignId, progress }),
      },
      campaignId,
      { end, leave: leave.signal },
    );
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
      begin(unfinished.id, loaded.value.settings.capMs ?? null);
    } else {
      await endForGood(controller, unfinished.id, 'failed');
      log(
        `Campaign ${unfinished.id} was begun with another supernet or other images and cannot go on; \`ofa-fleet report\` still shows it.`,
      );
    }
  }

  const startFree = async (request: CampaignRequest): Promise<Outcome<string>> => {
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
    const { subnets, seed, algorithm, budgetMs, capMs, plan } = request;
    const settings = { subnets, seed, algorithm, deviceClasses, plan, budgetMs, capMs, validationSplit: splits.validation, testSplit: splits.test, space: checkpoint.space }; // prettier-ignore
    // left there by a fault of the controller: this one takes its place
    for (const left of await listCampaigns(db)) if (left.endedReason === null) await endForGood(controller, left.id, 'stopped');
    await createCampaign(db, { id, at: Date.now(), settings, weightsHash });
    begin(id, capMs);
    return ok(id);
  };

  return {
    async start(request) {
      if (current !== null || starting) {
        const which = current === null ? 'Another campaign starts just now' : `Campaign ${current.id} runs already`;
        return failed('BUSY', `${which}: wait for it, or end it with \`ofa-fleet search --stop\`.`);
      }
      starting = true;
      try {
        return await startFree(request);
      } finally {
        starting = false;
      }
    },
    async stop(campaignId) {
      if (current?.id === campaignId) {
        current.end.abort('stopped');
        await current.done;
        return ok(null);
      }
      const left = (await listCampaigns(db)).some(({ id, endedReason }) => id === campaignId && endedReason === null);
      if (!left) return failed('NOT_FOUND', `Campaign ${campaignId} does not run.`);
      await endForGood(controller, campaignId, 'stopped');
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
