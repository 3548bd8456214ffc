// What a subnet costs on paper, counted on the extracted net, or on its shapes alone where many are weighed: multiply-accumulates of one image, and trained parameters.
import type { Space } from '../space.ts';
import { hasBranch, type Block, type Subnet } from '../subnet.ts';
import { normsOf, tensorsOf, type Conv, type ConvNorm, type ExtractedNet, type MbConv, type NetBlock } from '../supernet/extracted-net.ts';
import { headWidths, mapSides, midChannels, squeezeChannels } from '../supernet/widths.ts';

/**
 * MACs of convolutions (those of squeeze-and-excitation and attention too) and linear layers for one image; norms, activations, pools, sums
 * and attention's own products count nothing.
 */
export function countMacs(net: ExtractedNet): number {
  let macs = 0;
  /** Counts one convolution on a side of `side` pixels and gives the side of its output. */
  const conv = ({ weight, stride, padding }: Conv, side: number): number => {
    const kernel = weight.shape[2] as number;
    const outputSide = Math.floor((side + 2 * padding - kernel) / stride) + 1;
    macs += weight.data.length * outputSide * outputSide;
    return outputSide;
  };
  const convNorm = (part: ConvNorm, side: number) => conv(part.conv, side);
  const mbConv = (side: number, part: MbConv): number => {
    if (part.expand !== null) convNorm(part.expand, side);
    const outputSide = convNorm(part.depthwise, side);
    if (part.squeezeExcite !== null) {
      conv(part.squeezeExcite.reduce, 1);
      conv(part.squeezeExcite.expand, 1);
    }
    return convNorm(part.project, outputSide);
  };
  const thirdBranch = (side: number, part: NonNullable<NetBlock['third']>): number => {
    const pooled = Math.ceil(side / part.pool);
    if (part.kind === 'attention') for (const map of [part.query, part.key, part.value]) conv(map, side);
    else if (part.conv !== null) conv(part.conv, pooled);
    return pooled;
  };
  const block = (side: number, { mbConv: elastic, pointwise, third }: NetBlock): number => {
    let outputSide = side;
    if (elastic !== null) outputSide = mbConv(side, elastic);
    if (pointwise !== null) outputSide = convNorm(pointwise, side);
    if (third !== null) outputSide = thirdBranch(side, third);
    return outputSide;
  };
  const first = mbConv(convNorm(net.stem, net.subnet.resolution), net.first);
  convNorm(net.exit.conv, net.stages.flat().reduce(block, first));
  return macs + net.exit.mix.weight.data.length + net.exit.classifier.weight.data.length;
}

/** What `countMacs` counts on the extracted net, without extracting it. */
export function macsOfSubnet(space: Space, subnet: Subnet): number {
  const { stem } = space;
  const sides = mapSides(space, subnet.resolution);
  const [stemSide = 0] = sides;
  let channels = stem.channels;
  let macs = (9 * space.inputChannels * channels + 9 * channels + channels * channels) * stemSide ** 2;
  const blockMacs = (block: Block, stage: Space['stages'][number], sideIn: number, sideOut: number): number => {
    const [pixelsIn, pixelsOut] = [sideIn ** 2, sideOut ** 2];
    const pointwise = channels * stage.channels;
    let sum = 0;
    if (block.kernel !== undefined) {
      const mid = midChannels(channels, block.expand);
      sum += channels * mid * pixelsIn + (block.kernel ** 2 * mid + mid * stage.channels) * pixelsOut;
      if (stage.squeezeExcite) sum += 2 * mid * squeezeChannels(mid);
    }
    if (hasBranch(block, 'pointwise')) sum += pointwise * pixelsOut;
    if (hasBranch(block, 'third')) {
      if (space.parallel?.third === 'attention') sum += 3 * pointwise * pixelsIn;
      else if (channels !== stage.channels) sum += pointwise * pixelsOut;
    }
    return sum;
  };
  for (const [s, blocks] of subnet.stages.entries()) {
    const stage = space.stages[s] as Space['stages'][number];
    const [sideIn, sideOut] = [sides[s] as number, sides[s + 1] as number];
    for (const [b, block] of blocks.entries()) {
      macs += blockMacs(block, stage, b === 0 ? sideIn : sideOut, sideOut);
      channels = stage.channels;
    }
  }
  const side = sides[subnet.stages.length] as number;
  const [wide, mixed] = headWidths(space, subnet.stages.length - 1);
  return macs + channels * wide * side * side + wide * mixed + mixed * space.classes;
}

/** Trained values: everything but the batch norms' statistics. */
export function countParameters(net: ExtractedNet): number {
  const statistics = new Set(normsOf(net).flatMap((norm) => [norm.mean, norm.variance]));
  return tensorsOf(net).reduce((sum, tensor) => (statistics.has(tensor) ? sum : sum + tensor.data.length), 0);
}
