// The demo's search: a campaign of its own, or the one that an earlier run left.
import { systemClock } from '@ofa-fleet/shared/clock.ts';
import { uuidV7 } from '@ofa-fleet/shared/ids.ts';
import { DEFAULT_PLAN, type Plan } from '@ofa-fleet/shared/measurement.ts';
import { ok, type Outcome } from '@ofa-fleet/shared/outcome.ts';
import { afterSearch } from '../campaigns/after-search.ts';
import { endForGood, runCampaign } from '../campaign.ts';
import { createCampaign, listCampaigns, loadCampaign } from '../store/campaigns.ts';
import { AGENTS, type DemoRun } from './demo-run.ts';
import { progressLines } from './progress-lines.ts';

/**
 * Less than a campaign that is not in a hurry asks: 3 %, and 10 effective samples, since WebAssembly's speed wanders over tenths of a second; a
 * disturbed measurement is cut short, its time being better spent on making it again.
 */
const PLAN: Plan = { ...DEFAULT_PLAN, relativeHalfWidth: 0.03, minEffectiveSamples: 10, minTimedMs: 150, capMs: 2500 };

/** The id of the campaign, at its end. */
export async function searchAll({ options, context, controller, display, capAt }: DemoRun): Promise<Outcome<string>> {
  const { db, fleet } = controller;
  const campaign = await campaignToRun(controller, options, context);
  if (!campaign.ok) return campaign;
  if (campaign.value.ended) return ok(campaign.value.id);
  const end = new AbortController();
  const timer = setTimeout(() => end.abort('cap'), Math.max(0, capAt - performance.now()));
  try {
    const outcome = await runCampaign(
      {
        db,
        fleet,
        prepare: (subnet, signal) => controller.prepare(subnet, signal),
        clock: systemClock,
        afterSearch: (signal) => afterSearch(controller, campaign.value.id, signal),
        onProgress: (progress) => {
          if (progress.note !== null) display.note(`  ${progress.note}`);
          display.show([...progressLines(progress), `  at most ${Math.max(0, Math.round((capAt - performance.now()) / 1000))} s more`]);
        },
      },
      campaign.value.id,
      { end: end.signal, leave: context.signal },
    );
    display.end();
    if (!outcome.ok) return outcome;
    context.print(`  ${outcome.value.message}`);
    return ok(campaign.value.id);
  } finally {
    clearTimeout(timer);
  }
}

/** The campaign of an earlier run with the same wishes and the same supernet, or a new one. */
async function campaignToRun(
  controller: DemoRun['controller'],
  options: DemoRun['options'],
  { print }: DemoRun['context'],
): Promise<Outcome<{ readonly id: string; readonly ended: boolean }>> {
  const { db, weightsHash, splits, checkpoint } = controller;
  const budgetMs = options.budget ?? null;
  const earlier = (await listCampaigns(db))[0];
  if (earlier !== undefined) {
    const loaded = await loadCampaign(db, earlier.id);
    const settings = loaded.ok ? loaded.value.settings : null;
    const same =
      settings?.subnets === options.subnets &&
      settings.seed === options.seed &&
      settings.budgetMs === budgetMs &&
      settings.validationSplit === splits.validation;
    // one that ended with nothing measured has nothing to go on with
    const useful = earlier.endedReason === null || (loaded.ok && loaded.value.tells.some(({ outcome }) => outcome.ok));
    if (loaded.ok && same && useful && loaded.value.weightsHash === weightsHash) {
      print(`  Going on with the demo that was cut off: ${earlier.asks} subnets asked, ${earlier.tells} results so far.`);
      return ok({ id: earlier.id, ended: earlier.endedReason !== null });
    }
    await endForGood(controller, earlier.id, 'stopped');
    print('  An earlier demo with other wishes, another supernet or no result is left as it is; this one starts anew.');
  }
  const id = uuidV7(Date.now());
  const settings = { subnets: options.subnets, seed: options.seed, algorithm: 'nsga2' as const, deviceClasses: AGENTS.map(({ name }) => name), plan: PLAN, budgetMs, validationSplit: splits.validation, testSplit: splits.test, space: checkpoint.space }; // prettier-ignore
  await createCampaign(db, { id, at: Date.now(), settings, weightsHash });
  return ok({ id, ended: false });
}
