// Everything that a report says, read once from the database: a campaign with the rows behind each of its numbers.
import { ok, type Outcome } from '@ofa-fleet/shared/outcome.ts';
import { deviceInfoSchema, type DeviceInfo } from '@ofa-fleet/shared/device.ts';
import { deployedEnergy, type DeployedEnergy } from '../energy/deployed-energy.ts';
import type { Trial } from '../search/trial.ts';
import { accuraciesOf, artifactsOf, type AccuracyRow, type ArtifactRow } from '../store/artifacts.ts';
import { loadCampaign, measurementsOf, type Campaign, type CampaignMeasurement } from '../store/campaigns.ts';
import { baselinesOf, servedChecksOf, type Baseline, type ServedCheck } from '../store/comparison.ts';
import type { Db } from '../store/database.ts';
import { settle, type ToldOutcome } from '../store/told.ts';
import { processSpread, widened, type ProcessSpread } from './process-spread.ts';

export interface ReportDevice {
  readonly deviceId: string;
  readonly name: string;
  readonly deviceClass: string;
  readonly info: DeviceInfo | null;
}

export interface ReportData {
  readonly campaign: Campaign;
  /** Measured subnets in the order of their asks; `latencyMs` holds the classes on which they have a number. */
  readonly trials: readonly Trial[];
  /** Random subnets measured for the comparison alone, one a class; same form, kept out of every choice. */
  readonly baselines: readonly { readonly baseline: Baseline; readonly trial: Trial; readonly told: ToldOutcome | null }[];
  readonly measurements: readonly CampaignMeasurement[];
  /** By device class; a class that measured too little twice has none, and its intervals are those of single processes. */
  readonly spreads: ReadonlyMap<string, ProcessSpread>;
  readonly artifacts: ReadonlyMap<string, ArtifactRow>;
  readonly accuracies: readonly AccuracyRow[];
  readonly served: readonly ServedCheck[];
  readonly energy: readonly DeployedEnergy[];
  readonly devices: readonly ReportDevice[];
}

export async function loadReportData(db: Db, campaignId: string): Promise<Outcome<ReportData>> {
  const loaded = await loadCampaign(db, campaignId);
  if (!loaded.ok) return loaded;
  const campaign = loaded.value;
  const artifacts = await artifactsOf(db, campaign.weightsHash);
  const measurements = await measurementsOf(db, campaignId);
  const baselines = await baselinesOf(db, campaignId, campaign.settings.space);
  if (!baselines.ok) return baselines;
  const own = new Set([...campaign.asks, ...baselines.value].map(({ subnetId }) => subnetId));
  // rows are only ever added, so a second evaluation would be a second row: the first one stands
  const rows = (await accuraciesOf(db, campaign.weightsHash)).filter(({ subnetId }) => own.has(subnetId)).reverse();
  const accuracies = [...new Map(rows.map((row) => [`${row.subnetId} ${row.split}`, row])).values()];
  const deviceRows = await db.selectFrom('device').selectAll().orderBy('enrolled_at').orderBy('device_id').execute();
  const devices = deviceRows
    .filter((row) => campaign.settings.deviceClasses.includes(row.device_class))
    .map((row) => ({ deviceId: row.device_id, name: row.name, deviceClass: row.device_class, info: parseInfo(row.info_json) }));
  const spreads = new Map(
    campaign.settings.deviceClasses.flatMap((name) => {
      const spread = processSpread(measurements, name);
      return spread === null ? [] : [[name, spread] as const];
    }),
  );
  return ok({
    campaign,
    trials: trialsOf(campaign, artifacts, spreads),
    baselines: baselines.value.flatMap((baseline) => baselineTrial(campaign, baseline, { measurements, artifacts, accuracies, spreads })),
    measurements,
    spreads,
    artifacts,
    accuracies,
    served: await servedChecksOf(db, campaignId),
    energy: (await deployedEnergy(db)).filter((entry) => campaign.settings.deviceClasses.includes(entry.deviceClass)),
    devices,
  });
}

/** The subnets of a campaign with at least one number, in the order of their asks. */
function trialsOf(campaign: Campaign, artifacts: ReportData['artifacts'], spreads: ReportData['spreads']): readonly Trial[] {
  return campaign.asks.flatMap(({ subnetId, subnet }): Trial[] => {
    const artifact = artifacts.get(subnetId);
    const told = campaign.tells.flatMap((tell) =>
      tell.subnetId === subnetId && tell.outcome.ok ? [{ ...tell.outcome.value, deviceClass: tell.deviceClass }] : [],
    );
    const error = told[0]?.objectives.error;
    if (artifact === undefined || error === undefined) return [];
    return [
      {
        subnetId,
        subnet,
        macs: artifact.macs,
        error,
        latencyMs: Object.fromEntries(told.map((one) => [one.deviceClass, widened(one.latency, spreads.get(one.deviceClass) ?? null)])),
      },
    ];
  });
}

function baselineTrial(
  campaign: Campaign,
  baseline: Baseline,
  { measurements, artifacts, accuracies, spreads }: Pick<ReportData, 'measurements' | 'artifacts' | 'accuracies' | 'spreads'>,
): ReportData['baselines'] {
  const { subnetId, subnet, deviceClass } = baseline;
  const artifact = artifacts.get(subnetId);
  const accuracy = accuracies.find((row) => row.subnetId === subnetId && row.split === campaign.settings.validationSplit);
  if (artifact === undefined || accuracy === undefined) return [];
  const error = 1 - accuracy.correct / accuracy.total;
  const own = measurements.filter((one) => one.purpose === 'baseline' && one.subnetId === subnetId && one.deviceClass === deviceClass);
  const tries = [...own].sort((a, b) => a.attempt - b.attempt).map(({ jobId, measurement }) => ({ jobId, outcome: ok(measurement) }));
  const told = settle(tries, error)?.outcome ?? null;
  const latencyMs = told?.ok === true ? { [deviceClass]: widened(told.value.latency, spreads.get(deviceClass) ?? null) } : {};
  return [{ baseline, told, trial: { subnetId, subnet, macs: artifact.macs, error, latencyMs } }];
}

function parseInfo(text: string): DeviceInfo | null {
  const parsed = deviceInfoSchema.safeParse(JSON.parse(text));
  return parsed.success ? parsed.data : null;
}
