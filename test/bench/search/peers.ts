// Recorded results of other searches on the same problems: what ours is set beside.
import { readFileSync } from 'node:fs';
import type { ProblemName } from './problems.ts';

/** Labels of the recorded searches, in the order they are shown. */
export const PEERS = {
  nsga50: 'pymoo NSGA-II, population 50',
  nsga50_eta15: 'pymoo NSGA-II, population 50, η 15',
  nsga100: 'pymoo NSGA-II, population 100',
  optuna_nsga2: 'Optuna NSGA-II',
  linas_ridge_b10: 'LINAS-like, ridge',
  msunas: 'MSuNAS-like',
} as const;
export type PeerName = keyof typeof PEERS;

export interface PeerPoint {
  readonly problem: string;
  readonly peer: string;
  readonly evaluations: number;
  /** Share of the best known hypervolume; quartiles over seeds. */
  readonly quartiles: readonly [number, number, number];
}

export function readPeers(): PeerPoint[] {
  const lines = readFileSync(new URL('./data/peers.csv', import.meta.url), 'utf8')
    .trim()
    .split('\n')
    .slice(1);
  return lines.map((line) => {
    const [problem, peer, evaluations, , q1, median, q3, share] = line.split(',') as [string, string, ...string[]];
    const best = Number(median) / Number(share);
    return { problem, peer, evaluations: Number(evaluations), quartiles: [Number(q1) / best, Number(share), Number(q3) / best] };
  });
}

export function peerAt(points: readonly PeerPoint[], problem: ProblemName, peer: PeerName, evaluations: number): PeerPoint {
  const found = points.find((point) => point.problem === problem && point.peer === peer && point.evaluations === evaluations);
  if (found === undefined) throw new Error(`data/peers.csv has no ${peer} on ${problem} at ${evaluations} evaluations.`);
  return found;
}
