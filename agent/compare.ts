// Which of some models is faster here: their blocks interleaved with the reference's (A B R B A, in random order, turned round half-way), so
// that what the device does meanwhile hits all alike. One process is one draw of the memory layout, so the verdict is over several.
import { failed, ok, type Outcome } from '@ofa-fleet/shared/outcome.ts';
import type { Interval } from '@ofa-fleet/shared/measurement.ts';
import { mean, meanHalfWidth, median } from '@ofa-fleet/shared/statistics.ts';
import { goldenMismatch } from './golden.ts';
import { feed, openReference, type ModelUnderTest } from './measure.ts';
import type { Clock, Runtime, Session } from './ports.ts';
import { timeBlock, type BlockLength } from './reference.ts';

const BLOCK: BlockLength = { refillRuns: 2, runs: 5, ms: 40, longestMs: Infinity };
const WARM_UP_MS = 500;
const LEAST_ROUNDS = 3;

/** What one process saw. */
export interface ProcessRounds {
  /** Per model, per round: logarithm of its time (ms), mean of its two blocks. */
  readonly logs: readonly (readonly number[])[];
  /** Per round: the reference's; empty where it cannot run here. */
  readonly reference: readonly number[];
}

interface Host {
  readonly runtime: Runtime;
  readonly clock: Clock;
  readonly random: () => number;
}

/** Rounds for `budgetMs`, three at least. Fails as loading does, or with OUTPUT_MISMATCH. */
export async function interleave(
  models: readonly ModelUnderTest[],
  threads: number,
  budgetMs: number,
  { runtime, clock, random }: Host,
): Promise<Outcome<ProcessRounds>> {
  const sessions: Session[] = [];
  const reference = await openReference(runtime, threads);
  try {
    for (const { bytes, golden } of models) {
      const loaded = await runtime.load(bytes, { intraOpThreads: threads });
      if (!loaded.ok) return loaded;
      const session = loaded.value;
      sessions.push(session);
      feed(session, golden);
      await session.run();
      const wrong = golden === null ? null : goldenMismatch(session.output(), golden);
      if (wrong !== null)
        return failed('OUTPUT_MISMATCH', `Model ${sessions.length} does not compute what it should: ${wrong}. Export it again.`);
      for (const until = clock.monotonicMs() + WARM_UP_MS; clock.monotonicMs() < until;) await session.run();
    }
    const logOf = async (session: Session) => Math.log(median(await timeBlock(session, clock, BLOCK)));
    const logs = models.map((): number[] => []);
    const references: number[] = [];
    const ends = clock.monotonicMs() + budgetMs;
    for (let round = 0; round < LEAST_ROUNDS || clock.monotonicMs() < ends; round++) {
      const order = shuffled(models.length, random);
      const sums = models.map(() => 0);
      const visit = async (m: number) => (sums[m] = (sums[m] as number) + (await logOf(sessions[m] as Session)));
      for (const m of order) await visit(m);
      if (reference !== null) references.push(await logOf(reference));
      for (const m of [...order].reverse()) await visit(m);
      sums.forEach((sum, m) => logs[m]?.push(sum / 2));
    }
    return ok({ logs, reference: references });
  } finally {
    for (const session of sessions) await session.release();
    await reference?.release();
  }
}

function shuffled(length: number, random: () => number): number[] {
  const order = Array.from({ length }, (_, i) => i);
  for (let i = length - 1; i > 0; i--) {
    const j = Math.floor(random() * (i + 1));
    [order[i], order[j]] = [order[j] as number, order[i] as number];
  }
  return order;
}

interface Compared {
  /** Geometric mean over processes and rounds, ms. */
  readonly medianMs: number;
  /** Time relative to the fastest one, with its interval; null for the fastest itself. */
  readonly ratio: { readonly value: number; readonly ci: Interval | null } | null;
}

export interface Comparison {
  /** In the order in which the models were given. */
  readonly models: readonly Compared[];
  readonly fastest: number;
  readonly processes: number;
  readonly rounds: number;
  /** Slowest round of the reference against its fastest, as a share more; null where it was not run. */
  readonly referenceMoved: number | null;
}

/** Over processes where there are two or more, each of which is one sample; else over the rounds of the one process. */
export function concludeComparison(processes: readonly ProcessRounds[], level: number): Comparison {
  const count = processes[0]?.logs.length ?? 0;
  const levels = Array.from({ length: count }, (_, m) => mean(processes.map(({ logs }) => mean(logs[m] as readonly number[]))));
  const fastest = levels.indexOf(Math.min(...levels));
  const rows = processes.length > 1 ? null : (processes[0] as ProcessRounds);
  const models = levels.map((log, m): Compared => {
    if (m === fastest) return { medianMs: Math.exp(log), ratio: null };
    const difference = ({ logs }: ProcessRounds) =>
      (logs[m] as readonly number[]).map((value, round) => value - ((logs[fastest] as readonly number[])[round] as number));
    const samples = rows === null ? processes.map((one) => mean(difference(one))) : difference(rows);
    const centre = mean(samples);
    const half = meanHalfWidth(samples, level);
    const method =
      rows === null ? `Student's t over ${samples.length} processes` : `Student's t over ${samples.length} rounds of one process`;
    return { medianMs: Math.exp(log), ratio: { value: Math.exp(centre), ci: { lo: Math.exp(centre - half), hi: Math.exp(centre + half), level, method } } }; // prettier-ignore
  });
  const references = processes.flatMap(({ reference }) => reference);
  const referenceMoved = references.length === 0 ? null : Math.exp(Math.max(...references) - Math.min(...references)) - 1;
  const rounds = processes.reduce((sum, { logs }) => sum + (logs[0]?.length ?? 0), 0);
  return { models, fastest, processes: processes.length, rounds, referenceMoved };
}
