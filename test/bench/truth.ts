// `npm run bench:truth`: does the agent tell the truth? Its median, asked for over MQTT and measured by a real agent, against a plain loop of
// the same runtime in a process of the same kind, in interleaved pairs of random order. Passes where the
// geometric mean of the ratios lies within max(1 %, 5 µs) of 1 for each model and the agent's medians spread no more than 1.3 times the loop's.
// Takes about 5 s a pair; `--models 1,2` takes some of the four.
import { execFile } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs, promisify } from 'node:util';
import { DEFAULT_PLAN } from '@ofa-fleet/shared/measurement.ts';
import { openBlobStore, type BlobStore } from '@ofa-fleet/shared/node/blob-store.ts';
import { acquireHostLock, defaultHostLockPath } from '@ofa-fleet/shared/node/host-lock.ts';
import { mean, meanHalfWidth, median, standardDeviation } from '@ofa-fleet/shared/statistics.ts';
import { measureOnce } from '../../controller/campaigns/measure-beside.ts';
import type { Fleet } from '../../controller/fleet/fleet.ts';
import { startFleet } from '../../controller/fleet/start-fleet.ts';
import { openDatabase } from '../../controller/store/database.ts';
import { value } from '../helpers/outcome.ts';
import { startRealAgents } from '../helpers/real-agents.ts';
import { writeArtifact, writeConvStack, type StackShape } from '../helpers/small-models.ts';

/** About 0.2, 1, 5 and 20 ms on one thread of a current server core. */
const MODELS: readonly StackShape[] = [
  { channels: 32, size: 28, layers: 3 },
  { channels: 32, size: 28, layers: 14 },
  { channels: 64, size: 56, layers: 6 },
  { channels: 64, size: 56, layers: 24 },
];
const LIMIT_SHARE = 0.01;
/** The agent's medians may spread over processes by so much more than the plain loop's. */
const LIMIT_SPREAD = 1.3;
const LIMIT_MS = 0.005;

const PLAIN_LOOP = fileURLToPath(new URL('./plain-loop.ts', import.meta.url));
const run = promisify(execFile);
const never = new AbortController().signal;
const CLASS = 'native';

async function plainMedianMs(path: string): Promise<number> {
  const turn = await acquireHostLock({ path: defaultHostLockPath(), signal: never });
  try {
    return Number((await run(process.execPath, [PLAIN_LOOP, path])).stdout);
  } finally {
    turn.release();
  }
}

interface AgentAnswer {
  readonly medianMs: number;
  readonly state: string;
}

let jobs = 0;
async function agentMedianMs(fleet: Fleet, manifestSha256: string): Promise<AgentAnswer> {
  const name = { campaignId: `truth-${jobs++}`, purpose: 'search', subnetId: 'none', deviceClass: CLASS } as const;
  const { latency, verdict } = value((await measureOnce(fleet, { name, manifestSha256, plan: DEFAULT_PLAN }, 1, never)).outcome);
  if (latency.value === null) throw new Error('the agent gave no latency');
  return { medianMs: latency.value, state: verdict.state };
}

/** The model as an artifact of the controller's store. */
async function storeArtifact(blobs: BlobStore, scratch: string, shape: StackShape): Promise<string> {
  const { manifest } = await writeArtifact(scratch, shape);
  const keep = async (sha256: string) => value(await blobs.put(readFileSync(join(scratch, sha256.slice(0, 2), sha256))));
  const { graph, golden } = manifest;
  const stored = {
    ...manifest,
    graph: await keep(graph.sha256),
    golden: { ...golden, input: await keep(golden.input.sha256), output: await keep(golden.output.sha256) },
  };
  return value(await blobs.put(Buffer.from(JSON.stringify(stored)))).sha256;
}

