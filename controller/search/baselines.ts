// What one would have deployed without a search on this device: the choices that the search's own is set beside.
import { failed, ok, type Outcome } from '@ofa-fleet/shared/outcome.ts';
import type { Space } from '../space.ts';
import { subnetId, type Subnet } from '../subnet.ts';
import { chooseWithinBudget, first, latencyOn, type Budget } from './choose.ts';
import { randomSubnet } from './operators.ts';
import type { Rng } from './rng.ts';
import type { Trial } from './trial.ts';

/** True where all blocks share one mask, one kernel and one expand ratio and all stages one depth. */
export function isUniform(subnet: Subnet): boolean {
  const blocks = subnet.stages.flat();
  const one = (values: readonly (number | undefined)[]) => new Set(values).size <= 1;
  return (
    one(subnet.stages.map((stage) => stage.length)) &&
    one(blocks.map((block) => block.mask)) &&
    one(blocks.map((block) => block.kernel)) &&
    one(blocks.map((block) => block.expand))
  );
}

/** The best within the budget among uniform subnets: plain scaling of depth, width, kernel and resolution, measured on this device. */
export function bestUniform(trials: readonly Trial[], deviceClass: string, budget: Budget): Outcome<Trial> {
  return chooseWithinBudget(
    trials.filter((trial) => isUniform(trial.subnet)),
    deviceClass,
    budget,
  );
}

export interface MacsChoice {
  readonly trial: Trial;
  /** What scaling promised; the trial holds what was measured. */
  readonly promisedMs: number;
  /** The net whose latency was scaled. */
  readonly scaledFrom: Trial;
}

/**
 * The choice of someone who measured only the largest net here and takes latency to be proportional to MACs: the most accurate trial whose
 * scaled latency fits. "Largest" is the trial of most MACs measured on the class; only trials measured there can be chosen, to show the truth.
 */
export function macsOnlyChoice(trials: readonly Trial[], deviceClass: string, budget: Budget): Outcome<MacsChoice> {
  const measured = trials.filter((trial) => trial.latencyMs[deviceClass] !== undefined);
  const largest = first(measured, (trial) => [-trial.macs]);
  if (largest === null) return failed('NOT_FOUND', `Nothing has been measured on ${deviceClass} yet. Run a search that includes it first.`);
  const msPerMac = latencyOn(largest, deviceClass) / largest.macs;
  const fitting = measured.filter((trial) => trial.macs * msPerMac <= budget.latencyMs);
  const best = first(fitting, (trial) => [trial.error, trial.macs]);
  if (best !== null) return ok({ trial: best, promisedMs: best.macs * msPerMac, scaledFrom: largest });
  const leanest = first(measured, (trial) => [trial.macs]) as Trial;
  return failed(
    'INFEASIBLE',
    `By MACs alone no measured subnet meets ${budget.latencyMs} ms on ${deviceClass}: the leanest scales to ${(leanest.macs * msPerMac).toPrecision(3)} ms.`,
  );
}

/** What another class chose within its own budget, as a trial measured on this class too. */
export function otherDevicesChoice(
  trials: readonly Trial[],
  deviceClass: string,
  other: { readonly deviceClass: string; readonly budget: Budget },
): Outcome<Trial> {
  const choice = chooseWithinBudget(trials, other.deviceClass, other.budget);
  if (!choice.ok || choice.value.latencyMs[deviceClass] !== undefined) return choice;
  return failed('NOT_FOUND', `${other.deviceClass}'s choice, subnet ${choice.value.subnetId}, has not been measured on ${deviceClass}.`);
}

/** Latency as a straight line over MACs. */
export interface MacsFit {
  readonly interceptMs: number;
  readonly msPerMac: number;
}

/** Ordinary least squares of latency over MACs on one class; null with fewer than two different MAC counts. */
export function fitLatencyByMacs(trials: readonly Trial[], deviceClass: string): MacsFit | null {
  const measured = trials.filter((trial) => trial.latencyMs[deviceClass] !== undefined);
  const mean = (values: readonly number[]) => values.reduce((sum, value) => sum + value, 0) / values.length;
  const macs = mean(measured.map((trial) => trial.macs));
  const latencyMs = mean(measured.map((trial) => latencyOn(trial, deviceClass)));
  const spread = measured.reduce((sum, trial) => sum + (trial.macs - macs) ** 2, 0);
  if (!(spread > 0)) return null;
  const slope = measured.reduce((sum, trial) => sum + (trial.macs - macs) * (latencyOn(trial, deviceClass) - latencyMs), 0) / spread;
  return { interceptMs: latencyMs - slope * macs, msPerMac: slope };
}

const DRAWS = 5000;
const TOLERANCE = 0.05;

/**
 * A random subnet, not among the trials, whose latency as fitted by MACs is within 5 % of `latencyMs`: to be measured and set beside a chosen
 * one. The draw knows nothing of accuracy. NOT_FOUND after 5,000 draws, naming the closest.
 */
export function randomOfEqualLatency(options: {
  readonly space: Space;
  readonly trials: readonly Trial[];
  readonly deviceClass: string;
  readonly latencyMs: number;
  /** MACs of a subnet, counted as the trials' own. */
  readonly macsOf: (subnet: Subnet) => number;
  readonly rng: Rng;
}): Outcome<{ readonly subnet: Subnet; readonly subnetId: string; readonly fittedMs: number }> {
  const { space, trials, deviceClass, latencyMs, macsOf, rng } = options;
  const fit = fitLatencyByMacs(trials, deviceClass);
  if (fit === null)
    return failed('NOT_FOUND', `Too few different subnets are measured on ${deviceClass} to fit latency by MACs: two at least.`);
  const known = new Set(trials.map((trial) => trial.subnetId));
  let closestMs = Infinity;
  for (let draw = 0; draw < DRAWS; draw++) {
    const subnet = randomSubnet(space, rng);
    const fittedMs = fit.interceptMs + fit.msPerMac * macsOf(subnet);
    if (Math.abs(fittedMs - latencyMs) < Math.abs(closestMs - latencyMs)) closestMs = fittedMs;
    if (Math.abs(fittedMs - latencyMs) > TOLERANCE * latencyMs) continue;
    const id = subnetId(space, subnet);
    if (!known.has(id)) return ok({ subnet, subnetId: id, fittedMs });
  }
  return failed(
    'NOT_FOUND',
    `None of ${DRAWS} random subnets is new and within ${TOLERANCE * 100} % of ${latencyMs.toPrecision(3)} ms on ${deviceClass} by MACs; the closest is ${closestMs.toPrecision(3)} ms.`,
  );
}
