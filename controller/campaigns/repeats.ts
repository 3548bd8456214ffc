// Some subnets measured once more, in fresh processes: what they differ by is what the interval of a single process does not know.
import type { Controller } from '../main.ts';
import { loadReportData } from '../report/data.ts';
import { measureOnce } from './measure-beside.ts';

/** On each class, where there is time. With 8 pairs Student's t is 2.3; twice as many would narrow the intervals by a tenth. */
const REPEATS = 8;
/** A doubtful one is made again. */
const MAX_TRIES = 3;

/** Measures what was not measured twice yet, until the signal aborts: the first that the search asked for, which are the extremes and uniform subnets. */
export async function measureRepeats(
  { db, fleet }: Pick<Controller, 'db' | 'fleet'>,
  campaignId: string,
  signal: AbortSignal,
  repeats = REPEATS,
): Promise<void> {
  const loaded = await loadReportData(db, campaignId);
  if (!loaded.ok) return;
  const { campaign, trials, artifacts } = loaded.value;
  const { deviceClasses, plan } = campaign.settings;
  await Promise.all(
    deviceClasses.map(async (deviceClass) => {
      const measured = trials.filter((trial) => trial.latencyMs[deviceClass] !== undefined);
      for (const { subnetId } of measured.slice(0, repeats)) {
        const manifestSha256 = artifacts.get(subnetId)?.manifestSha256;
        if (manifestSha256 === undefined) continue;
        const job = { name: { campaignId, purpose: 'repeat', subnetId, deviceClass }, manifestSha256, plan } as const;
        for (let attempt = 1; attempt <= MAX_TRIES && !signal.aborted; attempt++) {
          const { outcome } = await measureOnce(fleet, job, attempt, signal);
          if (outcome.ok && outcome.value.verdict.state === 'valid') break;
        }
      }
    }),
  );
}
