// `npm run bench:ordering`: are two models that differ little put in the right order, in little time? Pairs whose true medians (20 processes each)
// differ by about 2, 5 and 10 %, ordered again and again: by `ofa-agent compare` and by `ofa-agent measure` within 5 device-seconds a pair, by the
// median of 50 runs after one (TensorFlow Lite's benchmark_model) and of 1,000 after one (onnxruntime_perf_test -m times -r 1000), one process a model.
// What was found is kept in a file, so that the same pairs can be ordered an hour later against the same truth: `--again`.
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { DEFAULT_PLAN } from '@ofa-fleet/shared/measurement.ts';
import { acquireHostLock, defaultHostLockPath } from '@ofa-fleet/shared/node/host-lock.ts';
import { median, wilson } from '@ofa-fleet/shared/statistics.ts';
import { concludeComparison, type ProcessRounds } from '../../agent/compare.ts';
import { HOST_ROOTS } from '../../agent/node/host-files.ts';
import { createMeasurer, OVERHEAD_MS, runInProcess } from '../../agent/node/measure-process.ts';
import { value } from '../helpers/outcome.ts';
import { writeConvStack, type StackShape } from '../helpers/small-models.ts';
import { fixedRunsMs } from './fixed-runs.ts';

/** About 1 ms each on one thread of a current server core. */
const PAIRS: readonly { readonly name: string; readonly shapes: readonly [StackShape, StackShape] }[] = [
  { name: '2 %', shapes: [{ channels: 24, size: 20, layers: 50 }, { channels: 24, size: 20, layers: 51 }] }, // prettier-ignore
  { name: '5 %', shapes: [{ channels: 24, size: 20, layers: 40 }, { channels: 24, size: 20, layers: 42 }] }, // prettier-ignore
  { name: '10 %', shapes: [{ channels: 24, size: 20, layers: 30 }, { channels: 24, size: 20, layers: 33 }] }, // prettier-ignore
];
const TRUTH_PROCESSES = 20;
const PAIR_MS = 5000;
const COMPARE_PROCESSES = 2;

const { values } = parseArgs({ options: { trials: { type: 'string', default: '20' }, again: { type: 'boolean', default: false }, out: { type: 'string', default: 'out/bench/ordering' } } }); // prettier-ignore
const trials = Number(values.trials);
const never = new AbortController().signal;
const measurer = createMeasurer({ runtime: 'onnxruntime-node' });
const pathOf = (pair: number, model: number) => join(values.out, `pair-${pair}-${model}.onnx`);
const truthFile = join(values.out, 'truth.json');

/** Which of the pair's models (0 or 1) the method says is the faster one; null: it cannot tell. */
type Method = (pair: number) => Promise<0 | 1 | null>;

async function measured(pair: number, model: number, capMs: number): Promise<number> {
  const plan = { ...DEFAULT_PLAN, capMs };
  const { latency } = value(await measurer.measure({ kind: 'file', path: pathOf(pair, model) }, plan, never));
  return latency.value as number;
}

const METHODS: Readonly<Record<string, Method>> = {
  'ours, compare': async (pair) => {
    const processes: ProcessRounds[] = [];
    for (let n = 0; n < COMPARE_PROCESSES; n++) {
      const sources = [0, 1].map((model) => ({ kind: 'file', path: pathOf(pair, model) }) as const);
      const budgetMs = PAIR_MS / COMPARE_PROCESSES - 1500; // loading and warming up two models are device time too
      const task = { kind: 'compare', sources, runtime: 'onnxruntime-node', roots: HOST_ROOTS, threads: 1, budgetMs } as const;
      processes.push(value(await runInProcess<ProcessRounds>(task, budgetMs + OVERHEAD_MS, never)));
    }
    return concludeComparison(processes, 0.95).fastest as 0 | 1;
  },
  'ours, measure': async (pair) => faster(await measured(pair, 0, PAIR_MS / 2), await measured(pair, 1, PAIR_MS / 2)),
  '50 fixed runs': async (pair) => faster(await fixedRunsMs(pathOf(pair, 0), 50), await fixedRunsMs(pathOf(pair, 1), 50)),
  '1,000 fixed runs': async (pair) => faster(await fixedRunsMs(pathOf(pair, 0), 1000), await fixedRunsMs(pathOf(pair, 1), 1000)),
};

const faster = (first: number, second: number) => (first < second ? 0 : 1);

mkdirSync(values.out, { recursive: true });
PAIRS.forEach(({ shapes }, pair) => shapes.forEach((shape, model) => writeConvStack(pathOf(pair, model), shape)));
const lock = await acquireHostLock({ path: defaultHostLockPath(), signal: never });
try {
  const truth = values.again && existsSync(truthFile) ? (JSON.parse(readFileSync(truthFile, 'utf8')) as number[][]) : await findTruth();
  writeFileSync(truthFile, JSON.stringify(truth));
  const rows = PAIRS.map(({ name }) => ({ name, right: Object.fromEntries(Object.keys(METHODS).map((method) => [method, 0])) }));
  const seconds: Record<string, number> = {};
  for (let trial = 0; trial < trials; trial++) {
    for (const [pair, row] of rows.entries()) {
      const [first, second] = truth[pair] as [number, number];
      for (const [name, method] of Object.entries(METHODS)) {
        const began = performance.now();
        if ((await method(pair)) === faster(first, second)) row.right[name] = (row.right[name] as number) + 1;
        seconds[name] = (seconds[name] ?? 0) + (performance.now() - began) / 1000;
      }
    }
  }
  process.stdout.write(`ordered rightly of ${trials} (95 % interval, Wilson); device-seconds a pair, processes' start included\n`);
  for (const name of Object.keys(METHODS)) {
    const cells = rows.map((row, pair) => {
      const [first, second] = truth[pair] as [number, number];
      const right = row.right[name] as number;
      const { lo, hi } = wilson(right, trials);
      return `${row.name} (true ${(100 * Math.abs(second / first - 1)).toFixed(1)} %): ${right} [${(100 * lo).toFixed(0)}, ${(100 * hi).toFixed(0)} %]`;
    });
    process.stdout.write(`${name.padEnd(18)} ${cells.join('   ')}   ${((seconds[name] as number) / trials / PAIRS.length).toFixed(1)} s\n`);
  }
} finally {
  lock.release();
}

/** Median over processes of each model, the two of a pair in turn. */
async function findTruth(): Promise<number[][]> {
  const truth: number[][] = [];
  for (const [pair] of PAIRS.entries()) {
    const medians: [number[], number[]] = [[], []];
    for (let n = 0; n < TRUTH_PROCESSES; n++) for (const model of [0, 1] as const) medians[model].push(await measured(pair, model, 10_000));
    truth.push(medians.map(median));
  }
  return truth;
}
