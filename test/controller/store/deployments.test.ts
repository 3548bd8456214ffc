// Energy reports as they are kept: cumulative counters, so one row for each deployment in each run of an agent.
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { deployedEnergy } from '../../../controller/energy/deployed-energy.ts';
import { openDatabase, type Db } from '../../../controller/store/database.ts';
import { saveEnergyReport } from '../../../controller/store/deployments.ts';
import { value } from '../../helpers/outcome.ts';

describe('energy reports', () => {
  let db: Db;
  const report = (boot_id: string, rev: number, seq: number, joules: number) =>
    saveEnergyReport(db, { device_id: 'd', rev, manifest_sha256: null, boot_id, seq, idle_joules: joules, active_joules: joules / 2, idle_ms: 1, active_ms: 1, inferences: seq, sensor: 's', reason: null, message: null, at: seq }); // prettier-ignore

  beforeEach(async () => {
    db = value(await openDatabase(':memory:'));
    await db.insertInto('device').values({ device_id: 'd', name: 'd', device_class: 'c', info_json: '{}', fleet: 'main', shard: '00', password_hash: '', enrolled_at: 0 }).execute(); // prettier-ignore
  });
  afterEach(() => db.destroy());

  it('leave one row for each deployment in each run of the agent, the newest, however many come', async () => {
    for (let seq = 0; seq < 20; seq++) await report('run-1', 1, seq, seq);
    await report('run-1', 2, 20, 1);
    await report('run-2', 1, 0, 3);
    const rows = await db.selectFrom('energy_report').select(['boot_id', 'rev', 'seq']).orderBy('boot_id').orderBy('rev').execute();
    expect(rows).toEqual([
      { boot_id: 'run-1', rev: 1, seq: 19 },
      { boot_id: 'run-1', rev: 2, seq: 20 },
      { boot_id: 'run-2', rev: 1, seq: 0 },
    ]);
    expect((await deployedEnergy(db)).map(({ rev, idleJoules }) => [rev, idleJoules])).toEqual([
      [1, 22],
      [2, 1],
    ]);
  });

  it('change nothing when they come late or twice', async () => {
    await report('run', 1, 5, 5);
    await report('run', 1, 4, 4);
    await report('run', 1, 5, 50);
    expect(await db.selectFrom('energy_report').select(['seq', 'idle_joules']).execute()).toEqual([{ seq: 5, idle_joules: 5 }]);
  });
});
