// A subnet: the genotype, in its only (canonical) form. Genes that would be dead, blocks beyond the depth or stages beyond the exit,
// cannot be written down, so equal nets are equal values and have one id.
import { createHash } from 'node:crypto';
import { z } from 'zod';
import { failed, ok, type Outcome } from '@ofa-fleet/shared/outcome.ts';
import { canonicalJson, spaceId, type Space } from './space.ts';

export interface Block {
  /** Depthwise kernel side, one of the space's `kernels`. */
  readonly kernel: number;
  /** Expand ratio, one of the space's `expands`. */
  readonly expand: number;
}

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

/** The net with one value per axis everywhere: `stages` active stages (default all), each with `depth` blocks. */
export function uniformSubnet(
  space: Space,
  genes: { resolution: number; kernel: number; expand: number; depth: number; stages?: number },
): Subnet {
  const block = { kernel: genes.kernel, expand: genes.expand };
  const stages = Array.from({ length: genes.stages ?? space.stages.length }, () => Array.from({ length: genes.depth }, () => block));
  return { resolution: genes.resolution, stages };
}

export function largestSubnet(space: Space): Subnet {
  return uniformSubnet(space, {
    resolution: last(space.resolutions),
    kernel: last(space.kernels),
    expand: last(space.expands),
    depth: last(space.depths),
  });
}

/** The smallest net: every gene at its least, ended by the first exit where the space has early exits. */
export function smallestSubnet(space: Space): Subnet {
  return uniformSubnet(space, {
    resolution: first(space.resolutions),
    kernel: first(space.kernels),
    expand: first(space.expands),
    depth: first(space.depths),
    stages: space.exits === 'early' ? 1 : space.stages.length,
  });
}

const subnetSchema = z.strictObject({
  resolution: z.int(),
  stages: z.array(z.array(z.strictObject({ kernel: z.int(), expand: z.number() })).min(1)).min(1),
});

/** Parses an untrusted value as a subnet of `space`; the message names each gene that the space does not offer. */
export function parseSubnet(space: Space, value: unknown, origin: string): Outcome<Subnet> {
  const parsed = subnetSchema.safeParse(value);
  if (!parsed.success) {
    const mistakes = parsed.error.issues.map((issue) => `${issue.path.join('.') || '(whole)'}: ${issue.message}`);
    return failed('INVALID_INPUT', `${origin} is not a subnet: ${mistakes.join('; ')}.`);
  }
  const subnet = parsed.data;
  const mistakes: string[] = [];
  const check = (name: string, gene: number, allowed: readonly number[]) => {
    if (!allowed.includes(gene)) mistakes.push(`${name} ${gene} is none of ${allowed.join(', ')}`);
  };
  check('resolution', subnet.resolution, space.resolutions);
  const exits = space.exits === 'early' ? space.stages.map((_, i) => i + 1) : [space.stages.length];
  check('number of stages', subnet.stages.length, exits);
  subnet.stages.forEach((blocks, s) => {
    check(`depth of stage ${s + 1}`, blocks.length, space.depths);
    blocks.forEach((block, b) => {
      check(`kernel of stage ${s + 1} block ${b + 1}`, block.kernel, space.kernels);
      check(`expand of stage ${s + 1} block ${b + 1}`, block.expand, space.expands);
    });
  });
  return mistakes.length === 0
    ? ok(subnet)
    : failed('INVALID_INPUT', `${origin} is not a subnet of ${space.name}: ${mistakes.join('; ')}.`);
}

function first<T>(values: readonly T[]): T {
  return values[0] as T;
}

function last<T>(values: readonly T[]): T {
  return values[values.length - 1] as T;
}
