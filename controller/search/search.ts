// The search as ask and tell: `ask` proposes a subnet nobody has proposed before, `tell` brings what a device class said of it, in any order.
// Pure: no clock, no I/O; ask n draws from its own random stream (seed, n), so a replay of the same asks and tells proposes the same subnets.
import type { Outcome } from '@ofa-fleet/shared/outcome.ts';
import type { Space } from '../space.ts';
import { subnetId, type Subnet } from '../subnet.ts';
import { firstDesign } from './first-design.ts';
import { breed } from './nsga2.ts';
import { randomSubnet } from './operators.ts';
import { nonDominatedFronts, rankPopulation, type Ranked, type Vector } from './pareto.ts';
import { stream, type Rng } from './rng.ts';

export interface Ask {
  /** 0, 1, 2, …; an `ask` that answers null uses up no number. */
  readonly n: number;
  readonly subnet: Subnet;
  readonly subnetId: string;
  /** Tells seen when it was drawn: the interleaving that a replay has to repeat. */
  readonly toldBefore: number;
}

/** Objective name -> value, minimised; e.g. `{ error: 0.12, latencyMs: 3.4 }`. */
export type Objectives = Readonly<Record<string, number>>;

export interface Tell {
  readonly subnetId: string;
  readonly deviceClass: string;
  /** A failure censors the subnet on that class: it enters no ranking there, no longer counts as pending, and is never asked again. */
  readonly outcome: Outcome<Objectives>;
}

export interface SearchSettings {
  readonly space: Space;
  readonly seed: number;
  /** Every asked subnet is meant to be told once for each of them. */
  readonly deviceClasses: readonly string[];
  readonly objectives: readonly string[];
  readonly algorithm: 'nsga2' | 'random';
  /** Members of the ranked population of a class. */
  readonly population?: number;
  /** How many of the first asks are extremes and uniform subnets; 0 starts at random. */
  readonly firstAsks?: number;
  /** Probability that a child has two parents. */
  readonly crossoverRate?: number;
  /** Expected number of genes that mutate in a child. */
  readonly mutations?: number;
}

/** A subnet with its objectives on one device class. */
export interface Point {
  readonly n: number;
  readonly subnet: Subnet;
  readonly subnetId: string;
  readonly objectives: Objectives;
}

/** One asked subnet with what has been told of it, by device class; a class that is absent is pending. */
interface ArchiveEntry extends Ask {
  readonly told: ReadonlyMap<string, Outcome<Objectives>>;
}

export interface Search {
  /** The next subnet to evaluate; null where nothing new was found within the bound on tries (e.g. the space is used up). */
  ask(): Ask | null;
  /** Throws (a bug of the caller) on an unknown subnet or class, on a second tell for the same pair, on a missing or non-finite objective. */
  tell(tell: Tell): void;
  /** Non-dominated points of a class, ascending by the first objective. */
  front(deviceClass: string): readonly Point[];
  /** Every ask so far, in order. */
  readonly archive: readonly ArchiveEntry[];
  /** Asked and neither told nor censored on that class. */
  pending(deviceClass: string): number;
  readonly toldCount: number;
}

/** One setting for every space and budget; test/bench/search/README.md says what else was tried. */
export const DEFAULTS = { population: 50, firstAsks: 24, crossoverRate: 0.9, mutations: 1 } as const;

/** Children tried before random draws, and random draws tried before giving up: each may turn out to be a subnet that was asked before. */
const CHILD_TRIES = 50;
const RANDOM_TRIES = 250;
/** Below this many told subnets on a class there is nothing to select from. */
const LEAST_PARENTS = 2;

interface Entry extends Ask {
  readonly told: Map<string, Outcome<Objectives>>;
}

/** Told points of one class in ask order, and their ranked reduction, made anew after a tell. */
interface Standing {
  readonly points: readonly Point[];
  readonly population: readonly Ranked[];
}

/**
 * A search over `space`, empty. State, each line an invariant: `archive[n].n === n` and no two entries share an id; `toldCount` is the
 * number of outcomes in the archive; a standing, where there is one, is that of all of its class's outcomes.
 */
