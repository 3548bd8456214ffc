// The campaign as plain files for other tools: one row a trial and device, and the raw times of every measurement.
import { createHash } from 'node:crypto';
import type { CampaignMeasurement } from '../store/campaigns.ts';
import type { ReportData } from './data.ts';

export interface TrialRow {
  readonly ask: number;
  readonly subnetId: string;
  readonly deviceClass: string;
  /** `valid`, `suspect`, or the reason for which there is no number. */
  readonly state: string;
  readonly error: number | null;
  readonly latencyMs: number | null;
  readonly latencyLoMs: number | null;
  readonly latencyHiMs: number | null;
  readonly macs: number | null;
  readonly parameters: number | null;
  readonly resolution: number;
  /** e.g. `k3e4,k5e6|k7e3`: stages apart by `|`, blocks by `,`; in spaces with parallel blocks each begins with its mask: `m7k3e4,m3`. */
  readonly genes: string;
  /** Files under samples/ that hold the raw times. */
  readonly measurements: readonly string[];
}

/** One row for each tell, in the order in which the search was told. */
export function trialRows(data: ReportData): readonly TrialRow[] {
  const asks = new Map(data.campaign.asks.map((ask) => [ask.subnetId, ask]));
  return data.campaign.tells.flatMap(({ subnetId, deviceClass, jobId, outcome }): TrialRow[] => {
    const ask = asks.get(subnetId);
    if (ask === undefined) return [];
    const artifact = data.artifacts.get(subnetId);
    const latency = data.trials.find((trial) => trial.subnetId === subnetId)?.latencyMs[deviceClass];
    const value = outcome.ok ? outcome.value : null;
    return [
      {
        ask: ask.n,
        subnetId,
        deviceClass,
        state: outcome.ok ? outcome.value.state : outcome.reason,
        error: value?.objectives.error ?? null,
        latencyMs: latency?.value ?? null,
        latencyLoMs: latency?.ci?.lo ?? null,
        latencyHiMs: latency?.ci?.hi ?? null,
        macs: artifact?.macs ?? null,
        parameters: artifact?.parameters ?? null,
        resolution: ask.subnet.resolution,
        genes: genesOf(ask.subnet.stages),
        measurements: value?.jobIds ?? (jobId === null ? [] : [jobId]),
      },
    ];
  });
}

export function genesOf(stages: ReportData['campaign']['asks'][number]['subnet']['stages']): string {
  const block = ({ mask, kernel, expand }: (typeof stages)[number][number]) =>
    `${mask === undefined ? '' : `m${mask}`}${kernel === undefined ? '' : `k${kernel}e${expand}`}`;
  return stages.map((blocks) => blocks.map(block).join(',')).join('|');
}

/** RFC 4180: CRLF, quotes where a field needs them. */
export function trialsCsv(rows: readonly TrialRow[]): string {
  const columns = ['ask', 'subnetId', 'deviceClass', 'state', 'error', 'latencyMs', 'latencyLoMs', 'latencyHiMs', 'macs', 'parameters', 'resolution', 'genes', 'measurements'] as const; // prettier-ignore
  const field = (value: TrialRow[(typeof columns)[number]]): string => {
    const text = value === null ? '' : typeof value === 'object' ? value.join(' ') : String(value);
    return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
  };
  return [columns.join(','), ...rows.map((row) => columns.map((column) => field(row[column])).join(','))]
    .map((line) => `${line}\r\n`)
    .join('');
}

/** Name of a measurement's file under samples/: its id where that is a plain name, else its hash. */
export function samplesFileName(jobId: string): string {
  const plain = /^[A-Za-z0-9_.-]{1,128}$/.test(jobId) ? jobId : createHash('sha256').update(jobId).digest('hex').slice(0, 32);
  return `${plain}.json`;
}

export function samplesJson(measurement: CampaignMeasurement): string {
  return `${JSON.stringify(measurement, null, 1)}\n`;
}
