// `npm run bench:search`: our searches on the three problems beside the recorded ones; a table, two CSV files and a plot. Exit 1 where a
// promise does not hold.
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { DEFAULTS } from '../../../controller/search/search.ts';
import { ascending, quantile } from '../../../shared/statistics.ts';
import { PEERS, peerAt, readPeers, type PeerName } from './peers.ts';
import { plotCurves, type Curve } from './plot.ts';
import { PROBLEM_NAMES, runArm, type Arm, type ProblemName } from './problems.ts';

const OUT = join('out', 'bench', 'search');
const SEEDS = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10];
const CHECKPOINTS = Array.from({ length: 50 }, (_, i) => 10 * (i + 1));
const SHOWN = [100, 150, 200, 300, 500];
const LAST = 500;
const PYMOO: readonly PeerName[] = ['nsga50', 'nsga50_eta15', 'nsga100'];

const ARMS = {
  ours: { label: 'ours: NSGA-II', colour: '#c0392b', arm: { algorithm: 'nsga2' } },
  begun: { label: 'random after our first asks', colour: '#e67e22', arm: { algorithm: 'random', firstAsks: DEFAULTS.firstAsks } },
  random: { label: 'ours: random', colour: '#7f8c8d', arm: { algorithm: 'random' } },
} as const satisfies Record<string, { label: string; colour: string; arm: Arm }>;
type ArmName = keyof typeof ARMS;
const PEER_COLOURS: Partial<Record<PeerName, string>> = { nsga50: '#2980b9', optuna_nsga2: '#16a085', linas_ridge_b10: '#8e44ad' };

type Quartiles = readonly [number, number, number];
const quartiles = (values: readonly number[]): Quartiles => {
  const sorted = ascending(values);
  return [quantile(sorted, 0.25), quantile(sorted, 0.5), quantile(sorted, 0.75)];
};
const percent = (share: number) => (100 * share).toFixed(1);

/** shares[arm][seed][checkpoint] of one problem. */
type Shares = Readonly<Record<ArmName, readonly (readonly number[])[]>>;

function runProblem(problem: ProblemName): Shares {
  const run = (name: ArmName) => SEEDS.map((seed) => runArm(problem, ARMS[name].arm, seed, CHECKPOINTS));
  return { ours: run('ours'), begun: run('begun'), random: run('random') };
}

function quartilesAt(shares: Shares, arm: ArmName, evaluations: number): Quartiles {
  const at = CHECKPOINTS.indexOf(evaluations);
  return quartiles(shares[arm].map((run) => run[at] as number));
}

/** Median (first–third quartile) in %, at each of SHOWN. */
function row(label: string, at: (evaluations: number) => Quartiles): string {
  const cells = SHOWN.map((evaluations) => at(evaluations)).map(([q1, q2, q3]) => `${percent(q2)} (${percent(q1)}–${percent(q3)})`);
  return `  ${label.padEnd(36)}${cells.map((cell) => cell.padStart(18)).join('')}`;
}

/** What must hold on a problem, each with whether it does. */
function promises(problem: ProblemName, shares: Shares): { readonly text: string; readonly holds: boolean }[] {
  const ours = quartilesAt(shares, 'ours', LAST)[1];
  const theirs = Math.max(...PYMOO.map((peer) => peerAt(peers, problem, peer, LAST).quartiles[1]));
  const at = CHECKPOINTS.indexOf(LAST);
  const wins = (arm: ArmName) => SEEDS.filter((_, i) => (shares.ours[i]?.[at] as number) > (shares[arm][i]?.[at] as number)).length;
  return [
    { text: `median at ${LAST} is ${percent(ours)} %, the best of pymoo's NSGA-II settings ${percent(theirs)} %`, holds: ours >= theirs },
    { text: `above random search in ${wins('random')} of ${SEEDS.length} seeds`, holds: wins('random') === SEEDS.length },
    { text: `above random after the same first asks in ${wins('begun')} of ${SEEDS.length} seeds`, holds: wins('begun') === SEEDS.length },
  ];
}

function curvesOf(problem: ProblemName, shares: Shares): Curve[] {
  const inPercent = ([q1, q2, q3]: Quartiles) => [100 * q1, 100 * q2, 100 * q3] as const;
  const own = (Object.keys(ARMS) as ArmName[]).map((name) => ({
    label: ARMS[name].label,
    colour: ARMS[name].colour,
    dashed: false,
    points: CHECKPOINTS.map((evaluations) => [evaluations, ...inPercent(quartilesAt(shares, name, evaluations))] as const),
  }));
  const recorded = Object.entries(PEER_COLOURS).map(([peer, colour]) => ({
    label: PEERS[peer as PeerName],
    colour,
    dashed: true,
    points: peers
      .filter((point) => point.problem === problem && point.peer === peer)
      .map((point) => [point.evaluations, ...inPercent(point.quartiles)] as const),
  }));
  return [...own, ...recorded];
}

const peers = readPeers();
const results = PROBLEM_NAMES.map((problem) => ({ problem, shares: runProblem(problem) }));
const lines: string[] = [
  `Share of the best known hypervolume in %, median (quartiles) of ${SEEDS.length} seeds, after that many evaluations.`,
];
let broken = 0;
for (const { problem, shares } of results) {
  lines.push('', `${problem.padEnd(38)}${SHOWN.map((evaluations) => String(evaluations).padStart(18)).join('')}`);
  for (const name of Object.keys(ARMS) as ArmName[])
    lines.push(row(ARMS[name].label, (evaluations) => quartilesAt(shares, name, evaluations)));
  for (const peer of Object.keys(PEERS) as PeerName[]) {
    lines.push(row(`${PEERS[peer]} *`, (evaluations) => peerAt(peers, problem, peer, evaluations).quartiles));
  }
  for (const { text, holds } of promises(problem, shares)) {
    if (!holds) broken++;
    lines.push(`  ${holds ? 'holds:' : 'BROKEN:'} ${text}`);
  }
}
lines.push('', '* recorded, see test/bench/search/data/README.md');

mkdirSync(OUT, { recursive: true });
const rows = results.flatMap(({ problem, shares }) =>
  (Object.keys(ARMS) as ArmName[]).flatMap((arm) =>
    SEEDS.flatMap((seed, s) => CHECKPOINTS.map((evaluations, c) => [problem, arm, seed, evaluations, shares[arm][s]?.[c]].join(','))),
  ),
);
const summary = results.flatMap(({ problem, shares }) =>
  (Object.keys(ARMS) as ArmName[]).flatMap((arm) =>
    SHOWN.map((evaluations) => [problem, arm, evaluations, ...quartilesAt(shares, arm, evaluations)].join(',')),
  ),
);
writeFileSync(join(OUT, 'shares.csv'), ['problem,search,seed,evaluations,share_of_best_hypervolume', ...rows, ''].join('\n'));
writeFileSync(join(OUT, 'summary.csv'), ['problem,search,evaluations,q1,median,q3', ...summary, ''].join('\n'));
const panels = results.map(({ problem, shares }) => ({ title: problem, curves: curvesOf(problem, shares) }));
writeFileSync(join(OUT, 'curves.svg'), plotCurves(panels));
console.log(lines.join('\n'));
console.log(`Written: ${['shares.csv', 'summary.csv', 'curves.svg'].map((file) => join(OUT, file)).join(', ')}`);
process.exitCode = broken === 0 ? 0 : 1;
