// What the runs leave: a file each in their folders, gathered into one that is kept in the repository.
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { OUT, SEEDS, SUBNETS } from './design.ts';

export const RESULTS = fileURLToPath(new URL('./results/', import.meta.url));
export const RESULT_FILE = 'result.json';
const KEPT = join(RESULTS, 'ranking.json');

/** Top-1 on test images of every subnet with the weights of the supernet trained from `seed`, batch norms recalibrated. */
export interface Inherited {
  readonly kind: 'inherited';
  readonly seed: number;
  /** In [0, 1], in the order of SUBNETS. */
  readonly accuracies: readonly number[];
  readonly images: number;
}

/** The same of the subnet with that index, trained alone from random weights. */
export interface Scratch {
  readonly kind: 'scratch';
  readonly seed: number;
  readonly index: number;
  readonly accuracy: number;
  readonly images: number;
  readonly trainingSeconds: number;
}

export type Result = Inherited | Scratch;

export interface NamedRun {
  readonly name: string;
  readonly args: readonly string[];
  readonly isOf: (result: Result) => boolean;
}

/** In the order in which they run. */
export const RUNS: readonly NamedRun[] = SEEDS.flatMap((seed) => [
  { name: `inherited-${seed}`, args: ['inherited', String(seed)], isOf: (one) => one.kind === 'inherited' && one.seed === seed },
  ...SUBNETS.map((_, index): NamedRun => ({
    name: `scratch-${seed}-${index}`,
    args: ['scratch', String(seed), String(index)],
    isOf: (one) => one.kind === 'scratch' && one.seed === seed && one.index === index,
  })),
]);

function keptResults(): readonly Result[] {
  return existsSync(KEPT) ? (JSON.parse(readFileSync(KEPT, 'utf8')) as Result[]) : [];
}

export function hasResult({ name, isOf }: NamedRun, out = OUT): boolean {
  return existsSync(join(out, name, RESULT_FILE)) || keptResults().some(isOf);
}

/** Everything known, kept and new, in the order of RUNS; also written to the kept file. */
export function gatherResults(out = OUT): readonly Result[] {
  const kept = keptResults();
  const results = RUNS.flatMap((run): Result[] => {
    const file = join(out, run.name, RESULT_FILE);
    const result = existsSync(file) ? (JSON.parse(readFileSync(file, 'utf8')) as Result) : kept.find(run.isOf);
    return result === undefined ? [] : [result];
  });
  writeFileSync(KEPT, `[\n${results.map((result) => JSON.stringify(result)).join(',\n')}\n]\n`);
  return results;
}