export function createSearch(settings: SearchSettings): Search {
  const { space, seed, deviceClasses, objectives, algorithm } = settings;
  if (deviceClasses.length === 0 || objectives.length === 0) throw new Error('A search needs at least one device class and one objective.');
  const size = settings.population ?? DEFAULTS.population;
  const breeding = {
    crossoverRate: settings.crossoverRate ?? DEFAULTS.crossoverRate,
    mutations: settings.mutations ?? DEFAULTS.mutations,
  };
  // the baseline is random from its first ask on, unless asked otherwise
  const firstAsks = settings.firstAsks ?? (algorithm === 'random' ? 0 : DEFAULTS.firstAsks);
  const design = firstDesign(space, firstAsks, stream(seed, -1));

  const archive: Entry[] = [];
  const byId = new Map<string, Entry>();
  const standings = new Map<string, Standing>();
  let toldCount = 0;

  const requireClass = (deviceClass: string) => {
    if (!deviceClasses.includes(deviceClass)) {
      throw new Error(`Unknown device class "${deviceClass}"; this search has ${deviceClasses.join(', ')}.`);
    }
  };

  const standing = (deviceClass: string): Standing => {
    const known = standings.get(deviceClass);
    if (known !== undefined) return known;
    const points = archive.flatMap(({ n, subnet, subnetId, told }): Point[] => {
      const outcome = told.get(deviceClass);
      return outcome?.ok === true ? [{ n, subnet, subnetId, objectives: outcome.value }] : [];
    });
    const made = { points, population: rankPopulation(points.map(vector), size) };
    standings.set(deviceClass, made);
    return made;
  };

  const vector = (point: Point): Vector => objectives.map((name) => point.objectives[name] as number);

  /** What ask n would propose at its next try; classes take turns. */
  const propose = (n: number, rng: Rng, attempt: number): Subnet => {
    const { points, population } = standing(deviceClasses[n % deviceClasses.length] as string);
    if (algorithm === 'random' || points.length < LEAST_PARENTS || attempt >= CHILD_TRIES) return randomSubnet(space, rng);
    return breed(space, population, points.map((point) => point.subnet), breeding, rng); // prettier-ignore
  };

  const draw = (n: number): { subnet: Subnet; id: string } | null => {
    const planned = design[n];
    const rng = stream(seed, n);
    for (let attempt = planned === undefined ? 0 : -1; attempt < CHILD_TRIES + RANDOM_TRIES; attempt++) {
      const subnet = attempt === -1 ? (planned as Subnet) : propose(n, rng, attempt);
      const id = subnetId(space, subnet);
      if (!byId.has(id)) return { subnet, id };
    }
    return null;
  };

  return {
    archive,
    get toldCount() {
      return toldCount;
    },

    ask() {
      const n = archive.length;
      const drawn = draw(n);
      if (drawn === null) return null;
      const ask: Ask = { n, subnet: drawn.subnet, subnetId: drawn.id, toldBefore: toldCount };
      const entry = { ...ask, told: new Map<string, Outcome<Objectives>>() };
      archive.push(entry);
      byId.set(drawn.id, entry);
      return ask;
    },

    tell({ subnetId, deviceClass, outcome }) {
      requireClass(deviceClass);
      const entry = byId.get(subnetId);
      if (entry === undefined) throw new Error(`Told of subnet ${subnetId}, which this search has not asked for.`);
      if (entry.told.has(deviceClass)) throw new Error(`Subnet ${subnetId} has been told for "${deviceClass}" before.`);
      if (outcome.ok) {
        for (const name of objectives) {
          const value = outcome.value[name];
          if (!Number.isFinite(value))
            throw new Error(`Objective "${name}" of subnet ${subnetId} on "${deviceClass}" is ${value}, not a finite number.`);
        }
      }
      entry.told.set(deviceClass, outcome);
      standings.delete(deviceClass);
      toldCount++;
    },

    front(deviceClass) {
      requireClass(deviceClass);
      const { points } = standing(deviceClass);
      const [best = []] = nonDominatedFronts(points.map(vector));
      return best.map((i) => points[i] as Point);
    },

    pending(deviceClass) {
      requireClass(deviceClass);
      return archive.filter(({ told }) => !told.has(deviceClass)).length;
    },
  };
}
