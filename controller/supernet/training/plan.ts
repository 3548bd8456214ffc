// What a run is going to do, before it does it: phases, steps, subnets, rates, and how much work that is.
import { countSubnets } from '../count-subnets.ts';
import type { Space } from '../../space.ts';
import { largestSubnet, smallestSubnet } from '../../subnet.ts';
import type { Dataset } from '../data/dataset.ts';
import { passCost, TRAINING_PASSES } from './cost.ts';
import { drawSubnet, type Phase } from './phases.ts';
import { randomStream } from './random.ts';
import type { Recipe } from './recipe.ts';
import { lengthOf, validationInterval, type Length } from './schedule.ts';
import { teacherPhase } from './teacher.ts';
import type { Trunk } from './uniform-settings.ts';
import { validationTrunks } from './validation.ts';

export interface PlannedPhase extends Length {
  readonly phase: Phase;
  readonly validations: number;
  /** Work of one step and of one validation, in multiply-accumulates. */
  readonly stepCost: number;
  readonly validationCost: number;
}

export interface Plan {
  readonly batch: number;
  readonly stepsPerEpoch: number;
  readonly phases: readonly PlannedPhase[];
  readonly testCost: number;
  /** Passes of one training image forward and backward through a subnet, and forward through a teacher, over the whole run. */
  readonly imagePasses: { readonly subnets: number; readonly teacher: number };
  /** Different nets at one resolution that the weights serve in the end; 1 where one subnet is fine-tuned. */
  readonly nets: bigint;
  readonly resolutions: number;
}

/** Subnets whose mean cost stands for the random ones'. */
const DRAWN = 64;

export function planOf(
  { space, recipe, phases, seed, scale }: { space: Space; recipe: Recipe; phases: readonly Phase[]; seed: number; scale: number },
  dataset: Dataset,
  tested: readonly Trunk[],
): Plan {
  const stepsPerEpoch = Math.floor(dataset.train.count / recipe.batch);
  const calibrated = Math.min(recipe.validation.calibrationImages, dataset.train.count);
  const scored = Math.min(recipe.validation.images, dataset.validation.count);
  const testImages = Math.min(recipe.test.images, dataset.test.count);
  const trunkCost = (trunks: readonly Trunk[]) => trunks.reduce((sum, { subnet }) => sum + passCost(space, subnet, 'all'), 0);
  const planned = phases.map((phase, i): PlannedPhase => {
    const length = lengthOf(phase, stepsPerEpoch, scale);
    const teacher = teacherPhase(recipe, phases, i) === null ? 0 : meanCost(space, phase, 'teacher');
    return {
      phase,
      ...length,
      validations: Math.ceil(length.steps / validationInterval(length.steps, stepsPerEpoch, recipe.validation.timesPerPhase)),
      stepCost: recipe.batch * (teacher + TRAINING_PASSES * studentCost(space, phase)),
      validationCost: (calibrated + scored) * trunkCost(validationTrunks(space, recipe, phase, seed)),
    };
  });
  const passes = (count: (phase: Phase, i: number) => number) =>
    planned.reduce((sum, { phase, steps }, i) => sum + steps * recipe.batch * count(phase, i), 0);
  return {
    batch: recipe.batch,
    stepsPerEpoch,
    phases: planned,
    testCost: (calibrated + scored + testImages) * trunkCost(tested),
    imagePasses: {
      subnets: passes(({ kind, subnetsPerStep }) => (kind === 'full' ? 1 : subnetsPerStep)),
      teacher: passes((_, i) => (teacherPhase(recipe, phases, i) === null ? 0 : 1)),
    },
    nets: phases.every(({ only }) => only !== null) ? 1n : countSubnets(space).distinct,
    resolutions: space.resolutions.length,
  };
}

