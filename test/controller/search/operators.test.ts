// Variation keeps subnets inside their space, whatever it adds or cuts; the first asks span it.
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { isUniform } from '../../../controller/search/baselines.ts';
import { firstDesign } from '../../../controller/search/first-design.ts';
import { tournament } from '../../../controller/search/nsga2.ts';
import { crossover, geneCount, mutate, randomSubnet } from '../../../controller/search/operators.ts';
import { stream } from '../../../controller/search/rng.ts';
import { withArchitecture } from '../../../controller/architecture.ts';
import { PRESETS, type Space } from '../../../controller/space.ts';
import { largestSubnet, parseSubnet, smallestSubnet, subnetId, type Subnet } from '../../../controller/subnet.ts';
import { value } from '../../helpers/outcome.ts';

const EARLY = PRESETS['fashion-tiny'] as Space;
const SINGLE: Space = { ...(PRESETS['ofa-mbv3-w1.0'] as Space), resolutions: [160, 176, 192, 208, 224] };
const PARALLEL = [value(withArchitecture(EARLY, 'EE_DP')), value(withArchitecture(SINGLE, 'SE_P'))];
const anySpace = fc.constantFrom(EARLY, SINGLE, ...PARALLEL);
const anySeed = fc.integer({ min: 0, max: 2 ** 40 });

const isOf = (space: Space, subnet: Subnet) => parseSubnet(space, subnet, 'it').ok;

describe('random streams', () => {
  it('differ between asks and between seeds, also beyond 32 bits, and repeat themselves', () => {
    const opening = (seed: number, n: number) => {
      const rng = stream(seed, n);
      return [rng.next(), rng.next(), rng.next()].join();
    };
    const pairs = [0, 1, 2, 2 ** 31, 2 ** 32, 2 ** 32 + 1, -1].flatMap((seed) => [-1, 0, 1, 2, 1000].map((n) => [seed, n] as const));
    expect(new Set(pairs.map(([seed, n]) => opening(seed, n))).size).toBe(pairs.length);
    expect(opening(5, 7)).toBe(opening(5, 7));
    expect(() => stream(0.5, 1)).toThrow('0.5');
  });
});

describe('a random subnet', () => {
  it('is of its space', () => {
    fc.assert(fc.property(anySpace, anySeed, (space, seed) => isOf(space, randomSubnet(space, stream(seed, 0)))));
  });

  it('ends at each exit about equally often', () => {
    const ends = [0, 0, 0];
    for (let i = 0; i < 3000; i++) {
      const at = randomSubnet(EARLY, stream(1, i)).stages.length - 1;
      ends[at] = (ends[at] as number) + 1;
    }
    for (const count of ends) expect(Math.abs(count - 1000)).toBeLessThan(130); // 5 standard deviations
  });
});

describe('crossover', () => {
  it('takes every gene from a parent that has it, at the same place', () => {
    fc.assert(
      fc.property(anySpace, anySeed, (space, seed) => {
        const [a, b] = [randomSubnet(space, stream(seed, 0)), randomSubnet(space, stream(seed, 1))];
        const child = crossover(a, b, stream(seed, 2));
        expect(isOf(space, child)).toBe(true);
        expect([a.resolution, b.resolution]).toContain(child.resolution);
        expect([a.stages.length, b.stages.length]).toContain(child.stages.length);
        child.stages.forEach((blocks, s) => {
          const parents = [a, b].flatMap((parent) => (parent.stages[s] === undefined ? [] : [parent.stages[s]]));
          expect(parents.map((stage) => stage.length)).toContain(blocks.length);
          blocks.forEach((block, i) => {
            const theirs = parents.flatMap((stage) => (stage[i] === undefined ? [] : [stage[i]]));
            expect(theirs.map((parent) => parent.mask)).toContain(block.mask);
            expect(theirs.map((parent) => parent.kernel)).toContain(block.kernel);
            expect(theirs.map((parent) => parent.expand)).toContain(block.expand);
          });
        });
      }),
    );
  });

  it('gives mixtures, not copies, of two parents that differ everywhere', () => {
    const children = Array.from({ length: 50 }, (_, i) => crossover(smallestSubnet(SINGLE), largestSubnet(SINGLE), stream(3, i)));
    const parents = [smallestSubnet(SINGLE), largestSubnet(SINGLE)].map((subnet) => subnetId(SINGLE, subnet));
    const ids = new Set(children.map((child) => subnetId(SINGLE, child)));
    expect(ids.size).toBe(50);
    for (const parent of parents) expect(ids.has(parent)).toBe(false);
  });
});

