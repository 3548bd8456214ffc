// What a subnet costs on paper, counted on the extracted net, or on its shapes alone where many are weighed: multiply-accumulates of one image, and trained parameters.
import type { Space } from '../space.ts';
import type { Subnet } from '../subnet.ts';
import { convNormsOf, tensorsOf, type Conv, type ConvNorm, type ExtractedNet, type MbConv } from '../supernet/extracted-net.ts';
import { midChannels, squeezeChannels } from '../supernet/widths.ts';

/** MACs of convolutions (those of squeeze-and-excitation too) and linear layers for one image; norms, activations, pools and sums count nothing. */
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
  const block = (side: number, part: MbConv): number => {
    if (part.expand !== null) convNorm(part.expand, side);
    const outputSide = convNorm(part.depthwise, side);
    if (part.squeezeExcite !== null) {
      conv(part.squeezeExcite.reduce, 1);
      conv(part.squeezeExcite.expand, 1);
    }
    return convNorm(part.project, outputSide);
  };
  const blocks = [net.first, ...net.stages.flat()];
  convNorm(net.exit.conv, blocks.reduce(block, convNorm(net.stem, net.subnet.resolution)));
  return macs + net.exit.mix.weight.data.length + net.exit.classifier.weight.data.length;
}

/** What `countMacs` counts on the extracted net, without extracting it. */
export function macsOfSubnet(space: Space, subnet: Subnet): number {
  const { stem, head } = space;
  // same padding around odd kernels: a stride divides the side, rounded up
  let side = Math.ceil(subnet.resolution / stem.stride);
  let channels = stem.channels;
  let macs = (9 * space.inputChannels * channels + 9 * channels + channels * channels) * side * side;
  for (const [s, blocks] of subnet.stages.entries()) {
    const stage = space.stages[s] as Space['stages'][number];
    for (const [b, { kernel, expand }] of blocks.entries()) {
      const mid = midChannels(channels, expand);
      macs += channels * mid * side * side;
      side = Math.ceil(side / (b === 0 ? stage.stride : 1));
      macs += (kernel * kernel * mid + mid * stage.channels) * side * side;
      if (stage.squeezeExcite) macs += 2 * mid * squeezeChannels(mid);
      channels = stage.channels;
    }
  }
  const [wide, mixed] = [head.expand * channels, head.mix * channels];
  return macs + channels * wide * side * side + wide * mixed + mixed * space.classes;
}

/** Trained values: everything but the batch norms' statistics. */
export function countParameters(net: ExtractedNet): number {
  const statistics = new Set(convNormsOf(net).flatMap(({ norm }) => [norm.mean, norm.variance]));
  return tensorsOf(net).reduce((sum, tensor) => (statistics.has(tensor) ? sum : sum + tensor.data.length), 0);
}
