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
