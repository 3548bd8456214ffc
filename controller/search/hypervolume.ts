// Exact hypervolume for two and three minimised objectives: how much of the space up to a reference point a set of points dominates.
import type { Vector } from './pareto.ts';

/** Area or volume dominated by `points` and bounded by `reference`; points that do not beat the reference in every objective add nothing. */
export function hypervolume(points: readonly Vector[], reference: Vector): number {
  const inside = points.filter((point) => point.every((value, i) => value < (reference[i] as number)));
  if (reference.length === 2) return area(inside, reference);
  if (reference.length === 3) return volume(inside, reference);
  throw new Error(`hypervolume is written for 2 or 3 objectives, not ${reference.length}`);
}

function area(points: readonly Vector[], reference: Vector): number {
  const sorted = [...points].sort((a, b) => at(a, 0) - at(b, 0) || at(a, 1) - at(b, 1));
  let sum = 0;
  let ceiling = at(reference, 1);
  for (const point of sorted) {
    if (at(point, 1) >= ceiling) continue;
    sum += (at(reference, 0) - at(point, 0)) * (ceiling - at(point, 1));
    ceiling = at(point, 1);
  }
  return sum;
}

/** Slices along the third objective: between two neighbouring depths the section is the area of the points seen so far. */
function volume(points: readonly Vector[], reference: Vector): number {
  const sorted = [...points].sort((a, b) => at(a, 2) - at(b, 2));
  let section: Vector[] = [];
  let sum = 0;
  for (const [i, point] of sorted.entries()) {
    const covered = section.some((other) => at(other, 0) <= at(point, 0) && at(other, 1) <= at(point, 1));
    if (!covered) {
      section = section.filter((other) => at(other, 0) < at(point, 0) || at(other, 1) < at(point, 1));
      section.push(point);
    }
    const next = sorted[i + 1];
    const thickness = (next === undefined ? at(reference, 2) : at(next, 2)) - at(point, 2);
    if (thickness > 0) sum += area(section, reference) * thickness;
  }
  return sum;
}

function at(vector: Vector, i: number): number {
  return vector[i] as number;
}
