// The outcome of a campaign in lines that a reader understands without documentation.
import { compare, type ComparisonRow, type DeviceComparison } from './comparison.ts';
import type { ReportData } from './data.ts';
import { milliseconds, percent, percentWithin, threeDigits } from './format.ts';
import { medianOf, whyNoEnergy } from './html.ts';

export function summaryLines(data: ReportData): readonly string[] {
  const { campaign, trials } = data;
  const { deviceClasses } = campaign.settings;
  const complete = trials.filter((trial) => deviceClasses.every((name) => trial.latencyMs[name] !== undefined)).length;
  const comparisons = compare(data);
  return [
    `${complete} subnets of ${campaign.settings.space.name} measured on ${deviceClasses.join(' and ')}.`,
    ...comparisons.flatMap((comparison) => ['', ...deviceLines(comparison)]),
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

function energyLines(data: ReportData): readonly string[] {
  const deployed = data.energy.filter((entry) => entry.activeJoules !== null || entry.idleJoules !== null);
  const measured = data.measurements.filter((one) => one.purpose === 'energy' && one.measurement.energy.gross.value !== null);
  if (deployed.length === 0 && measured.length === 0) return [whyNoEnergy(data)];
  const joules = (value: number | null) => (value === null ? 'not measured' : `${threeDigits(value)} J`);
  return deployed.map(
    (entry) =>
      `Energy of ${entry.deviceName}, deployment ${entry.rev}: active ${joules(entry.activeJoules)}, idle ${joules(entry.idleJoules)}, ${entry.inferences} inferences.`,
  );
}
