// What each device should serve (desired), what it says it serves (reported), and the energy it says that cost.
import type { Insertable } from 'kysely';
import type { Db } from './database.ts';
import type { DeploymentTable, EnergyReportTable, ReportedTable } from './schema.ts';

/** A new revision; the one before it is superseded unless it had ended otherwise. Returns its number: 1, 2, 3 … for each device. */
export async function insertDesired(db: Db, deviceId: string, manifestSha256: string, now: number): Promise<number> {
  return db.transaction().execute(async (tx) => {
    const last = await tx
      .selectFrom('deployment')
      .select((eb) => eb.fn.max('rev').as('rev'))
      .where('device_id', '=', deviceId)
      .executeTakeFirst();
    const rev = (last?.rev ?? 0) + 1;
    await tx
      .updateTable('deployment')
      .set({ state: 'superseded', settled_at: now })
      .where('device_id', '=', deviceId)
      .where('state', 'in', ['desired', 'committed'])
      .execute();
    await tx
      .insertInto('deployment')
      .values({
        device_id: deviceId,
        rev,
        manifest_sha256: manifestSha256,
        state: 'desired',
        reason: null,
        message: null,
        desired_at: now,
        settled_at: null,
      })
      .execute();
    return rev;
  });
}

/** The newest revision, whatever became of it. */
export async function newestDeployment(db: Db, deviceId: string): Promise<DeploymentTable | null> {
  return (
    (await db.selectFrom('deployment').selectAll().where('device_id', '=', deviceId).orderBy('rev', 'desc').limit(1).executeTakeFirst()) ??
    null
  );
}

/** Only a desired revision settles, and once. */
export async function settleDeployment(
  db: Db,
  deviceId: string,
  rev: number,
  end: { readonly state: 'committed' | 'failed'; readonly reason: string | null; readonly message: string | null; readonly at: number },
): Promise<void> {
  await db
    .updateTable('deployment')
    .set({ state: end.state, reason: end.reason, message: end.message, settled_at: end.at })
    .where('device_id', '=', deviceId)
    .where('rev', '=', rev)
    .where('state', '=', 'desired')
    .execute();
}

export async function saveReported(db: Db, reported: ReportedTable): Promise<void> {
  await db
    .insertInto('reported')
    .values(reported)
    .onConflict((conflict) => conflict.column('device_id').doUpdateSet(reported))
    .execute();
}

export async function listReported(db: Db): Promise<readonly ReportedTable[]> {
  return db.selectFrom('reported').selectAll().execute();
}

/** Counters are cumulative, so only the newest report of each deployment in each run of the agent is kept; one that comes late changes nothing. */
export async function saveEnergyReport(db: Db, report: Insertable<EnergyReportTable>): Promise<void> {
  await db.transaction().execute(async (tx) => {
    await tx
      .insertInto('energy_report')
      .values(report)
      .onConflict((conflict) => conflict.doNothing())
      .execute();
    const counters = { device_id: report.device_id, rev: report.rev, boot_id: report.boot_id };
    const newest = tx
      .selectFrom('energy_report')
      .select((eb) => eb.fn.max('seq').as('seq'))
      .where((eb) => eb.and(counters));
    await tx
      .deleteFrom('energy_report')
      .where((eb) => eb.and(counters))
      .where('seq', '<', newest)
      .execute();
  });
}
