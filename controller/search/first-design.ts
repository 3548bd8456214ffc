// The first asks: the extremes, then uniform subnets (one value per axis), in an order in which every prefix spans the range.
import type { Space } from '../space.ts';
import { largestSubnet, smallestSubnet, subnetId, uniformSubnet, type Subnet } from '../subnet.ts';
import { stageCounts } from './operators.ts';
import { below, type Rng } from './rng.ts';

/**
 * Up to `count` distinct subnets: smallest, largest, then uniform ones by a rank-1 lattice over the axes (exit, depth, kernel, expand,
 * resolution), shifted at random: each axis takes its values in turn, and neighbours in time differ in all of them.
 */
export function firstDesign(space: Space, count: number, rng: Rng): Subnet[] {
  const axes = [stageCounts(space), space.depths, space.kernels, space.expands, space.resolutions];
  const size = axes.reduce((product, axis) => product * axis.length, 1);
  const design = new Map<string, Subnet>();
  const add = (subnet: Subnet) => design.set(subnetId(space, subnet), subnet);
  add(smallestSubnet(space));
  add(largestSubnet(space));
  const shifts = axes.map(() => below(rng, 1 << 30) / (1 << 30));
  for (let i = 0; design.size < Math.min(count, size) && i < 64 * size; i++) {
    const [stages, depth, kernel, expand, resolution] = axes.map((axis, a) => {
      const position = ((shifts[a] as number) + i * (STEPS[a] as number)) % 1;
      return axis[Math.floor(position * axis.length)] as number;
    }) as [number, number, number, number, number];
    add(uniformSubnet(space, { stages, depth, kernel, expand, resolution }));
  }
  return [...design.values()].slice(0, count);
}

/** Irrational steps of the generalised golden ratio in five dimensions (R-sequence): x^6 = x + 1, step a = x^-a. */
const STEPS = [1, 2, 3, 4, 5].map((a) => 1.1347241384015194 ** -a);
