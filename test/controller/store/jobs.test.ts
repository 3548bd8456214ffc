// What is thrown away after its time, and what stays because a campaign's report stands on it.
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { DEFAULT_PLAN } from '../../../shared/measurement.ts';
import { createDispatcher } from '../../../controller/fleet/dispatcher.ts';
import { createCampaign, measurementKey } from '../../../controller/store/campaigns.ts';
import { openDatabase, type Db } from '../../../controller/store/database.ts';
import { insertEvidence, insertResult, purgeJobs } from '../../../controller/store/jobs.ts';
import { insertManifestOnce } from '../../../controller/store/manifests.ts';
import { SPACE } from '../../helpers/planted-campaign.ts';
import { value } from '../../helpers/outcome.ts';

const MANIFEST = { sha256: 'a'.repeat(64), bytes: 1, blocksSha256: null };

describe('the purge of old jobs', () => {
  let db: Db;

  /** A job that ended at `endedAt`, with a result and one more that was not counted. */
  async function addEnded(key: string, endedAt: number): Promise<void> {
    const dispatcher = await createDispatcher(db, 0);
    const { jobId } = await dispatcher.enqueue({ key, deviceClass: 'c', manifest: MANIFEST, plan: DEFAULT_PLAN }, 0);
    await dispatcher.cancel(jobId, endedAt);
    const row = { job_id: jobId, attempt: 1, device_id: 'd', outcome_json: '{}', at: endedAt };
    await insertResult(db, { ...row, result_hash: 'counted', late: 0 });
    await insertEvidence(db, { ...row, result_hash: 'not counted', verdict: 'stale' });
  }

  beforeEach(async () => {
    db = value(await openDatabase(':memory:'));
    await insertManifestOnce(db, MANIFEST, 0);
  });
  afterEach(() => db.destroy());

  it('keeps every job of a campaign that is there, told or not: baselines, energy and doubtful tries stand in its report', async () => {
    const settings = { subnets: 1, seed: 1, algorithm: 'random' as const, deviceClasses: ['c'], plan: DEFAULT_PLAN, budgetMs: null, validationSplit: 'v', testSplit: 't', space: SPACE }; // prettier-ignore
    await createCampaign(db, { id: 'kept', at: 0, settings, weightsHash: 'w' });
    const name = { campaignId: 'kept', subnetId: 's', deviceClass: 'c', attempt: 1 };
    const keys = (['search', 'energy', 'baseline'] as const).map((purpose) => measurementKey({ ...name, purpose }));
    for (const key of [...keys, 'kept', 'keptless/search/s/c/1']) await addEnded(key, 10);
    await purgeJobs(db, 11);
    const left = await db.selectFrom('job').select('dedupe_key').orderBy('dedupe_key').execute();
    expect(left.map(({ dedupe_key }) => dedupe_key)).toEqual([...keys].sort());
  });

  it('takes the results and the evidence of a job with it, and nothing of a younger one', async () => {
    await addEnded('old', 10);
    await addEnded('young', 11);
    await purgeJobs(db, 11);
    const young = await db.selectFrom('job').select(['job_id', 'dedupe_key']).execute();
    expect(young).toMatchObject([{ dedupe_key: 'young' }]);
    for (const table of ['job_result', 'job_evidence'] as const) {
      expect(await db.selectFrom(table).select('job_id').execute()).toEqual([{ job_id: young[0]?.job_id }]);
    }
  });
});
