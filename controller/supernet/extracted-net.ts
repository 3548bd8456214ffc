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
  /** [out], or null. Only the convolutions inside squeeze-and-excitation and transformations have one. */
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

/**
 * The third branch of a parallel block (OFAv2, arXiv 2302.01888): pool? -> conv? -> batch norm -> activation. The 1x1 convolution, with bias, is
 * there where the channels change.
 */
export interface Transformation {
  readonly kind: 'transformation';
  /** 1: none; 2: maximum over 2x2 pixels at stride 2, a last odd row or column by itself. */
  readonly pool: 1 | 2;
  readonly conv: Conv | null;
  readonly norm: BatchNorm;
  readonly activation: Activation;
}

/** Sides of the neighbourhood that attention looks at. */
export const ATTENTION_SIDE = 7;

/**
 * The third branch's other form: each pixel's channel is the mean of `value` over the 7x7 neighbours (zeros beyond the map), weighted by the
 * softmax over them of query · (key + offset), channel by channel; then the mean over 2x2 pixels where `pool` is 2. Neither scale nor batch norm
 * nor activation. Offsets depend on the neighbour's row in the first half of the channels, on its column in the second.
 */
export interface Attention {
  readonly kind: 'attention';
  readonly query: Conv;
  readonly key: Conv;
  readonly value: Conv;
  /** [7, out / 2]: by row of the neighbour, from above to below. */
  readonly rows: NamedTensor;
  /** [7, out / 2]: by column, from left to right. */
  readonly columns: NamedTensor;
  readonly pool: 1 | 2;
}

/** The sum of its branches, all of the same input; null where inactive. Spaces without parallel blocks have the MBConv alone. */
export interface NetBlock {
  readonly mbConv: MbConv | null;
  /** 1x1 convolution with the block's stride. */
  readonly pointwise: ConvNorm | null;
  readonly third: Transformation | Attention | null;
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
  readonly stages: readonly (readonly NetBlock[])[];
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

/** The net's batch norms, in order of execution. */
export function normsOf(net: ExtractedNet): BatchNorm[] {
  const norms: BatchNorm[] = [];
  withStatistics(net, net.statistics, (norm) => {
    norms.push(norm);
    return { mean: norm.mean.data, variance: norm.variance.data };
  });
  return norms;
}

/** The same net with other batch-norm statistics; `replace` is asked once per batch norm, in order of execution. */
export function withStatistics(
  net: ExtractedNet,
  statistics: ExtractedNet['statistics'],
  replace: (norm: BatchNorm) => { readonly mean: Float32Array; readonly variance: Float32Array },
): ExtractedNet {
  const renewNorm = (norm: BatchNorm): BatchNorm => {
    const { mean, variance } = replace(norm);
    return { ...norm, mean: { ...norm.mean, data: mean }, variance: { ...norm.variance, data: variance } };
  };
  const renew = (part: ConvNorm): ConvNorm => ({ ...part, norm: renewNorm(part.norm) });
  const renewMbConv = (part: MbConv): MbConv => ({
    ...part,
    expand: part.expand === null ? null : renew(part.expand),
    depthwise: renew(part.depthwise),
    project: renew(part.project),
  });
  const renewBlock = ({ mbConv, pointwise, third }: NetBlock): NetBlock => ({
    mbConv: mbConv === null ? null : renewMbConv(mbConv),
    pointwise: pointwise === null ? null : renew(pointwise),
    third: third?.kind === 'transformation' ? { ...third, norm: renewNorm(third.norm) } : third,
  });
  // an object's fields are made in the order in which they are written, which is the order of execution
  return {
    ...net,
    statistics,
    stem: renew(net.stem),
    first: renewMbConv(net.first),
    stages: net.stages.map((blocks) => blocks.map(renewBlock)),
    exit: { ...net.exit, conv: renew(net.exit.conv) },
  };
}

/** Every tensor of the net, in order of execution. */
export function tensorsOf(net: ExtractedNet): NamedTensor[] {
  const conv = (part: Conv | Linear): NamedTensor[] => (part.bias === null ? [part.weight] : [part.weight, part.bias]);
  const norms = ({ gamma, beta, mean, variance }: BatchNorm): NamedTensor[] => [gamma, beta, mean, variance];
  const convNorm = ({ conv: c, norm }: ConvNorm): NamedTensor[] => [...conv(c), ...norms(norm)];
  const mbConv = (part: MbConv): NamedTensor[] => [
    ...(part.expand === null ? [] : convNorm(part.expand)),
    ...convNorm(part.depthwise),
    ...(part.squeezeExcite === null ? [] : [...conv(part.squeezeExcite.reduce), ...conv(part.squeezeExcite.expand)]),
    ...convNorm(part.project),
  ];
  const third = (part: Transformation | Attention): NamedTensor[] =>
    part.kind === 'transformation'
      ? [...(part.conv === null ? [] : conv(part.conv)), ...norms(part.norm)]
      : [part.query.weight, part.key.weight, part.value.weight, part.rows, part.columns];
  const block = (part: NetBlock): NamedTensor[] => [
    ...(part.mbConv === null ? [] : mbConv(part.mbConv)),
    ...(part.pointwise === null ? [] : convNorm(part.pointwise)),
    ...(part.third === null ? [] : third(part.third)),
  ];
  const exit = [...convNorm(net.exit.conv), ...conv(net.exit.mix), ...conv(net.exit.classifier)];
  return [...convNorm(net.stem), ...mbConv(net.first), ...net.stages.flat().flatMap(block), ...exit];
}
