// How much each exit of a net counts, in the joint loss, in a teacher's ensemble and in the answer of several exits at once (schemes of
// AEP, arXiv 2301.12168). One place, since a teacher has to be read the way it was trained.

/** Later exits count more (`ascending`), less (`descending`), or all the same (`uniform`). */
export const EXIT_SCHEMES = ['ascending', 'descending', 'uniform'] as const;
export type ExitScheme = (typeof EXIT_SCHEMES)[number];

/** What OFAv2 (arXiv 2302.01888) uses for its five exits: i / 15, rounded. */
const PUBLISHED_FIVE = [0.06, 0.13, 0.2, 0.27, 0.34];

/** Weights of exits 1..n, sum 1: ascending i / (1 + ... + n), as published where there are five; descending the same in reverse. */
export function exitWeights(exits: number, scheme: ExitScheme = 'ascending'): number[] {
  switch (scheme) {
    case 'uniform':
      return new Array<number>(exits).fill(1 / exits);
    case 'descending':
      return exitWeights(exits, 'ascending').reverse();
    case 'ascending':
      if (exits === PUBLISHED_FIVE.length) return [...PUBLISHED_FIVE];
      return Array.from({ length: exits }, (_, i) => (2 * (i + 1)) / (exits * (exits + 1)));
  }
}

/** The same weights with all but the `kept` exits (1 = the first) at 0, and those scaled to sum 1 again. */
export function restrictedWeights(weights: readonly number[], kept: readonly number[]): number[] {
  const total = weights.reduce((sum, weight, i) => (kept.includes(i + 1) ? sum + weight : sum), 0);
  return weights.map((weight, i) => (kept.includes(i + 1) ? weight / total : 0));
}
