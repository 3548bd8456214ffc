// Variation on ragged subnets: draw, cross, mutate. Only genes that are alive exist, so the operators add or cut blocks and stages themselves.
import type { Space } from '../space.ts';
import { blockOf, masksOf, type Block, type Subnet } from '../subnet.ts';
import { below, chance, pick, type Rng } from './rng.ts';

/** How many stages a subnet of the space may have. */
export function stageCounts(space: Space): readonly number[] {
  return space.exits === 'early' ? space.stages.map((_, i) => i + 1) : [space.stages.length];
}

/** Every gene uniform and independent: exit, depth of each stage, branch mask, kernel and expand ratio of each block, resolution. */
export function randomSubnet(space: Space, rng: Rng): Subnet {
  const resolution = pick(rng, space.resolutions);
  const stages = Array.from({ length: pick(rng, stageCounts(space)) }, () => randomStage(space, rng));
  return { resolution, stages };
}

function randomStage(space: Space, rng: Rng): Block[] {
  return Array.from({ length: pick(rng, space.depths) }, () => randomBlock(space, rng));
}

function randomBlock(space: Space, rng: Rng): Block {
  const masks = masksOf(space);
  return blockOf(masks === null ? null : pick(rng, masks), pick(rng, space.kernels), pick(rng, space.expands));
}

/**
 * Uniform crossover. Exit and depths come from either parent, as do mask, kernel and expand ratio of each block both have; a stage, block or
 * gene that only one parent has is that parent's.
 */
export function crossover(a: Subnet, b: Subnet, rng: Rng): Subnet {
  const either = <T>(x: T, y: T): T => (chance(rng, 0.5) ? x : y);
  const resolution = either(a.resolution, b.resolution);
  const stages = Array.from({ length: either(a.stages.length, b.stages.length) }, (_, s) => {
    const ofA = a.stages[s];
    const ofB = b.stages[s];
    if (ofA === undefined || ofB === undefined) return (ofA ?? ofB) as readonly Block[];
    return Array.from({ length: either(ofA.length, ofB.length) }, (_, i): Block => {
      const x = ofA[i];
      const y = ofB[i];
      if (x === undefined || y === undefined) return (x ?? y) as Block;
      return crossBlocks(x, y, either);
    });
  });
  return { resolution, stages };
}

/** The child's mask is one parent's, so where it has the MBConv that parent has kernel and expand ratio. */
function crossBlocks(x: Block, y: Block, either: <T>(x: T, y: T) => T): Block {
  const mask = x.mask === undefined || y.mask === undefined ? null : either(x.mask, y.mask);
  const gene = (a: number | undefined, b: number | undefined) => (a === undefined || b === undefined ? (a ?? b) : either(a, b));
  return blockOf(mask, gene(x.kernel, y.kernel) ?? 0, gene(x.expand, y.expand) ?? 0);
}

/** Genes of a subnet that can take another value: the basis of a mutation rate per gene. */
export function geneCount(space: Space, subnet: Subnet): number {
  const blocks = subnet.stages.flat();
  const withMbConv = blocks.filter((block) => block.kernel !== undefined);
  const elastic = (values: readonly number[]) => (values.length > 1 ? 1 : 0);
  return (
    elastic(space.resolutions) +
    elastic(stageCounts(space)) +
    elastic(space.depths) * subnet.stages.length +
    elastic(masksOf(space) ?? []) * blocks.length +
    (elastic(space.kernels) + elastic(space.expands)) * withMbConv.length
  );
}

/** Each gene takes another value of the space with probability `rate`; blocks, stages and genes that this adds are drawn, those it cuts are gone. */
export function mutate(space: Space, subnet: Subnet, rate: number, rng: Rng): Subnet {
  const gene = (value: number, allowed: readonly number[]) =>
    allowed.length > 1 && chance(rng, rate) ? another(value, allowed, rng) : value;
  const resolution = gene(subnet.resolution, space.resolutions);
  const stages = Array.from({ length: gene(subnet.stages.length, stageCounts(space)) }, (_, s) => {
    const blocks = subnet.stages[s];
    if (blocks === undefined) return randomStage(space, rng);
    return Array.from({ length: gene(blocks.length, space.depths) }, (_, i): Block => {
      const block = blocks[i];
      if (block === undefined) return randomBlock(space, rng);
      const masks = masksOf(space);
      const mask = masks === null || block.mask === undefined ? null : gene(block.mask, masks);
      if (block.kernel !== undefined) return blockOf(mask, gene(block.kernel, space.kernels), gene(block.expand, space.expands));
      return blockOf(mask, pick(rng, space.kernels), pick(rng, space.expands));
    });
  });
  return { resolution, stages };
}

/** Uniform among the other values. */
function another(value: number, allowed: readonly number[], rng: Rng): number {
  const at = allowed.indexOf(value);
  const draw = below(rng, allowed.length - 1);
  return allowed[draw < at ? draw : draw + 1] as number;
}
