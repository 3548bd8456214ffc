// How many subnets a space holds, exactly.
import { BRANCH, type Space } from '../space.ts';
import { masksOf } from '../subnet.ts';

export interface SubnetCount {
  /** Every combination of live stages' and blocks' genes, kernel and expand ratio of blocks without an MBConv too: what naive encodings count. */
  readonly encoded: bigint;
  /** Different nets: what ids tell apart. */
  readonly distinct: bigint;
}

/** At one resolution; times the number of resolutions for all that a search may ask. */
export function countSubnets(space: Space): SubnetCount {
  const mbConvs = space.kernels.length * space.expands.length;
  const masks = masksOf(space);
  if (masks === null) {
    const count = netsOf(space, mbConvs);
    return { encoded: count, distinct: count };
  }
  const withMbConv = masks.filter((mask) => (mask & BRANCH.mbConv) !== 0).length;
  return {
    encoded: netsOf(space, masks.length * mbConvs),
    distinct: netsOf(space, withMbConv * mbConvs + masks.length - withMbConv),
  };
}

/** Each block takes one of `blocks` forms: a stage sums their powers over its depths, an early-exit space those of the stages over its exits. */
function netsOf(space: Space, blocks: number): bigint {
  const stage = space.depths.reduce((sum, depth) => sum + BigInt(blocks) ** BigInt(depth), 0n);
  const all = space.stages.length;
  const exits = space.exits === 'early' ? space.stages.map((_, s) => s + 1) : [all];
  return exits.reduce((sum, exit) => sum + stage ** BigInt(exit), 0n);
}