/** Geometric mean of ratios with its 95 % interval. */
function geometricMean(ratios: readonly number[]): { readonly mean: number; readonly lo: number; readonly hi: number } {
  const logs = ratios.map(Math.log);
  const centre = mean(logs);
  const half = meanHalfWidth(logs, 0.95);
  return { mean: Math.exp(centre), lo: Math.exp(centre - half), hi: Math.exp(centre + half) };
}

/** What one process differs by. */
const variation = (values: readonly number[]) => standardDeviation(values.map(Math.log));

interface Row {
  readonly text: string;
  readonly passed: boolean;
}

async function compare(fleet: Fleet, manifestSha256: string, path: string, pairs: number): Promise<Row> {
  const ratios: number[] = [];
  const plains: number[] = [];
  const agents: number[] = [];
  const states: string[] = [];
  for (let i = 0; i < pairs; i++) {
    const agentFirst = Math.random() < 0.5;
    const early = agentFirst ? await agentMedianMs(fleet, manifestSha256) : null;
    const plain = await plainMedianMs(path);
    const agent = early ?? (await agentMedianMs(fleet, manifestSha256));
    ratios.push(agent.medianMs / plain);
    plains.push(plain);
    agents.push(agent.medianMs);
    states.push(agent.state);
  }
  const plain = median(plains);
  const { mean: ratio, lo, hi } = geometricMean(ratios);
  const limit = Math.max(LIMIT_SHARE, LIMIT_MS / plain);
  const spread = variation(agents) / variation(plains);
  const passed = Math.abs(ratio - 1) <= limit && spread <= LIMIT_SPREAD;
  const valid = states.filter((state) => state === 'valid').length;
  const cells = [
    plain.toPrecision(4).padStart(9),
    ratio.toFixed(4).padStart(8),
    `[${lo.toFixed(4)}, ${hi.toFixed(4)}]`.padStart(18),
    `±${(100 * limit).toFixed(1)} %`.padStart(8),
    `${valid}/${pairs}`.padStart(7),
    `${(100 * variation(plains)).toFixed(2)} %`.padStart(8),
    spread.toFixed(2).padStart(6),
    passed ? 'pass' : 'FAIL',
  ];
  return { text: cells.join('  '), passed };
}

const { values } = parseArgs({ options: { pairs: { type: 'string', default: '60' }, models: { type: 'string', default: '1,2,3,4' } } });
const chosen = values.models.split(',').map(Number);
const pairs = Number(values.pairs);
if (!Number.isInteger(pairs) || pairs < 2) {
  process.stderr.write(`--pairs takes a whole number of at least 2, got ${values.pairs}.\n`);
  process.exit(2);
}
const dir = mkdtempSync(join(tmpdir(), 'ofa-truth-'));
const db = value(await openDatabase(join(dir, 'fleet.sqlite')));
const blobs = openBlobStore(join(dir, 'blobs'));
const fleet = value(await startFleet({ db, blobs, host: '127.0.0.1', port: 0 }));
const agents = await startRealAgents(fleet, dir, [{ name: CLASS }]);
try {
  process.stdout.write(
    `${pairs} interleaved pairs a model; ratio = agent's median / plain loop's median (geometric mean, 95 % interval)\n`,
  );
  process.stdout.write(' plain ms     ratio            interval     limit    valid  CV plain  ratio\n');
  let passed = 0;
  for (const [i, shape] of MODELS.entries()) {
    if (!chosen.includes(i + 1)) continue;
    const path = join(dir, `model-${i}.onnx`);
    writeConvStack(path, shape);
    const manifestSha256 = await storeArtifact(blobs, join(dir, `scratch-${i}`), shape);
    const row = await compare(fleet, manifestSha256, path, pairs);
    process.stdout.write(`${row.text}\n`);
    if (row.passed) passed++;
  }
  process.stdout.write(`${passed} of ${chosen.length} models within the limits\n`);
  process.exitCode = passed === chosen.length ? 0 : 1;
} finally {
  await agents.stop();
  await fleet.close();
  await db.destroy();
  rmSync(dir, { recursive: true, force: true });
}
