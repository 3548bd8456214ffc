// One step of steady-state NSGA-II (Deb et al. 2002): from the ranked population to one child, by binary tournaments, crossover, mutation.
import type { Space } from '../space.ts';
import type { Subnet } from '../subnet.ts';
import { crossover, geneCount, mutate } from './operators.ts';
import type { Ranked } from './pareto.ts';
import { below, chance, pick, type Rng } from './rng.ts';

export interface Breeding {
  /** Probability that a child has two parents. */
  readonly crossoverRate: number;
  /** Expected number of genes that mutate in a child. */
  readonly mutations: number;
}

/** A child of `population` (indices into `subnets`). */
export function breed(space: Space, population: readonly Ranked[], subnets: readonly Subnet[], breeding: Breeding, rng: Rng): Subnet {
  const parent = () => subnets[tournament(population, rng).index] as Subnet;
  const mother = parent();
  const child = chance(rng, breeding.crossoverRate) ? crossover(mother, parent(), rng) : mother;
  return mutate(space, child, Math.min(1, breeding.mutations / geneCount(space, child)), rng);
}

/** The better of two drawn members: lower rank, then larger crowding distance, then the coin. */
export function tournament(population: readonly Ranked[], rng: Rng): Ranked {
  const a = pick(rng, population);
  const b = pick(rng, population);
  if (a.rank !== b.rank) return a.rank < b.rank ? a : b;
  if (a.crowding !== b.crowding) return a.crowding > b.crowding ? a : b;
  return below(rng, 2) === 0 ? a : b;
}