describe('mutation', () => {
  it('stays in the space, changes nothing at rate 0 and every gene that stays alive at rate 1', () => {
    fc.assert(
      fc.property(anySpace, anySeed, fc.double({ min: 0, max: 1, noNaN: true }), (space, seed, rate) => {
        const subnet = randomSubnet(space, stream(seed, 0));
        expect(isOf(space, mutate(space, subnet, rate, stream(seed, 1)))).toBe(true);
        expect(mutate(space, subnet, 0, stream(seed, 1))).toEqual(subnet);
        const all = mutate(space, subnet, 1, stream(seed, 1));
        expect(all.resolution).not.toBe(subnet.resolution);
        all.stages.forEach((blocks, s) => {
          const before = subnet.stages[s];
          if (before === undefined) return;
          expect(blocks.length).not.toBe(before.length);
          blocks.forEach((block, i) => {
            if (block.mask !== undefined) expect(block.mask).not.toBe(before[i]?.mask);
            if (block.kernel === undefined) return; // a mask without MBConv has neither
            expect(block.kernel).not.toBe(before[i]?.kernel);
            expect(block.expand).not.toBe(before[i]?.expand);
          });
        });
      }),
    );
  });

  it('has mutable genes of live branches only, and reaches every mask', () => {
    const space = PARALLEL[1] as Space;
    expect(geneCount(space, largestSubnet(space))).toBe(1 + 5 + 3 * 20);
    expect(geneCount(space, smallestSubnet(space))).toBe(1 + 5 + 10);
    const masks = new Set<number | undefined>();
    for (let i = 0; i < 300; i++) {
      const mutant = mutate(space, smallestSubnet(space), 0.2, stream(10, i));
      for (const block of mutant.stages.flat()) {
        masks.add(block.mask);
        expect(block.kernel !== undefined).toBe((block.mask ?? 0) >= 4);
        expect(block.expand !== undefined).toBe((block.mask ?? 0) >= 4);
      }
    }
    expect(masks.size).toBe(7);
  });

  it('changes as many genes as its rate says on average', () => {
    const subnet = largestSubnet(SINGLE);
    expect(geneCount(SINGLE, subnet)).toBe(1 + 5 + 2 * 20);
    let changed = 0;
    for (let i = 0; i < 2000; i++) {
      const mutant = mutate(SINGLE, subnet, 1 / geneCount(SINGLE, subnet), stream(9, i));
      changed += mutant.resolution === subnet.resolution ? 0 : 1;
      mutant.stages.forEach((blocks, s) => {
        const before = subnet.stages[s] ?? [];
        changed += blocks.length === before.length ? 0 : 1;
        blocks.forEach((block, b) => (changed += Number(block.kernel !== before[b]?.kernel) + Number(block.expand !== before[b]?.expand)));
      });
    }
    // genes of a block that is cut do not show, so slightly below 1
    expect(changed / 2000).toBeGreaterThan(0.88);
    expect(changed / 2000).toBeLessThan(1.1);
  });

  it('reaches all values of a gene', () => {
    const seen = new Set(Array.from({ length: 300 }, (_, i) => mutate(SINGLE, smallestSubnet(SINGLE), 1, stream(4, i)).resolution));
    expect([...seen].sort()).toEqual(SINGLE.resolutions.slice(1));
  });
});

describe('a tournament', () => {
  const wins = (a: { rank: number; crowding: number }, b: { rank: number; crowding: number }) => {
    let count = 0;
    for (let i = 0; i < 400; i++) count += tournament([{ index: 0, ...a }, { index: 1, ...b }], stream(11, i)).index === 0 ? 1 : 0;
    return count / 400;
  }; // prettier-ignore

  it('is won by the lower rank, however crowded it is', () => {
    // both drawn members are the same one half of the time, so the better one wins three in four
    expect(wins({ rank: 0, crowding: 0 }, { rank: 1, crowding: Infinity })).toBeGreaterThan(0.65);
  });

  it('is won by the less crowded of equal ranks', () => {
    expect(wins({ rank: 0, crowding: 0.1 }, { rank: 0, crowding: 0.2 })).toBeLessThan(0.35);
  });

  it('is a coin between equals', () => {
    expect(Math.abs(wins({ rank: 0, crowding: Infinity }, { rank: 0, crowding: Infinity }) - 0.5)).toBeLessThan(0.13);
  });
});

describe('the first asks', () => {
  it('are the smallest, the largest, then distinct uniform subnets', () => {
    fc.assert(
      fc.property(anySpace, anySeed, (space, seed) => {
        const design = firstDesign(space, 24, stream(seed, -1));
        expect(design.slice(0, 2)).toEqual([smallestSubnet(space), largestSubnet(space)]);
        expect(design.every((subnet) => isUniform(subnet) && isOf(space, subnet))).toBe(true);
        expect(new Set(design.map((subnet) => subnetId(space, subnet))).size).toBe(24);
      }),
    );
  });

  it('show every value of every axis within the first ten', () => {
    fc.assert(
      fc.property(anySpace, anySeed, (space, seed) => {
        const design = firstDesign(space, 10, stream(seed, -1));
        const seen = (values: readonly (number | undefined)[]) => [...new Set(values)].sort((a, b) => Number(a) - Number(b));
        expect(seen(design.map((subnet) => subnet.resolution))).toEqual(space.resolutions);
        expect(seen(design.map((subnet) => subnet.stages[0]?.length))).toEqual(space.depths);
        if (space.parallel !== undefined) {
          expect(seen(design.map((subnet) => subnet.stages[0]?.[0]?.mask))).toEqual(space.parallel.masks);
        } else {
          expect(seen(design.map((subnet) => subnet.stages[0]?.[0]?.kernel))).toEqual(space.kernels);
          expect(seen(design.map((subnet) => subnet.stages[0]?.[0]?.expand))).toEqual(space.expands);
        }
        if (space.exits === 'early') expect(seen(design.map((subnet) => subnet.stages.length))).toEqual([1, 2, 3]);
      }),
    );
  });

  it('end with the uniform subnets of a small space instead of looking for more', () => {
    const small = { ...SINGLE, resolutions: [160], depths: [2], kernels: [3, 5] as const, expands: [3] };
    expect(firstDesign({ ...small, kernels: [...small.kernels] }, 50, stream(1, -1))).toHaveLength(2);
    expect(firstDesign(SINGLE, 200, stream(1, -1))).toHaveLength(3 * 3 * 3 * 5);
    expect(firstDesign(SINGLE, 0, stream(1, -1))).toEqual([]);
  });
});
