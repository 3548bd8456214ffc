// What a subnet costs on paper, counted on the extracted net: multiply-accumulates of one image, and trained parameters.
import { convNormsOf, tensorsOf, type Conv, type ConvNorm, type ExtractedNet, type MbConv } from '../supernet/extracted-net.ts';

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

/** Trained values: everything but the batch norms' statistics. */
export function countParameters(net: ExtractedNet): number {
  const statistics = new Set(convNormsOf(net).flatMap(({ norm }) => [norm.mean, norm.variance]));
  return tensorsOf(net).reduce((sum, tensor) => (statistics.has(tensor) ? sum : sum + tensor.data.length), 0);
}
