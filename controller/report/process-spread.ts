// How much processes of one model differ on a device class, beyond what a single process can know of itself: each is a new draw of the memory
// layout (Kalibera & Jones, ISMM'13: repeat at the level that varies), at another time. Taken from subnets measured twice; it widens every interval.
import { latencyOf, type Interval } from '@ofa-fleet/shared/measurement.ts';
import { studentT } from '@ofa-fleet/shared/statistics.ts';
import type { LatencyEstimate } from '../search/trial.ts';
import type { CampaignMeasurement } from '../store/campaigns.ts';

export interface ProcessSpread {
  /** Standard deviation of one process's median, relative to the model's own. */
  readonly relativeSd: number;
  /** Subnets measured in two processes: the degrees of freedom. */
  readonly pairs: number;
}

/** Below it Student's t is so large (12.7 with one pair, 4.3 with two) that an interval would say nothing. */
export const LEAST_PAIRS = 3;

/** Null where too little was measured twice on the class. Doubtful measurements tell nothing of it. */
export function processSpread(measurements: readonly CampaignMeasurement[], deviceClass: string): ProcessSpread | null {
  const usable = measurements.filter((one) => one.deviceClass === deviceClass && one.measurement.verdict.state === 'valid');
  const squares = usable.flatMap(({ purpose, subnetId, measurement }) => {
    const first = usable.find((one) => one.purpose === 'search' && one.subnetId === subnetId);
    if (first === undefined || purpose !== 'repeat') return [];
    const [once, again] = [latencyOf(first.measurement).value, latencyOf(measurement).value];
    return once === null || again === null ? [] : [Math.log(again / once) ** 2];
  });
  if (squares.length < LEAST_PAIRS) return null;
  // the difference of two independent draws has twice the variance of one
  return { relativeSd: Math.sqrt(squares.reduce((sum, square) => sum + square, 0) / squares.length / 2), pairs: squares.length };
}

/** The estimate with an interval for the model, where the measurement's own is for its process. One without an interval stays so. */
export function widened({ value, ci }: LatencyEstimate, spread: ProcessSpread | null): LatencyEstimate {
  if (ci === null || spread === null) return { value, ci };
  const half = studentT(ci.level, spread.pairs) * spread.relativeSd * value;
  const wide: Interval = {
    ...ci,
    lo: Math.min(ci.lo, value - half),
    hi: Math.max(ci.hi, value + half),
    method: `${ci.method}; at least Student's t of ${spread.pairs} pairs of processes`,
  };
  return { value, ci: wide };
}

/** For readers: what the class's intervals hold. */
export function spreadSentence(spread: ProcessSpread | null): string {
  if (spread === null)
    return `Fewer than ${LEAST_PAIRS} subnets were measured twice: the intervals are those of single processes, and another process may lie outside.`;
  return `Processes of one model differ by ${(100 * spread.relativeSd).toPrecision(2)} % (standard deviation, from ${spread.pairs} subnets measured twice); the intervals hold that.`;
}
