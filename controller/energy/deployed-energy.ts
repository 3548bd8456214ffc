// Joules of the deployed models: devices report cumulative counters, so the newest report of each boot says it all, and boots add up.
import { sql } from 'kysely';
import type { Db } from '../store/database.ts';

export interface DeployedEnergy {
  readonly deviceId: string;
  readonly deviceName: string;
  readonly deviceClass: string;
  /** Revision of the deployment on that device. */
  readonly rev: number;
  readonly manifestSha256: string | null;
  /** null where the device could not measure it; then `reason` says why. Never 0 for want of a sensor. */
  readonly idleJoules: number | null;
  readonly activeJoules: number | null;
  readonly idleMs: number;
  readonly activeMs: number;
  readonly inferences: number;
  readonly sensor: string | null;
  readonly reason: string | null;
  /** Reports added up, one for each boot. */
  readonly reports: readonly {
    readonly bootId: string;
    readonly seq: number;
    readonly idleJoules: number | null;
    readonly activeJoules: number | null;
  }[];
}

/** One entry for each device and deployment that has reported. */
export async function deployedEnergy(db: Db): Promise<readonly DeployedEnergy[]> {
  const rows = await db
    .selectFrom('energy_report as newest')
    .innerJoin('device', 'device.device_id', 'newest.device_id')
    .selectAll('newest')
    .select(['device.name', 'device.device_class'])
    .where(
      'newest.seq',
      '=',
      sql<number>`(SELECT max(seq) FROM energy_report AS other WHERE other.device_id = newest.device_id AND other.rev = newest.rev AND other.boot_id = newest.boot_id)`,
    )
    .orderBy('newest.device_id')
    .orderBy('newest.rev')
    .orderBy('newest.at')
    .execute();
  const groups = new Map<string, typeof rows>();
  for (const row of rows) groups.set(`${row.device_id} ${row.rev}`, [...(groups.get(`${row.device_id} ${row.rev}`) ?? []), row]);
  return [...groups.values()].map((boots) => {
    const last = boots[boots.length - 1] as (typeof rows)[number];
    const silent = boots.find((boot) => boot.idle_joules === null && boot.active_joules === null);
    const sum = (pick: (boot: (typeof rows)[number]) => number) => boots.reduce((total, boot) => total + pick(boot), 0);
    // a boot without joules leaves a hole that no sum may hide
    const joules = (key: 'idle_joules' | 'active_joules') =>
      boots.every((boot) => boot[key] !== null) ? sum((boot) => boot[key] ?? 0) : null;
    return {
      deviceId: last.device_id,
      deviceName: last.name,
      deviceClass: last.device_class,
      rev: last.rev,
      manifestSha256: last.manifest_sha256,
      idleJoules: joules('idle_joules'),
      activeJoules: joules('active_joules'),
      idleMs: sum((boot) => boot.idle_ms),
      activeMs: sum((boot) => boot.active_ms),
      inferences: sum((boot) => boot.inferences),
      sensor: last.sensor,
      reason: silent === undefined ? null : (silent.message ?? silent.reason ?? 'The device gave no reason.'),
      reports: boots.map((boot) => ({
        bootId: boot.boot_id,
        seq: boot.seq,
        idleJoules: boot.idle_joules,
        activeJoules: boot.active_joules,
      })),
    };
  });
}
