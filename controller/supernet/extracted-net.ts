// A static subnet as plain values: what `extractSubnet` gives and what calibration, export and counting walk, without TensorFlow.js.
// Layouts are ONNX's, so that an exporter copies bytes; nothing is elastic any more (kernels transformed, channels sliced).
import type { Space } from '../space.ts';
import type { Subnet } from '../subnet.ts';

/** Added to the variance by every batch norm. */
export const BATCH_NORM_EPSILON = 1e-5;

export interface NamedTensor {
  /** Stable and unique within a net, e.g. `stages.0.1.depthwise.weight`: counts stages and blocks from 0. */
  readonly name: string;
  readonly shape: readonly number[];
  /** Row-major. */
  readonly data: Float32Array;
}

/** y = gamma · (x - mean) / sqrt(variance + BATCH_NORM_EPSILON) + beta; four tensors of shape [channels]. */
export interface BatchNorm {
  readonly gamma: NamedTensor;
  readonly beta: NamedTensor;
  readonly mean: NamedTensor;
  readonly variance: NamedTensor;
}

export interface Conv {
  /** [out, in / groups, k, k]; a depthwise conv has groups = out and shape [C, 1, k, k]. */
  readonly weight: NamedTensor;
  /** [out], or null. Only the convolutions inside squeeze-and-excitation have one. */
  readonly bias: NamedTensor | null;
  readonly stride: 1 | 2;
  /** Zeros added on each of the four sides: floor(k / 2), at stride 2 as well. */
  readonly padding: number;
  readonly groups: number;
}

/** relu6(x) = min(max(x, 0), 6); h_sigmoid(x) = relu6(x + 3) / 6; h_swish(x) = x · h_sigmoid(x). */
export type Activation = 'relu' | 'h_swish';

/** conv -> batch norm -> activation (none where null). */
export interface ConvNorm {
  readonly conv: Conv;
  readonly norm: BatchNorm;
  readonly activation: Activation | null;
}

/** x · h_sigmoid(expand(relu(reduce(mean of x over height and width)))); two 1x1 convolutions with bias. */
export interface SqueezeExcite {
  readonly reduce: Conv;
  readonly expand: Conv;
}

/** expand? -> depthwise -> squeezeExcite? -> project, plus the block's input where `identity`. */
export interface MbConv {
  /** null in the first block of the net, whose expand ratio is 1. */
  readonly expand: ConvNorm | null;
  readonly depthwise: ConvNorm;
  readonly squeezeExcite: SqueezeExcite | null;
  /** activation null. */
  readonly project: ConvNorm;
  readonly identity: boolean;
}

export interface Linear {
  /** [out, in] */
  readonly weight: NamedTensor;
  /** [out], or null. */
  readonly bias: NamedTensor | null;
}

/** conv -> mean over height and width -> mix -> h_swish -> classifier: logits [batch, classes]. */
export interface ExitHead {
  readonly conv: ConvNorm;
  readonly mix: Linear;
  readonly classifier: Linear;
}

export interface ExtractedNet {
  readonly space: Space;
  readonly subnet: Subnet;
  /**
   * Whose statistics the batch norms hold: `mixture` = the supernet's running averages over all its subnets, useless for one of them;
   * `calibrated` = recomputed for this net over training images.
   */
  readonly statistics: 'mixture' | 'calibrated';
  /** Input [batch, inputChannels, resolution, resolution]. */
  readonly stem: ConvNorm;
  readonly first: MbConv;
  /** Active stages with their active blocks. Stage output and block inputs follow `skipSources`. */
  readonly stages: readonly (readonly MbConv[])[];
  readonly exit: ExitHead;
}

/**
 * Which values are summed as S(t), the input of block t + 1 of a stage and, at t = depth, the stage's output. y[0] is the stage's input,
 * y[i] the output of block i (identity included). With dense skips (OFAv2, arXiv 2302.01888) S(t) = y[t] + y[1] + ... + y[t-2];
 * y[t-1] is left out since block t's identity carries it. Without, S(t) = y[t]. Order: y[t] first, then ascending.
 */
export function skipSources(denseSkips: boolean, t: number): number[] {
  const earlier = denseSkips ? Array.from({ length: Math.max(0, t - 2) }, (_, i) => i + 1) : [];
  return [t, ...earlier];
}

/** The net's parts with a batch norm, in order of execution. */
export function convNormsOf(net: ExtractedNet): ConvNorm[] {
  const blocks = [net.first, ...net.stages.flat()];
  return [
    net.stem,
    ...blocks.flatMap((block) => [...(block.expand === null ? [] : [block.expand]), block.depthwise, block.project]),
    net.exit.conv,
  ];
}

/** The same net with other batch-norm statistics; `replace` is asked once per batch norm, in order of execution. */
export function withStatistics(
  net: ExtractedNet,
  statistics: ExtractedNet['statistics'],
  replace: (norm: BatchNorm) => { readonly mean: Float32Array; readonly variance: Float32Array },
): ExtractedNet {
  const renew = (part: ConvNorm): ConvNorm => {
    const { mean, variance } = replace(part.norm);
    const norm = { ...part.norm, mean: { ...part.norm.mean, data: mean }, variance: { ...part.norm.variance, data: variance } };
    return { ...part, norm };
  };
  const renewBlock = (block: MbConv): MbConv => ({
    ...block,
    expand: block.expand === null ? null : renew(block.expand),
    depthwise: renew(block.depthwise),
    project: renew(block.project),
  });
  return {
    ...net,
    statistics,
    stem: renew(net.stem),
    first: renewBlock(net.first),
    stages: net.stages.map((blocks) => blocks.map(renewBlock)),
    exit: { ...net.exit, conv: renew(net.exit.conv) },
  };
}

/** Every tensor of the net, in order of execution. */
export function tensorsOf(net: ExtractedNet): NamedTensor[] {
  const conv = (part: Conv | Linear): NamedTensor[] => (part.bias === null ? [part.weight] : [part.weight, part.bias]);
  const convNorm = ({ conv: c, norm }: ConvNorm): NamedTensor[] => [...conv(c), norm.gamma, norm.beta, norm.mean, norm.variance];
  const block = (part: MbConv): NamedTensor[] => [
    ...(part.expand === null ? [] : convNorm(part.expand)),
    ...convNorm(part.depthwise),
    ...(part.squeezeExcite === null ? [] : [...conv(part.squeezeExcite.reduce), ...conv(part.squeezeExcite.expand)]),
    ...convNorm(part.project),
  ];
  const exit = [...convNorm(net.exit.conv), ...conv(net.exit.mix), ...conv(net.exit.classifier)];
  return [...convNorm(net.stem), ...block(net.first), ...net.stages.flat().flatMap(block), ...exit];
}
