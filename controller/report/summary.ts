// The outcome of a campaign in lines that a reader understands without documentation.
import type { Interval } from '@ofa-fleet/shared/measurement.ts';
import { compare, type ComparisonRow, type DeviceComparison } from './comparison.ts';
import type { ReportData } from './data.ts';
import { millijoules, milliseconds, percent, percentWithin, threeDigits } from './format.ts';
import { medianOf, whyNoEnergy } from './html.ts';
import { spreadSentence } from './process-spread.ts';

export function summaryLines(data: ReportData): readonly string[] {
  const { campaign, trials } = data;
  const { deviceClasses } = campaign.settings;
  const complete = trials.filter((trial) => deviceClasses.every((name) => trial.latencyMs[name] !== undefined)).length;
  const comparisons = compare(data);
  return [
    `${complete} subnets of ${campaign.settings.space.name} measured on ${deviceClasses.join(' and ')}.`,
    ...comparisons.flatMap((comparison) => [
      '',
      ...deviceLines(comparison),
      `  ${spreadSentence(data.spreads.get(comparison.budget.deviceClass) ?? null)}`,
    ]),
    '',
    ...differenceLines(comparisons),
    ...(data.served.length === 0 ? [] : ['', ...servedLines(data)]),
    '',
    ...energyLines(data),
  ];
}

function deviceLines({ budget, rows }: DeviceComparison): readonly string[] {
  const origin = budget.origin === 'given' ? 'given' : 'the median of what it measured';
  const total = rows.find((row) => row.test !== null)?.test?.total ?? null;
  const errors = total === null ? 'error' : `error on ${total} test images (95 % interval)`;
  const cells = rows.map((row) => [row.label, latencyCell(row), keptCell(row, budget.latencyMs), errorCell(row)]);
  const head = ['', 'latency (95 % interval)', 'within budget', errors];
  const widths = head.map((title, column) => Math.max(title.length, ...cells.map((row) => (row[column] as string).length)));
  const line = (row: readonly string[]) => `  ${row.map((cell, column) => cell.padEnd(widths[column] as number)).join('   ').trimEnd()}`; // prettier-ignore
  const remarks = rows.slice(1).map((row) => `  - ${row.label}: ${row.sentence}`);
  return [
    `On ${budget.deviceClass}, with a budget of ${threeDigits(budget.latencyMs)} ms (${origin}):`,
    line(head),
    ...cells.map(line),
    ...(rows[0]?.subnetId === null ? [`  ${rows[0].sentence}`] : remarks),
  ];
}

function latencyCell({ latency }: ComparisonRow): string {
  return latency === null ? '-' : milliseconds(latency);
}

function keptCell({ withinBudget, latency }: ComparisonRow, budgetMs: number): string {
  if (withinBudget === null || latency === null) return '-';
  return withinBudget ? 'yes' : `no, ${(latency.value / budgetMs).toFixed(2)} x`;
}

function errorCell({ test }: ComparisonRow): string {
  return test === null ? '-' : percentWithin(test.share, test.ci);
}

/** Whether the devices wanted different nets: the reason to measure on each. */
function differenceLines(comparisons: readonly DeviceComparison[]): readonly string[] {
  const chosen = comparisons.flatMap(({ budget, rows }) =>
    rows[0]?.subnetId == null ? [] : [{ deviceClass: budget.deviceClass, subnetId: rows[0].subnetId }],
  );
  if (chosen.length < comparisons.length || chosen.length === 0)
    return ['Not every device has a choice, so the devices cannot be told apart by it.'];
  if (chosen.length === 1) return [];
  const distinct = new Set(chosen.map(({ subnetId }) => subnetId)).size;
  return [
    distinct === 1
      ? 'Every device got the same subnet: here one would have done for all.'
      : `The devices got ${distinct} different subnets: ${chosen.map(({ deviceClass, subnetId }) => `${deviceClass} ${subnetId.slice(0, 8)}`).join(', ')}.`,
  ];
}

function servedLines(data: ReportData): readonly string[] {
  return [
    'As deployed:',
    ...data.served.map((check) => {
      const promised = data.trials.find((trial) => trial.subnetId === check.subnetId)?.latencyMs[check.deviceClass];
      const promise = promised === undefined ? '' : ` (promised ${milliseconds(promised)})`;
      return `  ${check.deviceClass} by ${check.carrier.toUpperCase()}: ${check.agreeing} of ${check.images} answers are the controller's own (${percent(check.agreeing / check.images)}); as served ${milliseconds(medianOf(check.runMs))}${promise}; answer here after ${milliseconds(medianOf(check.roundTripMs))}.`;
    }),
  ];
}

/** One line for each device and kind: joules per inference, or why there are none; then joules of each deployment. */
function energyLines(data: ReportData): readonly string[] {
  const joules = (value: number | null) => (value === null ? 'not measured' : `${threeDigits(value)} J`);
  const perInference = new Map(data.devices.map(({ deviceId }) => [deviceId, grossOf(data, deviceId)]));
  const without = data.devices.filter(({ deviceId }) => perInference.get(deviceId)?.length === 0);
  const deployed = data.energy.filter((entry) => entry.activeJoules !== null || entry.idleJoules !== null);
  return [
    ...data.devices.flatMap(({ deviceId, name }) => {
      const [least, ...more] = perInference.get(deviceId) ?? [];
      const most = more.at(-1);
      if (least === undefined) return [];
      const range = most === undefined ? '' : ` to ${millijoules(most)} in ${more.length + 1} measurements`;
      return [`Energy of ${name} per inference, idle power included: ${millijoules(least)}${range}.`];
    }),
    ...(without.length > 0 || data.devices.length === 0 ? [whyNoEnergy({ devices: without })] : []),
    ...deployed.map(
      (entry) =>
        `Energy of ${entry.deviceName}, deployment ${entry.rev}: active ${joules(entry.activeJoules)}, idle ${joules(entry.idleJoules)}, ${entry.inferences} inferences.`,
    ),
  ];
}

/** Joules per inference that a device measured, ascending. */
function grossOf(data: ReportData, deviceId: string): readonly { readonly value: number; readonly ci: Interval | null }[] {
  return data.measurements
    .filter((one) => one.purpose === 'energy' && one.deviceId === deviceId)
    .flatMap(({ measurement }) => {
      const { value, ci } = measurement.energy.gross;
      return value === null ? [] : [{ value, ci }];
    })
    .sort((a, b) => a.value - b.value);
}
