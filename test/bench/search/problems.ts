// The three benchmark problems, how a search is run on one, and its score: the share of the reference box that all it evaluated dominates.
import { readFileSync } from 'node:fs';
import { z } from 'zod';
import { hypervolume } from '../../../controller/search/hypervolume.ts';
import { nonDominatedFronts } from '../../../controller/search/pareto.ts';
import { createSearch, type SearchSettings } from '../../../controller/search/search.ts';
import { ok } from '../../../shared/outcome.ts';
import { evaluate, SPACE, type Truth } from './oracle.ts';

export const PROBLEM_NAMES = ['pub_pi2', 'pub_gpu2', 'pub_pi3'] as const;
export type ProblemName = (typeof PROBLEM_NAMES)[number];

const OBJECTIVES: Readonly<Record<ProblemName, Readonly<Record<string, (truth: Truth) => number>>>> = {
  pub_pi2: { error: (truth) => truth.errorPercent, latencyMs: (truth) => truth.latencyMs.pi },
  pub_gpu2: { error: (truth) => truth.errorPercent, latencyMs: (truth) => truth.latencyMs.gpu },
  pub_pi3: {
    error: (truth) => truth.errorPercent,
    latencyMs: (truth) => truth.latencyMs.pi,
    energyMillijoules: (truth) => truth.energyMillijoules.pi,
  },
};

const references = z
  .record(z.enum(PROBLEM_NAMES), z.object({ ideal: z.array(z.number()), ref: z.array(z.number()), hv_max: z.number() }))
  .parse(JSON.parse(readFileSync(new URL('./data/refpoints.json', import.meta.url), 'utf8')));

export type Arm = Partial<Omit<SearchSettings, 'space' | 'seed' | 'deviceClasses' | 'objectives'>> & Pick<SearchSettings, 'algorithm'>;

/** Hypervolume after each of `checkpoints` evaluations, as a share of the best known front's; one evaluation after the other. */
export function runArm(problem: ProblemName, arm: Arm, seed: number, checkpoints: readonly number[]): number[] {
  const { ideal, ref, hv_max: best } = references[problem];
  const objectives = Object.entries(OBJECTIVES[problem]);
  const names = objectives.map(([name]) => name);
  const search = createSearch({ space: SPACE, seed, deviceClasses: [problem], objectives: names, ...arm });
  const evaluated: number[][] = [];
  return checkpoints.map((checkpoint) => {
    while (evaluated.length < checkpoint) {
      const ask = search.ask();
      if (ask === null) throw new Error(`The search had nothing to ask after ${evaluated.length} evaluations.`);
      const truth = evaluate(ask.subnet);
      const values = objectives.map(([, of]) => of(truth));
      const told = Object.fromEntries(names.map((name, i) => [name, values[i] as number]));
      search.tell({ subnetId: ask.subnetId, deviceClass: problem, outcome: ok(told) });
      evaluated.push(values.map((value, i) => (value - (ideal[i] as number)) / ((ref[i] as number) - (ideal[i] as number))));
    }
    const front = (nonDominatedFronts(evaluated)[0] ?? []).map((i) => evaluated[i] as number[]);
    return hypervolume(front, ref.map(() => 1)) / best; // prettier-ignore
  });
}
