// The search as ask and tell: `ask` proposes a subnet nobody has proposed before, `tell` brings what a device class said of it, in any order.
// Pure: no clock, no I/O; ask n draws from its own random stream (seed, n), so a replay of the same asks and tells proposes the same subnets.
import type { Outcome } from '@ofa-fleet/shared/outcome.ts';
import type { Space } from '../space.ts';
import type { Subnet } from '../subnet.ts';

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
}

/** A subnet with its objectives on one device class. */
export interface Point {
  readonly n: number;
  readonly subnet: Subnet;
  readonly subnetId: string;
  readonly objectives: Objectives;
}

/** One asked subnet with what has been told of it, by device class; a class that is absent is pending. */
export interface ArchiveEntry extends Ask {
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
