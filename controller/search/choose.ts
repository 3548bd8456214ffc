// Which measured subnet to deploy on a device class for a latency budget.
import { failed, ok, type Outcome } from '@ofa-fleet/shared/outcome.ts';
import type { LatencyEstimate, Trial } from './trial.ts';

export interface Budget {
  /** Largest allowed median latency of one inference, ms. */
  readonly latencyMs: number;
}

/**
 * The most accurate trial whose median latency on `deviceClass` is within the budget; of equal errors the faster, of equal speeds the smaller id.
 * INFEASIBLE names the fastest measured subnet; NOT_FOUND where nothing is measured on that class.
 */
export function chooseWithinBudget(trials: readonly Trial[], deviceClass: string, budget: Budget): Outcome<Trial> {
  const measured = trials.filter((trial) => trial.latencyMs[deviceClass] !== undefined);
  const fastest = first(measured, (trial) => [latencyOn(trial, deviceClass)]);
  if (fastest === null) return failed('NOT_FOUND', `Nothing has been measured on ${deviceClass} yet. Run a search that includes it first.`);
  const within = measured.filter((trial) => latencyOn(trial, deviceClass) <= budget.latencyMs);
  const best = first(within, (trial) => [trial.error, latencyOn(trial, deviceClass)]);
  if (best !== null) return ok(best);
  const estimate = fastest.latencyMs[deviceClass] as LatencyEstimate;
  return failed(
    'INFEASIBLE',
    `No measured subnet meets ${budget.latencyMs} ms on ${deviceClass}: the fastest is ${describe(estimate)} (subnet ${fastest.subnetId}). ` +
      `Allow at least ${ceil(estimate.value)} ms, or search further.`,
  );
}

/** The trial with the least keys, compared in turn, then by id: an order that does not depend on the order of the trials. */
export function first(trials: readonly Trial[], keys: (trial: Trial) => readonly number[]): Trial | null {
  const ranked = trials.map((trial) => ({ trial, keys: keys(trial) }));
  ranked.sort((a, b) => {
    for (const [i, key] of a.keys.entries()) {
      const difference = key - (b.keys[i] as number);
      if (difference !== 0) return difference;
    }
    return a.trial.subnetId < b.trial.subnetId ? -1 : 1;
  });
  return ranked[0]?.trial ?? null;
}

/** Median in ms of a trial that is measured on the class; asking for another is a bug. */
export function latencyOn(trial: Trial, deviceClass: string): number {
  const estimate = trial.latencyMs[deviceClass];
  if (estimate === undefined) throw new Error(`Subnet ${trial.subnetId} has no latency on ${deviceClass}.`);
  return estimate.value;
}

/** e.g. `2.31 ms ± 0.04`; an interval that is not there is said, not shown as 0. */
function describe({ value, ci }: LatencyEstimate): string {
  return ci === null ? `${value.toPrecision(3)} ms (no interval)` : `${value.toPrecision(3)} ms ± ${((ci.hi - ci.lo) / 2).toPrecision(2)}`;
}

/** Three significant digits, rounded up, so that the budget named in a message really suffices. */
function ceil(value: number): number {
  const unit = 10 ** (Math.floor(Math.log10(value)) - 2);
  return Number((Math.ceil(value / unit) * unit).toPrecision(3));
}
