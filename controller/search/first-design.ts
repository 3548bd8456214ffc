// The first asks: the extremes, then uniform subnets (one value per axis), in an order in which every prefix spans the range.
import type { Space } from '../space.ts';
import { largestSubnet, masksOf, smallestSubnet, subnetId, uniformSubnet, type Subnet } from '../subnet.ts';
import { stageCounts } from './operators.ts';
import { shuffled, type Rng } from './rng.ts';

/** Deals tried for each subnet that is wanted: late ones often repeat an earlier one where the space has few uniform subnets. */
const DEALS_PER_SUBNET = 50;

/**
 * Up to `count` distinct subnets: smallest, largest, then uniform ones. Each axis (exit, depth, mask, kernel, expand, resolution) deals its values
 * like a shuffled pack of cards, a new pack when one is used up, so any run of asks shows all values of an axis about equally often.
 */
export function firstDesign(space: Space, count: number, rng: Rng): Subnet[] {
  const [stages, depth, kernel, expand, resolution] = [
    dealer(stageCounts(space), rng),
    dealer(space.depths, rng),
    dealer(space.kernels, rng),
    dealer(space.expands, rng),
    dealer(space.resolutions, rng),
  ];
  const masks = masksOf(space);
  const mask = masks === null ? null : dealer(masks, rng);
  const design = new Map<string, Subnet>();
  const add = (subnet: Subnet) => design.set(subnetId(space, subnet), subnet);
  add(smallestSubnet(space));
  add(largestSubnet(space));
  for (let deal = 0; design.size < count && deal < DEALS_PER_SUBNET * count; deal++) {
    const genes = { stages: stages(), depth: depth(), kernel: kernel(), expand: expand(), resolution: resolution() };
    add(uniformSubnet(space, mask === null ? genes : { ...genes, mask: mask() }));
  }
  return [...design.values()].slice(0, count);
}

function dealer(values: readonly number[], rng: Rng): () => number {
  let pack: number[] = [];
  return () => {
    if (pack.length === 0) pack = shuffled(rng, values);
    return pack.pop() as number;
  };
}
