// What a pass costs, in multiply-accumulates, so that a plan can say how long phases of unlike nets take. An estimate from shapes: it knows
// neither caches nor the overhead of an operator.
import type { Space } from '../../space.ts';
import { hasBranch, type Block, type Subnet } from '../../subnet.ts';
import { headWidths, midChannels, squeezeChannels } from '../widths.ts';

/** Forward and backward together, in forward passes. */
export const TRAINING_PASSES = 3;

/** Multiply-accumulates of one image through a subnet, with its own exit or all on the way. */
export function passCost(space: Space, { resolution, stages }: Subnet, exits: 'own' | 'all'): number {
  const { stem } = space;
  let side = Math.ceil(resolution / stem.stride);
  let channels = stem.channels;
  let cost = side ** 2 * channels * (9 * space.inputChannels + 9 + channels);
  stages.forEach((blocks, s) => {
    const stage = space.stages[s] as Space['stages'][number];
    blocks.forEach((block, b) => {
      const stride = b === 0 ? stage.stride : 1;
      cost += blockCost(space, block, stage, channels, side, stride);
      side = Math.ceil(side / stride);
      channels = stage.channels;
    });
    if (s === stages.length - 1 || (exits === 'all' && space.exits === 'early')) {
      const [wide, mixed] = headWidths(space, s);
      cost += side ** 2 * channels * wide + wide * mixed + mixed * space.classes;
    }
  });
  return cost;
}

function blockCost(space: Space, block: Block, stage: Space['stages'][number], inputs: number, side: number, stride: number): number {
  const outer = Math.ceil(side / stride) ** 2;
  let cost = 0;
  if (block.kernel !== undefined) {
    const mid = midChannels(inputs, block.expand);
    cost += side ** 2 * inputs * mid + outer * mid * (block.kernel ** 2 + stage.channels);
    if (stage.squeezeExcite) cost += 2 * mid * squeezeChannels(mid);
  }
  const pointwise = outer * inputs * stage.channels;
  if (hasBranch(block, 'pointwise')) cost += pointwise;
  if (hasBranch(block, 'third')) cost += space.parallel?.third === 'attention' ? 3 * pointwise : inputs === stage.channels ? 0 : pointwise;
  return cost;
}
