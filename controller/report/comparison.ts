// The search's choice on each device beside what one would have deployed without it, on images that no choice has seen.
// Pure: measured rows in, a table and its sentences out; also where the search's choice only ties, or loses.
import { failed, ok, type Outcome } from '@ofa-fleet/shared/outcome.ts';
import type { Interval } from '@ofa-fleet/shared/measurement.ts';
import { median, wilson } from '@ofa-fleet/shared/statistics.ts';
import { bestUniform, macsOnlyChoice, otherDevicesChoice } from '../search/baselines.ts';
import { chooseWithinBudget, latencyOn, type Budget } from '../search/choose.ts';
import type { LatencyEstimate, Trial } from '../search/trial.ts';
import { largestSubnet, smallestSubnet, subnetId } from '../subnet.ts';
import type { ReportData } from './data.ts';
import { threeDigits } from './format.ts';

export interface Role {
  readonly role: 'chosen' | 'largest' | 'smallest' | 'uniform' | 'macs' | 'random' | 'other';
  readonly label: string;
  readonly choice: Outcome<Trial>;
  /** What the way of choosing promised, where it promises. */
  readonly promisedMs: number | null;
}

export interface ClassBudget extends Budget {
  readonly deviceClass: string;
  readonly origin: 'given' | 'median';
  /** Subnets whose median latency is the budget; empty where it was given. */
  readonly subnetIds: readonly string[];
}

/** The latency that the class has to keep: as given, else the median of what it measured. Null where it has measured nothing. */
export function budgetOf(data: Pick<ReportData, 'campaign' | 'trials'>, deviceClass: string): ClassBudget | null {
  const given = data.campaign.settings.budgetMs;
  if (given !== null) return { deviceClass, latencyMs: given, origin: 'given', subnetIds: [] };
  const measured = data.trials.filter((trial) => trial.latencyMs[deviceClass] !== undefined);
  if (measured.length === 0) return null;
  const latencyMs = median(measured.map((trial) => latencyOn(trial, deviceClass)));
  return { deviceClass, latencyMs, origin: 'median', subnetIds: measured.map((trial) => trial.subnetId) };
}

/** Every way of choosing for one class, the search's own first. */
export function rolesOf(data: ReportData, budget: ClassBudget): readonly Role[] {
  const { trials, baselines, campaign } = data;
  const { space, deviceClasses } = campaign.settings;
  const { deviceClass } = budget;
  const role = (name: Role['role'], label: string, choice: Outcome<Trial>, promisedMs: number | null = null): Role => ({ role: name, label, choice, promisedMs }); // prettier-ignore
  const measured = (id: string): Outcome<Trial> => {
    const trial = trials.find((one) => one.subnetId === id && one.latencyMs[deviceClass] !== undefined);
    return trial === undefined ? failed('NOT_FOUND', `Subnet ${id} has no measurement on ${deviceClass}.`) : ok(trial);
  };
  const byMacs = macsOnlyChoice(trials, deviceClass, budget);
  const random = baselines.find((one) => one.baseline.deviceClass === deviceClass);
  const others = deviceClasses.flatMap((other) => {
    const otherBudget = other === deviceClass ? null : budgetOf(data, other);
    if (otherBudget === null) return [];
    return [role('other', `the choice for ${other}`, otherDevicesChoice(trials, deviceClass, { deviceClass: other, budget: otherBudget }))];
  });
  return [
    role('chosen', "the search's choice", chooseWithinBudget(trials, deviceClass, budget)),
    role('largest', 'largest subnet', measured(subnetId(space, largestSubnet(space)))),
    role('smallest', 'smallest subnet', measured(subnetId(space, smallestSubnet(space)))),
    role('uniform', 'best uniform subnet', bestUniform(trials, deviceClass, budget)),
    role('macs', 'choice by MACs alone', byMacs.ok ? ok(byMacs.value.trial) : byMacs, byMacs.ok ? byMacs.value.promisedMs : null),
    role('random', 'random, of the same latency', random === undefined ? failed('NOT_FOUND', 'None was drawn and measured.') : baselineChoice(random, deviceClass)), // prettier-ignore
    ...others,
  ];
}

function baselineChoice({ trial, told }: ReportData['baselines'][number], deviceClass: string): Outcome<Trial> {
  if (trial.latencyMs[deviceClass] !== undefined) return ok(trial);
  return told?.ok === false ? told : failed('NOT_FOUND', 'It was drawn, and not measured in time.');
}

interface TestError {
  readonly wrong: number;
  readonly total: number;
  readonly share: number;
  readonly ci: Interval;
}

export interface ComparisonRow {
  readonly role: Role['role'];
  readonly label: string;
  readonly subnetId: string | null;
  readonly macs: number | null;
  readonly latency: LatencyEstimate | null;
  readonly test: TestError | null;
  readonly withinBudget: boolean | null;
  readonly promisedMs: number | null;
  /** Against the search's choice: what a reader should take from the row; for the choice itself, or where a number lacks, what is to be said of that. */
  readonly sentence: string;
}

