// What sensors enclose, and which of them see the same joules.
import type { MeterInfo } from './ports.ts';

export type Boundary = MeterInfo['boundary'];

/** What lies inside of what, directly. A rail may feed anything, so it is taken to lie inside of everything larger. */
const INSIDE: Readonly<Record<Boundary, readonly Boundary[]>> = {
  core: ['package'],
  package: ['module', 'platform'],
  rail: ['module', 'gpu-board'],
  module: ['board'],
  'gpu-board': ['platform'],
  board: ['platform'],
  platform: ['battery', 'wall'],
  battery: [],
  wall: [],
};

function encloses(outer: Boundary, inner: Boundary): boolean {
  return INSIDE[inner].some((next) => next === outer || encloses(outer, next));
}

/** Whether two sensors of these boundaries may see the same joules: then they are never added up. */
export function overlapping(a: Boundary, b: Boundary): boolean {
  return a === b || encloses(a, b) || encloses(b, a);
}

/** Boundaries of which a machine has one: two sensors of such a one see the same joules. Rails and cores are many. */
const ONE_A_MACHINE: ReadonlySet<Boundary> = new Set<Boundary>(['package', 'module', 'board', 'gpu-board', 'platform', 'battery', 'wall']);

/** The one other sensor that encloses just what `chosen` does; null where there is none, or several (sockets, cards) that are not told apart. */
export function witnessOf<T extends { readonly info: MeterInfo }>(chosen: MeterInfo, meters: readonly T[]): T | null {
  if (!ONE_A_MACHINE.has(chosen.boundary)) return null;
  const others = meters.filter(({ info }) => info.sensor !== chosen.sensor && info.boundary === chosen.boundary);
  return others.length === 1 ? (others[0] as T) : null;
}
