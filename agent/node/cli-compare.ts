// `ofa-agent compare`: which of some models is faster on this machine, and how sure that is.
import { basename } from 'node:path';
import { concludeComparison, type Comparison, type ProcessRounds } from '../compare.ts';
import { milliseconds } from './format.ts';
import { HOST_ROOTS } from './host-files.ts';
import { OVERHEAD_MS, runInProcess } from './measure-process.ts';
import type { RuntimeName } from './runtime/runtimes.ts';
import { takeTurn } from './turn.ts';

export interface CompareOptions {
  readonly runtime: RuntimeName;
  readonly threads: number;
  readonly processes: number;
  readonly capMs: number;
  readonly json: boolean;
  readonly hostLockPath: string;
}

const LEVEL = 0.95;

/** Exit code: 0 compared (also where no difference shows), 1 not. */
export async function runCompare(paths: readonly string[], options: CompareOptions, signal: AbortSignal): Promise<number> {
  const { runtime, threads, processes: wanted } = options;
  const budgetMs = options.capMs / wanted;
  const sources = paths.map((path) => ({ kind: 'file', path }) as const);
  const processes: ProcessRounds[] = [];
  const turn = await takeTurn(options.hostLockPath, signal);
  try {
    for (let n = 0; n < wanted; n++) {
      const task = { kind: 'compare', sources, runtime, roots: HOST_ROOTS, threads, budgetMs } as const;
      const outcome = await runInProcess<ProcessRounds>(task, budgetMs + OVERHEAD_MS, signal);
      if (!outcome.ok) {
        if (options.json) process.stdout.write(`${JSON.stringify(outcome)}\n`);
        process.stderr.write(`${outcome.message}\n`);
        return 1;
      }
      processes.push(outcome.value);
    }
  } finally {
    turn.release();
  }
  const comparison = concludeComparison(processes, LEVEL);
  process.stdout.write(options.json ? `${JSON.stringify({ paths, ...comparison })}\n` : describe(paths, comparison));
  return 0;
}

function describe(paths: readonly string[], { models, fastest, processes, rounds, referenceMoved }: Comparison): string {
  const best = basename(paths[fastest] as string);
  const percent = (share: number) => `${(100 * share).toFixed(1)} %`;
  const lines = models.map(({ medianMs, ratio }, m) => {
    const name = basename(paths[m] as string).padEnd(Math.max(...paths.map((path) => basename(path).length)));
    if (ratio === null) return `${name}  ${milliseconds(medianMs)}  the fastest by its median`;
    const { value, ci } = ratio;
    const range = ci === null ? '' : ` [${percent(ci.lo - 1)}, ${percent(ci.hi - 1)}]`;
    const verdict =
      ci !== null && ci.lo > 1
        ? `slower than ${best}, with 95 % certainty`
        : `which of the two is faster cannot be told; a difference above ${percent(Math.max(Math.abs((ci?.lo ?? 1) - 1), (ci?.hi ?? 1) - 1))} is ruled out. Allow more time (--cap) or more processes.`;
    return `${name}  ${milliseconds(medianMs)}  ${percent(value - 1)}${range} ${verdict}`;
  });
  const moved = referenceMoved === null ? '' : `; meanwhile the reference workload moved by ${percent(referenceMoved)}`;
  return `${lines.join('\n')}\n${processes} process(es), ${rounds} rounds, blocks interleaved in random order${moved}.\n`;
}
