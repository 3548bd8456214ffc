// Judges a measurement: what was seen around the timed runs, as findings with sentences, and whether the number may be believed. Pure.
import type { ReferenceReadings, Verdict } from '@ofa-fleet/shared/measurement.ts';
import { estimateMedian, medianAbsoluteDeviation, relativeHalfWidth, type MedianEstimate } from '@ofa-fleet/shared/statistics.ts';
import { MACHINE_RULES, percent, REMARKS, type Finding, type MachineEvidence } from './machine-findings.ts';
import { DRIFT_LIMIT, driftOf } from './reference.ts';

export interface Evidence extends MachineEvidence {
  /** Every timed run in order, ms. */
  readonly samples: readonly number[];
  readonly estimate: MedianEstimate;
  /** Effective samples that the plan's stop rule needs. */
  readonly neededSamples: number;
  readonly warmUp: { readonly steady: boolean; readonly windows: number };
  /** The cap ended the timed section. */
  readonly capped: boolean;
  /** What was to run the operators, and what ran them. */
  readonly providers: { readonly asked: string; readonly obtained: string };
  /** null: none was run. */
  readonly reference: ReferenceReadings | null;
}

/** Fewest runs that have an interval of their median at 95 %. */
const MIN_RUNS = 6;
const OUTLIER_SHARE = 0.05;
const OUTLIER_MADS = 5;
/** Of the timed section's time, lost in outliers that are few. */
const STALLED_SHARE = 0.1;
/**
 * Runs within this share of the median are no outliers, however small the MAD: most runs of a small model take the same time to 1 %, so that
 * 5 MAD lie within 3 to 5 % of the median, which cache and hypervisor exceed in one run of ten on a machine where nothing else runs.
 */
const OUTLIER_FLOOR = 0.25;

/** Beyond it a run was disturbed. */
function outlierLimitMs({ samples, estimate }: Evidence): number {
  return estimate.value + Math.max(OUTLIER_MADS * medianAbsoluteDeviation(samples), OUTLIER_FLOOR * estimate.value);
}

function outliers(evidence: Evidence): readonly Finding[] {
  const { samples } = evidence;
  const limit = outlierLimitMs(evidence);
  const share = samples.filter((value) => value > limit).length / samples.length;
  if (share <= OUTLIER_SHARE) return [];
  return [
    {
      reason: 'NEIGHBOUR_LOAD',
      effect: 'suspect',
      message: `${percent(share)} of the runs took longer than ${limit.toPrecision(4)} ms (median + ${OUTLIER_MADS} MAD, at least + ${percent(OUTLIER_FLOOR)}; limit ${percent(OUTLIER_SHARE)}): something disturbs this device. Look for it with top and measure again.`,
    },
  ];
}

/** A few long pauses (a debugger, a stopped process, a frozen container) move no median of thousands of runs, but the device was not its own. */
function stalled(evidence: Evidence): readonly Finding[] {
  const { samples, estimate } = evidence;
  const limit = outlierLimitMs(evidence);
  const total = samples.reduce((sum, value) => sum + value, 0);
  const late = samples.filter((value) => value > limit);
  const lost = late.reduce((sum, value) => sum + value - estimate.value, 0);
  if (lost / total <= STALLED_SHARE || late.length / samples.length > OUTLIER_SHARE) return [];
  return [
    {
      reason: 'NEIGHBOUR_LOAD',
      effect: 'suspect',
      message: `The process stood still for ${percent(lost / total)} of the timed runs (limit ${percent(STALLED_SHARE)}), ${Math.max(...late).toPrecision(3)} ms at a time: it was stopped, or the machine was. Let nothing stop it (a debugger, a suspended terminal or container) and measure again.`,
    },
  ];
}

function fallback({ providers: { asked, obtained } }: Evidence): readonly Finding[] {
  if (asked === obtained) return [];
  return [
    {
      reason: 'FALLBACK_EP',
      effect: 'invalid',
      message: `Not all operators ran on ${asked}: ${obtained}. The number is of a mixture that another model would not have; export the model with operators that ${asked} knows, or measure on the CPU.`,
    },
  ];
}

