// Pareto dominance, ranks and crowding over plain objective vectors, all minimised: what NSGA-II (Deb et al. 2002) orders its population by.

export type Vector = readonly number[];

/** True where `a` is nowhere worse than `b` and somewhere better. */
export function dominates(a: Vector, b: Vector): boolean {
  let better = false;
  for (let i = 0; i < a.length; i++) {
    const x = a[i] as number;
    const y = b[i] as number;
    if (x > y) return false;
    if (x < y) better = true;
  }
  return better;
}

/**
 * Indices of the points, front by front; equal points share a front. Efficient non-dominated sort with binary search (Zhang et al. 2015):
 * O(n log n) for two objectives, at worst O(n²) comparisons for more.
 */
export function nonDominatedFronts(points: readonly Vector[]): number[][] {
  const order = points.map((_, i) => i).sort((a, b) => lexicographic(points[a] as Vector, points[b] as Vector) || a - b);
  const fronts: number[][] = [];
  for (const index of order) {
    const point = points[index] as Vector;
    // dominated by nobody of front k means by nobody of any later front, so the first such front can be bisected
    let low = 0;
    let high = fronts.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (isDominatedByFront(points, fronts[middle] as number[], point)) low = middle + 1;
      else high = middle;
    }
    if (low === fronts.length) fronts.push([index]);
    else (fronts[low] as number[]).push(index);
  }
  return fronts;
}

function isDominatedByFront(points: readonly Vector[], front: readonly number[], point: Vector): boolean {
  // members came in lexicographic order: with two objectives the latest has the least second one, so it alone decides
  const oldest = point.length <= 2 ? front.length - 1 : 0;
  for (let i = front.length - 1; i >= oldest; i--) {
    if (dominates(points[front[i] as number] as Vector, point)) return true;
  }
  return false;
}

function lexicographic(a: Vector, b: Vector): number {
  for (let i = 0; i < a.length; i++) {
    const difference = (a[i] as number) - (b[i] as number);
    if (difference !== 0) return difference;
  }
  return 0;
}

/** Crowding distance of each point of one front, each objective scaled to the front's range; Infinity for the extremes of any objective. */
export function crowdingDistances(front: readonly Vector[]): number[] {
  const distances = front.map(() => 0);
  const objectives = front[0]?.length ?? 0;
  for (let objective = 0; objective < objectives; objective++) {
    const value = (i: number) => (front[i] as Vector)[objective] as number;
    const order = front.map((_, i) => i).sort((a, b) => value(a) - value(b) || a - b);
    const first = order[0] as number;
    const last = order[order.length - 1] as number;
    const range = value(last) - value(first);
    distances[first] = Infinity;
    distances[last] = Infinity;
    if (range === 0) continue;
    for (let i = 1; i < order.length - 1; i++) {
      const at = order[i] as number;
      distances[at] = (distances[at] as number) + (value(order[i + 1] as number) - value(order[i - 1] as number)) / range;
    }
  }
  return distances;
}

export interface Ranked {
  /** Index into the points. */
  readonly index: number;
  /** 0 for the non-dominated front. */
  readonly rank: number;
  readonly crowding: number;
}

/** The best `size` points: whole fronts in order, the front that no longer fits by descending crowding distance. Best first. */
export function rankPopulation(points: readonly Vector[], size: number): Ranked[] {
  const population: Ranked[] = [];
  for (const [rank, front] of nonDominatedFronts(points).entries()) {
    if (population.length >= size) break;
    const distances = crowdingDistances(front.map((index) => points[index] as Vector));
    const ranked = front.map((index, i) => ({ index, rank, crowding: distances[i] as number }));
    ranked.sort((a, b) => (a.crowding === b.crowding ? a.index - b.index : b.crowding - a.crowding));
    population.push(...ranked.slice(0, size - population.length));
  }
  return population;
}
