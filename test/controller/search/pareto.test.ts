// Ranks, crowding and hypervolume against their definitions, computed the slow way.
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { hypervolume } from '../../../controller/search/hypervolume.ts';
import { crowdingDistances, dominates, nonDominatedFronts, rankPopulation, type Vector } from '../../../controller/search/pareto.ts';

/** Points on a small grid, so that ties and equal points are common. */
const gridPoints = (objectives: number) =>
  fc.array(fc.array(fc.integer({ min: 0, max: 5 }), { minLength: objectives, maxLength: objectives }), { maxLength: 24 });
const anyPoints = fc.integer({ min: 1, max: 4 }).chain(gridPoints);

/** Peels the non-dominated points off, front by front. */
function frontsByDefinition(points: readonly Vector[]): number[][] {
  let left = points.map((_, i) => i);
  const fronts: number[][] = [];
  while (left.length > 0) {
    const front = left.filter((i) => !left.some((j) => dominates(points[j] as Vector, points[i] as Vector)));
    fronts.push(front);
    left = left.filter((i) => !front.includes(i));
  }
  return fronts;
}

describe('dominance', () => {
  it('needs a point to be nowhere worse and somewhere better', () => {
    expect(dominates([1, 2], [1, 3])).toBe(true);
    expect(dominates([1, 2], [1, 2])).toBe(false);
    expect(dominates([1, 2], [2, 1])).toBe(false);
  });
});

describe('the non-dominated sort', () => {
  it('gives the fronts that peeling gives, for one to four objectives', () => {
    fc.assert(
      fc.property(anyPoints, (points) => {
        const fronts = nonDominatedFronts(points).map((front) => [...front].sort((a, b) => a - b));
        expect(fronts).toEqual(frontsByDefinition(points));
      }),
      { numRuns: 500 },
    );
  });

  it('gives the first front in ascending order of the first objective', () => {
    const points = [[3, 1], [1, 3], [2, 2], [3, 3]]; // prettier-ignore
    expect(nonDominatedFronts(points)).toEqual([[1, 2, 0], [3]]);
  });
});

describe('crowding', () => {
  it('is the sum over objectives of the gap between both neighbours, relative to the range', () => {
    const front = [[0, 10], [1, 4], [2, 2], [10, 0]]; // prettier-ignore
    expect(crowdingDistances(front)).toEqual([Infinity, 2 / 10 + 8 / 10, 9 / 10 + 4 / 10, Infinity]);
  });

  it('does not depend on the units of an objective', () => {
    const front = [[0, 10], [1, 4], [2, 2], [10, 0]]; // prettier-ignore
    const scaled = front.map(([x, y]) => [(x as number) * 1024, y as number]);
    expect(crowdingDistances(scaled)).toEqual(crowdingDistances(front));
  });

  it('gives no NaN where all points agree in an objective', () => {
    expect(crowdingDistances([[1, 5], [1, 5], [1, 5]]).some(Number.isNaN)).toBe(false); // prettier-ignore
  });
});

describe('the ranked population', () => {
  it('keeps better fronts whole and cuts the last one where it is most crowded', () => {
    const points = [[0, 10], [5, 5], [5.1, 4.9], [5.2, 4.8], [10, 0], [20, 20], [0.5, 30]]; // prettier-ignore
    const kept = rankPopulation(points, 4).map(({ index }) => index);
    expect(kept).toHaveLength(4);
    expect(kept).toEqual(expect.arrayContaining([0, 4]));
    expect(kept).not.toContain(2);
    expect(rankPopulation(points, 6).map(({ index, rank }) => [index, rank])).toContainEqual([5, 1]);
  });

  it('never keeps a point while one that dominates it is left out', () => {
    fc.assert(
      fc.property(anyPoints, fc.integer({ min: 1, max: 10 }), (points, size) => {
        const kept = new Set(rankPopulation(points, size).map(({ index }) => index));
        expect(kept.size).toBe(Math.min(size, points.length));
        for (const i of kept) {
          for (const [j, other] of points.entries()) expect(!kept.has(j) && dominates(other, points[i] as Vector)).toBe(false);
        }
      }),
    );
  });
});

describe('hypervolume', () => {
  it('counts exactly the unit cells that points on a grid dominate, in two and three objectives', () => {
    const side = 6;
    fc.assert(
      fc.property(
        fc.constantFrom(2, 3).chain((m) => fc.tuple(fc.constant(m), gridPoints(m))),
        ([objectives, points]) => {
          let cells = 0;
          for (let cell = 0; cell < side ** objectives; cell++) {
            const corner = Array.from({ length: objectives }, (_, i) => Math.floor(cell / side ** i) % side);
            if (points.some((point) => point.every((value, i) => value <= (corner[i] as number)))) cells++;
          }
          expect(hypervolume(points, Array(objectives).fill(side) as number[])).toBe(cells);
        },
      ),
      { numRuns: 300 },
    );
  });

  it('gives nothing to points that do not beat the reference in every objective', () => {
    expect(hypervolume([[0, 1], [1, 0], [-5, 2]], [1, 1])).toBe(0); // prettier-ignore
    expect(hypervolume([], [1, 1, 1])).toBe(0);
  });

  it('refuses a number of objectives that it was not written for', () => {
    expect(() => hypervolume([[0, 0, 0, 0]], [1, 1, 1, 1])).toThrow('not 4');
  });
});
