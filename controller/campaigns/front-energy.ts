// Joules per inference for the members of each front, on devices that have a sensor: windows of idle and load that a search could not afford
// for every subnet.
import type { Plan } from '@ofa-fleet/shared/measurement.ts';
import type { Controller } from '../main.ts';
import { loadReportData } from '../report/data.ts';
import { nonDominatedFronts } from '../search/pareto.ts';
import type { Trial } from '../search/trial.ts';
import { measureOnce } from './measure-beside.ts';

/** Half-width of the interval that is asked, and room for idle windows before and after. */
const RELATIVE_HALF_WIDTH = 0.05;
const CAP_MS = 120_000;
/** One that was taken back when a controller ended, or expired while its device was away, is asked again. */
const MAX_TRIES = 5;

/** Measures what is not measured yet, until the signal aborts. Nothing where no device of the campaign has a sensor. */
export async function measureFrontEnergy(
  { db, fleet }: Pick<Controller, 'db' | 'fleet'>,
  campaignId: string,
  signal: AbortSignal,
): Promise<void> {
  const loaded = await loadReportData(db, campaignId);
  if (!loaded.ok) return;
  const { campaign, trials, artifacts, devices } = loaded.value;
  const plan: Plan = { ...campaign.settings.plan, energyRelativeHalfWidth: RELATIVE_HALF_WIDTH, capMs: CAP_MS };
  for (const deviceClass of campaign.settings.deviceClasses) {
    const hasSensor = devices.some((device) => device.deviceClass === deviceClass && (device.info?.sensors.length ?? 0) > 0);
    if (!hasSensor) continue;
    for (const { subnetId } of frontOf(trials, deviceClass)) {
      const manifestSha256 = artifacts.get(subnetId)?.manifestSha256;
      if (manifestSha256 === undefined || signal.aborted) continue;
      const job = { name: { campaignId, purpose: 'energy', subnetId, deviceClass }, manifestSha256, plan } as const;
      for (let attempt = 1; attempt <= MAX_TRIES && !signal.aborted; attempt++) {
        const { outcome } = await measureOnce(fleet, job, attempt, signal);
        if (outcome.ok || (outcome.reason !== 'CANCELED' && outcome.reason !== 'EXPIRED')) break;
      }
    }
  }
}

/** Non-dominated in error and latency on the class, fastest first. */
function frontOf(trials: readonly Trial[], deviceClass: string): readonly Trial[] {
  const measured = trials.flatMap((trial) => {
    const latency = trial.latencyMs[deviceClass];
    return latency === undefined ? [] : [{ trial, vector: [latency.value, trial.error] }];
  });
  const [front = []] = nonDominatedFronts(measured.map(({ vector }) => vector));
  return front.map((i) => measured[i] as (typeof measured)[number]).sort((a, b) => (a.vector[0] as number) - (b.vector[0] as number)).map(({ trial }) => trial); // prettier-ignore
}
