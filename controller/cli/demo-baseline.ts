// The comparison that a campaign itself does not make: one random subnet of the chosen one's latency, drawn and then measured.
import { ok, type Outcome } from '@ofa-fleet/shared/outcome.ts';
import { measureSettled } from '../campaigns/measure-beside.ts';
import type { Controller } from '../main.ts';
import { macsOfSubnet } from '../materialise/macs.ts';
import { budgetOf } from '../report/comparison.ts';
import type { ReportData } from '../report/data.ts';
import { randomOfEqualLatency } from '../search/baselines.ts';
import { chooseWithinBudget, latencyOn } from '../search/choose.ts';
import { stream } from '../search/rng.ts';
import { addBaseline, type Baseline } from '../store/comparison.ts';

/** Streams below those of the asks, so that no draw repeats one of the search's. */
const FIRST_STREAM = -1000;

/** Draws (or takes what an earlier run drew) and measures one for the class. Returns why there is none, or null. */
export async function measureRandomBaseline(
  controller: Controller,
  data: ReportData,
  deviceClass: string,
  signal: AbortSignal,
): Promise<string | null> {
  const { campaign, trials } = data;
  const { space, seed, plan, deviceClasses } = campaign.settings;
  const budget = budgetOf(data, deviceClass);
  const chosen = budget === null ? null : chooseWithinBudget(trials, deviceClass, budget);
  if (chosen?.ok !== true) return 'nothing was chosen to match its latency';
  const known = data.baselines.find(({ baseline }) => baseline.deviceClass === deviceClass)?.baseline;
  const drawn: Outcome<Omit<Baseline, 'deviceClass'>> =
    known !== undefined
      ? ok(known)
      : randomOfEqualLatency({
          space,
          trials,
          deviceClass,
          latencyMs: latencyOn(chosen.value, deviceClass),
          macsOf: (subnet) => macsOfSubnet(space, subnet),
          rng: stream(seed, FIRST_STREAM - deviceClasses.indexOf(deviceClass)),
        });
  if (!drawn.ok) return drawn.message;
  const baseline: Baseline = { deviceClass, subnetId: drawn.value.subnetId, subnet: drawn.value.subnet };
  await addBaseline(controller.db, campaign.id, baseline);
  const prepared = await controller.prepare(baseline.subnet, signal);
  if (!prepared.ok) return prepared.message;
  const { manifestSha256, error } = prepared.value;
  const name = { campaignId: campaign.id, purpose: 'baseline', subnetId: baseline.subnetId, deviceClass } as const;
  const told = await measureSettled(controller.fleet, { name, manifestSha256, plan }, error, signal);
  return told.outcome.ok ? null : told.outcome.message;
}
