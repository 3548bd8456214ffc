// What subnets measured twice say of every interval of their class. Devices are stand-ins: each process of a model differs by a planned share.
import { afterEach, describe, expect, it } from 'vitest';
import { studentT } from '@ofa-fleet/shared/statistics.ts';
import { measureRepeats } from '../../../controller/campaigns/repeats.ts';
import { loadReportData, type ReportData } from '../../../controller/report/data.ts';
import { summaryLines } from '../../../controller/report/summary.ts';
import { trialRows } from '../../../controller/report/trial-files.ts';
import type { Db } from '../../../controller/store/database.ts';
import { value } from '../../helpers/outcome.ts';
import { CLASSES, plantCampaign } from '../../helpers/planted-campaign.ts';
import { createStandInFleet, measured, type StandInFleet, type StandInJob } from '../../helpers/stand-in-fleet.ts';

const never = new AbortController().signal;
const REPEATS = 8;
let open: { readonly db: Db; readonly fleet: StandInFleet } | null = null;

afterEach(async () => {
  await open?.fleet.close();
  await open?.db.destroy();
  open = null;
});

/** A campaign of 12 subnets, and what repeats by `answer` make of it; it is given the latency that the search was told. */
async function repeated(answer: (job: StandInJob, latencyMs: number) => ReturnType<typeof measured>) {
  const { db, campaignId } = await plantCampaign({ subnets: 12 });
  const before = value(await loadReportData(db, campaignId));
  const fleet = await createStandInFleet(db, CLASSES, (job) => {
    const trial = before.trials.find(({ subnetId }) => job.key.includes(subnetId));
    return answer(job, trial?.latencyMs[job.deviceClass]?.value as number);
  });
  open = { db, fleet };
  await measureRepeats({ db, fleet }, campaignId, never);
  return {
    before,
    after: value(await loadReportData(db, campaignId)),
    fleet,
    again: () => measureRepeats({ db, fleet }, campaignId, never),
  };
}

const halfWidths = (data: ReportData, deviceClass: string) =>
  data.trials.flatMap(({ latencyMs }) => {
    const { value: ms, ci } = latencyMs[deviceClass] ?? { value: NaN, ci: null };
    return ci === null ? [] : [(ci.hi - ci.lo) / 2 / ms];
  });

describe('subnets measured in a second process', () => {
  it('widen the intervals of their class to what processes differ by, and leave the other class alone', async () => {
    const { before, after } = await repeated((job, ms) => measured(ms * (job.deviceClass === 'wasm' ? 1.05 : 1)));
    const { relativeSd, pairs } = after.spreads.get('wasm') ?? { relativeSd: NaN, pairs: 0 };
    expect(pairs).toBe(REPEATS);
    expect(relativeSd).toBeCloseTo(Math.log(1.05) / Math.SQRT2, 6);
    for (const half of halfWidths(after, 'wasm')) expect(half).toBeCloseTo(studentT(0.95, REPEATS) * relativeSd, 6);
    expect(after.trials).toHaveLength(12);
    expect(after.spreads.get('native')?.relativeSd).toBeCloseTo(0, 6);
    expect(halfWidths(after, 'native')).toEqual(halfWidths(before, 'native'));
    const row = trialRows(after).find(({ deviceClass }) => deviceClass === 'wasm');
    expect(((row?.latencyHiMs ?? 0) - (row?.latencyLoMs ?? 0)) / 2 / (row?.latencyMs ?? 1)).toBeCloseTo(0.08, 2);
  });

  it('are the first that the search asked for, once each: nothing is measured a third time', async () => {
    const { after, fleet, again } = await repeated((_, ms) => measured(ms));
    const first = new Set(after.campaign.asks.slice(0, REPEATS).map(({ subnetId }) => subnetId));
    expect(new Set(fleet.jobs.map(({ key }) => key.split('/')[2]))).toEqual(first);
    await again();
    expect(fleet.jobs).toHaveLength(REPEATS * CLASSES.length);
  });

  it('are made again where they are doubtful, and what stays doubtful says nothing of the spread', async () => {
    const { after, fleet } = await repeated((job, ms) =>
      measured(ms * 2, job.deviceClass === 'wasm' || job.key.endsWith('/1') ? 'suspect' : 'valid'),
    );
    expect(fleet.jobs.filter(({ deviceClass }) => deviceClass === 'native')).toHaveLength(2 * REPEATS);
    expect(after.spreads.get('native')?.pairs).toBe(REPEATS);
    expect(after.spreads.get('wasm')).toBeUndefined();
  });

  it('are spoken of in the summary, and so is it where there are none', async () => {
    const { before, after } = await repeated((_, ms) => measured(ms * 1.05));
    expect(summaryLines(after).join('\n')).toContain(
      'Processes of one model differ by 3.4 % (standard deviation, from 8 subnets measured twice)',
    );
    expect(summaryLines(before).join('\n')).toContain(
      'Fewer than 3 subnets were measured twice: the intervals are those of single processes',
    );
  });
});
