// A subnet: the genotype, in its only (canonical) form. Genes that would be dead, blocks beyond the depth, stages beyond the exit, kernel and
// expand ratio where no MBConv is active, cannot be written down, so equal nets are equal values and have one id.
import { createHash } from 'node:crypto';
import { z } from 'zod';
import { failed, ok, type Outcome } from '@ofa-fleet/shared/outcome.ts';
import { BRANCH, canonicalJson, spaceId, type Space } from './space.ts';

/** A block whose MBConv is active. */
export interface MbConvBlock {
  /** Depthwise kernel side, one of the space's `kernels`. */
  readonly kernel: number;
  /** Expand ratio, one of the space's `expands`. */
  readonly expand: number;
  /** Active branches, one of the space's `parallel.masks`, with the MBConv's bit; absent in spaces without parallel blocks. */
  readonly mask?: number;
}

/** A parallel block without its MBConv: kernel and expand ratio would be dead, so they are not there. */
interface StaticBlock {
  readonly mask: number;
  readonly kernel?: never;
  readonly expand?: never;
}

/** Ask `block.kernel !== undefined` to tell the two apart. */
export type Block = MbConvBlock | StaticBlock;

export interface Subnet {
  /** Input side in pixels. */
  readonly resolution: number;
  /** Active stages; the net ends with the exit after the last of them. Each lists its active blocks, so its length is the depth. */
  readonly stages: readonly (readonly Block[])[];
}

/** Identity of a subnet in its space: 16 hex digits over space id, resolution and genes. */
export function subnetId(space: Space, subnet: Subnet): string {
  return createHash('sha256')
    .update(`${spaceId(space)} ${canonicalJson(subnet)}`)
    .digest('hex')
    .slice(0, 16);
}

/** The masks that a block of the space may have, ascending; null in spaces without parallel blocks. */
export function masksOf(space: Space): readonly number[] | null {
  return space.parallel?.masks ?? null;
}

/** A block in canonical form: `mask` null where the space has no parallel blocks, kernel and expand ratio dropped where they would be dead. */
export function blockOf(mask: number | null, kernel: number, expand: number): Block {
  if (mask === null) return { kernel, expand };
  return (mask & BRANCH.mbConv) === 0 ? { mask } : { kernel, expand, mask };
}

/** Whether a branch of a block is active. */
export function hasBranch(block: Block, branch: keyof typeof BRANCH): boolean {
  return block.mask === undefined ? branch === 'mbConv' : (block.mask & BRANCH[branch]) !== 0;
}

/**
 * The net with one value per axis everywhere: `stages` active stages (default all), each with `depth` blocks. `mask` counts in parallel spaces
 * only; default: all branches.
 */
export function uniformSubnet(
  space: Space,
  genes: { resolution: number; kernel: number; expand: number; depth: number; stages?: number; mask?: number },
): Subnet {
  const masks = masksOf(space);
  const block = blockOf(masks === null ? null : (genes.mask ?? last(masks)), genes.kernel, genes.expand);
  const stages = Array.from({ length: genes.stages ?? space.stages.length }, () => Array.from({ length: genes.depth }, () => block));
  return { resolution: genes.resolution, stages };
}

/** Every gene at its most: all branches of each block, ended by the last exit. */
export function largestSubnet(space: Space): Subnet {
  return uniformSubnet(space, {
    resolution: last(space.resolutions),
    kernel: last(space.kernels),
    expand: last(space.expands),
    depth: last(space.depths),
  });
}

/** The smallest net: every gene at its least, the cheapest mask, ended by the first exit where the space has early exits. */
export function smallestSubnet(space: Space): Subnet {
  return uniformSubnet(space, {
    resolution: first(space.resolutions),
    kernel: first(space.kernels),
    expand: first(space.expands),
    depth: first(space.depths),
    stages: space.exits === 'early' ? 1 : space.stages.length,
    ...(space.parallel === undefined ? {} : { mask: cheapestMask(space.parallel) }),
  });
}

/** A transformation is at most one 1x1 convolution and mostly none, attention is three: masks ascend in cost, the third branch apart. */
function cheapestMask({ masks, third }: NonNullable<Space['parallel']>): number {
  const cost = (mask: number) => (third === 'attention' && (mask & BRANCH.third) !== 0 ? mask - BRANCH.third + 3 : mask);
  return masks.reduce((best, mask) => (cost(mask) < cost(best) ? mask : best));
}

const subnetSchema = z.strictObject({
  resolution: z.int(),
  stages: z
    .array(z.array(z.strictObject({ kernel: z.int().optional(), expand: z.number().optional(), mask: z.int().optional() })).min(1))
    .min(1),
});

/** Parses an untrusted value as a subnet of `space`; the message names each gene that the space does not offer. */
export function parseSubnet(space: Space, value: unknown, origin: string): Outcome<Subnet> {
  const parsed = subnetSchema.safeParse(value);
  if (!parsed.success) {
    const mistakes = parsed.error.issues.map((issue) => `${issue.path.join('.') || '(whole)'}: ${issue.message}`);
    return failed('INVALID_INPUT', `${origin} is not a subnet: ${mistakes.join('; ')}.`);
  }
  const subnet = parsed.data;
  const masks = masksOf(space);
  const mistakes: string[] = [];
  const check = (name: string, gene: number | undefined, allowed: readonly number[]) => {
    if (gene === undefined) mistakes.push(`${name} is missing`);
    else if (!allowed.includes(gene)) mistakes.push(`${name} ${gene} is none of ${allowed.join(', ')}`);
  };
  const refuse = (name: string, gene: number | undefined, why: string) => {
    if (gene !== undefined) mistakes.push(`${name} ${gene} must be left out: ${why}`);
  };
  check('resolution', subnet.resolution, space.resolutions);
  const exits = space.exits === 'early' ? space.stages.map((_, i) => i + 1) : [space.stages.length];
  check('number of stages', subnet.stages.length, exits);
  subnet.stages.forEach((blocks, s) => {
    check(`depth of stage ${s + 1}`, blocks.length, space.depths);
    blocks.forEach(({ kernel, expand, mask }, b) => {
      const place = `of stage ${s + 1} block ${b + 1}`;
      if (masks === null) refuse(`mask ${place}`, mask, 'the space has no parallel blocks');
      else check(`mask ${place}`, mask, masks);
      if (masks !== null && mask !== undefined && (mask & BRANCH.mbConv) === 0) {
        refuse(`kernel ${place}`, kernel, `mask ${mask} has no MBConv`);
        refuse(`expand ${place}`, expand, `mask ${mask} has no MBConv`);
      } else {
        check(`kernel ${place}`, kernel, space.kernels);
        check(`expand ${place}`, expand, space.expands);
      }
    });
  });
  if (mistakes.length > 0) return failed('INVALID_INPUT', `${origin} is not a subnet of ${space.name}: ${mistakes.join('; ')}.`);
  const block = ({ kernel, expand, mask }: (typeof subnet.stages)[number][number]) => blockOf(mask ?? null, kernel ?? 0, expand ?? 0);
  return ok({ resolution: subnet.resolution, stages: subnet.stages.map((blocks) => blocks.map(block)) });
}

function first<T>(values: readonly T[]): T {
  return values[0] as T;
}

function last<T>(values: readonly T[]): T {
  return values[values.length - 1] as T;
}