function notSteady({ warmUp }: Evidence): readonly Finding[] {
  if (warmUp.steady) return [];
  return [
    {
      reason: 'NOT_STEADY',
      effect: 'suspect',
      message: `After ${warmUp.windows} warm-up windows the median still moved by more than 2 % from one to the next. Wait until the device is idle and cool, or allow a longer cap.`,
    },
  ];
}

function tooFew({ estimate, neededSamples }: Evidence): readonly Finding[] {
  if (estimate.n >= MIN_RUNS && estimate.nEff >= neededSamples) return [];
  return [
    {
      reason: 'TOO_FEW_SAMPLES',
      effect: estimate.n < MIN_RUNS ? 'invalid' : 'suspect',
      message: `${estimate.n} runs are worth ${estimate.nEff.toFixed(0)} independent ones (needed ${neededSamples}; below ${MIN_RUNS} runs there is no interval). Allow a longer cap (--cap).`,
    },
  ];
}

function timeCap({ capped, plan, estimate }: Evidence): readonly Finding[] {
  if (!capped) return [];
  const reached = relativeHalfWidth(estimate);
  return [
    {
      reason: 'TIME_CAP',
      effect: 'suspect',
      message: `The cap of ${plan.capMs / 1000} s ended the runs at a half-width of ${Number.isFinite(reached) ? percent(reached) : 'unknown size'} (asked ${percent(plan.relativeHalfWidth)}). Allow a longer cap or ask for less precision.`,
    },
  ];
}

/** The two halves of the timed runs differ by more than their intervals, and by more than the precision asked (else it cannot matter). */
function drift({ samples, plan, estimate }: Evidence): readonly Finding[] {
  const middle = Math.floor(samples.length / 2);
  const first = estimateMedian(samples.slice(0, middle), plan.level);
  const second = estimateMedian(samples.slice(middle), plan.level);
  if (first.ci === null || second.ci === null) return [];
  const apart = first.ci.hi < second.ci.lo || second.ci.hi < first.ci.lo;
  if (!apart || Math.abs(second.value - first.value) <= plan.relativeHalfWidth * estimate.value) return [];
  return [
    {
      reason: 'DRIFT',
      effect: 'suspect',
      message: `The second half of the runs has a median of ${second.value.toPrecision(4)} ms, the first ${first.value.toPrecision(4)} ms: beyond both intervals. The device warmed up or was disturbed; measure again.`,
    },
  ];
}

/** The device itself got slower or faster, by what the reference workload says. */
function referenceDrift({ reference }: Evidence): readonly Finding[] {
  const drift = reference === null ? null : driftOf(reference);
  if (reference === null || drift?.isSeen !== true || Math.abs(drift.moved) <= DRIFT_LIMIT) return [];
  const against = reference.baseline === null ? 'its first block' : "the device's baseline";
  return [
    {
      reason: 'DRIFT',
      effect: 'suspect',
      message: `The reference workload was ${percent(Math.abs(drift.moved))} ${drift.moved > 0 ? 'slower' : 'faster'} than ${against} (limit ${percent(DRIFT_LIMIT)}): the device is not what it was. Let it cool, look for other load with top, and measure again.`,
    },
  ];
}

/** Invalid if any finding says so, else suspect if any does. An invalid number is shown and kept, not believed. */
export function judge(evidence: Evidence): Verdict {
  const rules = [...MACHINE_RULES, fallback, outliers, stalled, drift, referenceDrift, notSteady, tooFew, timeCap, ...REMARKS];
  const findings = rules.flatMap((rule) => rule(evidence));
  const effects = findings.map((finding) => finding.effect);
  return { state: effects.includes('invalid') ? 'invalid' : effects.includes('suspect') ? 'suspect' : 'valid', findings: [...findings] };
}
