// Time by operator inside one model, from ONNX Runtime's own profiler: its trace of some runs, added up by node and by kind of operator.
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { failed, ok, type Outcome } from '@ofa-fleet/shared/outcome.ts';
import { feed, type ModelUnderTest } from '../measure.ts';
import type { Runtime } from '../ports.ts';

const WARM_UP_RUNS = 10;
const PROFILED_RUNS = 50;

interface OperatorTime {
  /** Name of the node in the graph as the runtime runs it (fused ones have made-up names), and its operator. */
  readonly node: string;
  readonly operator: string;
  /** What ran it, by the runtime's own name, e.g. `CPUExecutionProvider`. */
  readonly provider: string;
  /** Mean over the runs, ms. */
  readonly ms: number;
}

export interface Profile {
  /** Slowest first. */
  readonly operators: readonly OperatorTime[];
  /** Mean of a whole run, ms; the difference to the sum is the runtime's own work, and the profiler's. */
  readonly runMs: number;
  readonly runs: number;
}

/** Loads the model once more with the profiler on, which itself costs some microseconds a node. Fails where the runtime has none. */
export async function profileModel({ bytes, golden }: ModelUnderTest, runtime: Runtime, threads: number): Promise<Outcome<Profile>> {
  const folder = mkdtempSync(join(tmpdir(), 'ofa-profile-'));
  try {
    const loaded = await runtime.load(bytes, { intraOpThreads: threads, profilePrefix: join(folder, 'trace') });
    if (!loaded.ok) return loaded;
    const session = loaded.value;
    const { endProfiling } = session;
    if (endProfiling === undefined) {
      await session.release();
      return failed('RUNTIME_MISSING', `${runtime.identity.name} has no profiler. Take --runtime onnxruntime-node.`);
    }
    feed(session, golden);
    for (let n = 0; n < WARM_UP_RUNS + PROFILED_RUNS; n++) await session.run();
    endProfiling();
    await session.release();
    const [trace] = readdirSync(folder);
    if (trace === undefined)
      return failed('NOT_FOUND', `${runtime.identity.name} wrote no trace to ${folder}; look whether that folder is writable.`);
    return ok(summarise(readFileSync(join(folder, trace), 'utf8')));
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

interface TraceEvent {
  readonly cat?: string;
  readonly name?: string;
  readonly dur?: number;
  readonly args?: { readonly op_name?: string; readonly provider?: string };
}

const KERNEL = '_kernel_time';

/** Trace events in Chrome's format: `Session` / `model_run` for runs, `Node` / `<node>_kernel_time` for operators, µs. The first runs are left out. */
export function summarise(text: string): Profile {
  const events = JSON.parse(text) as readonly TraceEvent[];
  const runs = events.filter(({ cat, name }) => cat === 'Session' && name === 'model_run').slice(WARM_UP_RUNS);
  const byNode = new Map<string, { operator: string; provider: string; durations: number[] }>();
  for (const { cat, name = '', dur = 0, args } of events) {
    if (cat !== 'Node' || !name.endsWith(KERNEL)) continue;
    const node = name.slice(0, -KERNEL.length);
    const known = byNode.get(node) ?? { operator: args?.op_name ?? 'unknown', provider: args?.provider ?? 'unknown', durations: [] };
    known.durations.push(dur);
    byNode.set(node, known);
  }
  const mean = (values: readonly number[]) => values.reduce((sum, value) => sum + value, 0) / Math.max(1, values.length) / 1000;
  const operators = [...byNode].map(([node, { operator, provider, durations }]) => ({
    node,
    operator,
    provider,
    ms: mean(durations.slice(WARM_UP_RUNS)),
  }));
  return { operators: operators.sort((a, b) => b.ms - a.ms), runMs: mean(runs.map(({ dur = 0 }) => dur)), runs: runs.length };
}

/** In one text: the provider asked where it ran every operator, else how many each ran. */
export function providersOf({ operators }: Profile, asked: string): string {
  const counts = new Map<string, number>();
  for (const { provider } of operators) counts.set(provider, (counts.get(provider) ?? 0) + 1);
  const isAsked = (name: string) => name.toLowerCase().startsWith(asked.toLowerCase());
  if ([...counts.keys()].every(isAsked)) return asked;
  return [...counts].map(([name, count]) => `${name} ${count} of ${operators.length} operators`).join(', ');
}

const WIDTH = 760;
const ROW = 18;
const LABELS = 300;

/** Bars of the slowest operators; plain SVG, readable in any browser. */
export function profileSvg({ operators, runMs }: Profile, title: string, most = 40): string {
  const shown = operators.slice(0, most);
  const longest = Math.max(...shown.map(({ ms }) => ms), Number.MIN_VALUE);
  const escape = (text: string) => text.replace(/[&<>"]/g, (char) => `&#${char.charCodeAt(0)};`);
  const rows = shown.map(({ node, operator, ms }, i) => {
    const y = 30 + i * ROW;
    const width = (ms / longest) * (WIDTH - LABELS - 90);
    const share = runMs === 0 ? '' : `, ${((100 * ms) / runMs).toFixed(1)} %`;
    return (
      `<text x="4" y="${y + 13}">${escape(`${operator} ${node}`.slice(0, 46))}</text>` +
      `<rect x="${LABELS}" y="${y + 2}" width="${width.toFixed(1)}" height="${ROW - 4}" fill="#4c78a8"/>` +
      `<text x="${LABELS + 4 + width}" y="${y + 13}">${(1000 * ms).toFixed(1)} µs${share}</text>`
    );
  });
  const height = 40 + shown.length * ROW;
  return `<svg xmlns="http://www.w3.org/2000/svg" width="${WIDTH}" height="${height}" font-family="sans-serif" font-size="11"><text x="4" y="18" font-size="14">${escape(title)}</text>${rows.join('')}</svg>\n`;
}