export interface DeviceComparison {
  readonly budget: ClassBudget;
  readonly rows: readonly ComparisonRow[];
}

/** The table of every class that has measured anything. Errors are those on the test images; a row whose subnet was not evaluated there says so. */
export function compare(data: ReportData): readonly DeviceComparison[] {
  const { deviceClasses } = data.campaign.settings;
  return deviceClasses.flatMap((deviceClass) => {
    const budget = budgetOf(data, deviceClass);
    if (budget === null) return [];
    const rows = rolesOf(data, budget).map((role) => measuredRow(data, budget, role));
    const chosen = rows[0] as ComparisonRow;
    return [{ budget, rows: rows.map((row) => (row.sentence === '' ? { ...row, sentence: sentenceOf(row, chosen) } : row)) }];
  });
}

/** Subnets whose test error the comparison needs. */
export function subnetsToTest(data: ReportData): readonly Trial[] {
  const roles = data.campaign.settings.deviceClasses.flatMap((deviceClass) => {
    const budget = budgetOf(data, deviceClass);
    return budget === null ? [] : rolesOf(data, budget);
  });
  const trials = roles.flatMap(({ choice }) => (choice.ok ? [choice.value] : []));
  return [...new Map(trials.map((trial) => [trial.subnetId, trial])).values()];
}

function measuredRow(data: ReportData, budget: ClassBudget, { role, label, choice, promisedMs }: Role): ComparisonRow {
  if (!choice.ok) {
    return { role, label, subnetId: null, macs: null, latency: null, test: null, withinBudget: null, promisedMs, sentence: choice.message };
  }
  const trial = choice.value;
  const latency = trial.latencyMs[budget.deviceClass] ?? null;
  const accuracy = data.accuracies.find((row) => row.subnetId === trial.subnetId && row.split === data.campaign.settings.testSplit);
  const wrong = accuracy === undefined ? 0 : accuracy.total - accuracy.correct;
  const test =
    accuracy === undefined ? null : { wrong, total: accuracy.total, share: wrong / accuracy.total, ci: wilson(wrong, accuracy.total) };
  const withinBudget = latency === null ? null : latency.value <= budget.latencyMs;
  return { role, label, subnetId: trial.subnetId, macs: trial.macs, latency, test, withinBudget, promisedMs, sentence: '' };
}

/** How a row stands to the search's choice. Errors whose intervals overlap tie; so do latencies. */
function sentenceOf(row: ComparisonRow, chosen: ComparisonRow): string {
  if (row.role === 'chosen') return 'The least validation error of what was measured within the budget.';
  if (chosen.subnetId === null || chosen.latency === null || row.latency === null)
    return 'There is no choice of the search to set it beside.';
  if (row.subnetId === chosen.subnetId) return 'The same subnet: here the search found nothing better.';
  const speed = speedOf(row.latency, chosen.latency);
  const promised = row.promisedMs === null ? '' : ` MACs promised ${threeDigits(row.promisedMs)} ms.`;
  if (row.test === null || chosen.test === null) return `Not evaluated on the test images; it is ${speed}.${promised}`;
  const points = Math.abs(row.test.share - chosen.test.share) * 100;
  const verdict = overlap(row.test.ci, chosen.test.ci) ? 'ties' : row.test.share < chosen.test.share ? 'fewer' : 'more';
  const accuracy = {
    ties: 'Ours ties with it in error (the intervals overlap)',
    fewer: `It makes ${points.toFixed(1)} points fewer errors than ours`,
    more: `Ours makes ${points.toFixed(1)} points fewer errors`,
  }[verdict];
  if (row.withinBudget === false) return `${accuracy}; it does not keep the budget and is ${speed}.${promised}`;
  const loses = verdict === 'fewer' || (verdict === 'ties' && speed.endsWith('faster than ours'));
  return `${accuracy}; it is ${speed}.${loses ? ' Here ours loses.' : ''}${promised}`;
}

function speedOf(row: LatencyEstimate, ours: LatencyEstimate): string {
  if (row.ci !== null && ours.ci !== null && overlap(row.ci, ours.ci)) return 'as fast as ours (the intervals overlap)';
  const ratio = row.value / ours.value;
  return ratio > 1 ? `${times(ratio)} slower than ours` : `${times(1 / ratio)} faster than ours`;
}

function times(ratio: number): string {
  return ratio < 2 ? `${((ratio - 1) * 100).toFixed(0)} %` : `${ratio.toFixed(1)} times`;
}

function overlap(a: Interval, b: Interval): boolean {
  return a.lo <= b.hi && b.lo <= a.hi;
}