/** All subnets of one step, an image. */
function studentCost(space: Space, phase: Phase): number {
  if (phase.kind === 'full') return meanCost(space, phase, 'teacher');
  if (phase.only !== null) return passCost(space, phase.only, 'own');
  const random = meanCost(space, phase, 'random');
  if (phase.kind !== 'sandwich') return phase.subnetsPerStep * random;
  const smallest = phase.subnetsPerStep > 1 ? meanCost(space, phase, 'smallest') : 0;
  return meanCost(space, phase, 'teacher') + smallest + Math.max(0, phase.subnetsPerStep - 2) * random;
}

function meanCost(space: Space, phase: Phase, which: 'teacher' | 'smallest' | 'random'): number {
  const random = randomStream(0, 'cost', phase.name);
  const count = which === 'random' ? DRAWN : space.resolutions.length;
  const costs = Array.from({ length: count }, (_, i) => {
    const resolution = which === 'random' ? random.of(space.resolutions) : (space.resolutions[i] as number);
    if (which === 'teacher') return passCost(space, { ...largestSubnet(space), resolution }, 'all');
    return passCost(
      space,
      which === 'smallest' ? { ...smallestSubnet(space), resolution } : drawSubnet(phase.choices, resolution, random),
      'own',
    );
  });
  return costs.reduce((sum, cost) => sum + cost, 0) / count;
}

/** Work that is left from step `step` of phase `phase` on, the final test included; `phase` = their number: only the test is left. */
export function remainingCost(plan: Plan, phase: number, step: number): number {
  return plan.phases.reduce((sum, { steps, validations, stepCost, validationCost }, i) => {
    if (i < phase) return sum;
    const share = i === phase ? 1 - step / steps : 1;
    return sum + share * (steps * stepCost + validations * validationCost);
  }, plan.testCost);
}

/** The plan as lines of text. `secondsPerCost` as measured on the first steps; null: not measured. */
export function planLines(plan: Plan, secondsPerCost: number | null): string[] {
  const time = (cost: number) => (secondsPerCost === null ? '' : duration(cost * secondsPerCost));
  const rows = plan.phases.map(({ phase, steps, warmUpSteps, validations, stepCost, validationCost }) => [
    phase.name,
    String(steps),
    String(warmUpSteps),
    String(phase.kind === 'full' ? 1 : phase.subnetsPerStep),
    String(phase.rate),
    String(validations),
    time(steps * stepCost + validations * validationCost),
  ]);
  const table = [['phase', 'steps', 'warm-up', 'subnets a step', 'rate', 'validations', secondsPerCost === null ? '' : 'time'], ...rows];
  const widths = (table[0] as string[]).map((_, c) => Math.max(...table.map((row) => (row[c] as string).length)));
  const lines = table.map((row) =>
    row
      .map((cell, c) => (c === 0 ? cell.padEnd(widths[c] as number) : cell.padStart(widths[c] as number)))
      .join('  ')
      .trimEnd(),
  );
  const { subnets, teacher } = plan.imagePasses;
  lines.push(
    `Batches of ${plan.batch}, ${plan.stepsPerEpoch} steps an epoch; ${subnets.toLocaleString('en')} image passes through subnets, ${teacher.toLocaleString('en')} through teachers.`,
  );
  if (plan.nets > 1n) lines.push(`One set of weights for ${countOf(plan.nets)} subnets at each of ${plan.resolutions} resolutions.`);
  if (secondsPerCost !== null) {
    const whole = remainingCost(plan, 0, 0);
    lines.push(
      `About ${duration(whole * secondsPerCost)} in all, of which ${duration(plan.testCost * secondsPerCost)} for the final test: measured on the first steps, carried over by multiply-accumulates.`,
    );
  }
  return lines;
}

/** Exact up to a million, then rounded. */
function countOf(nets: bigint): string {
  return nets <= 1_000_000n ? nets.toLocaleString('en') : Number(nets).toExponential(2).replace('+', '');
}

function duration(seconds: number): string {
  if (seconds < 90) return `${Math.max(1, Math.round(seconds))} s`;
  if (seconds < 90 * 60) return `${Math.round(seconds / 60)} min`;
  if (seconds < 48 * 3600) return `${(seconds / 3600).toFixed(1)} h`;
  return `${(seconds / 86_400).toFixed(1)} days`;
}
