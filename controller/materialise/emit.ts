// An extracted net as an ONNX graph and its weight files. Batch norms are not folded: their statistics differ in every subnet, so folded
// convolutions would too, and no two subnets could share a file. ONNX Runtime fuses them when it loads the model.
import {
  BATCH_NORM_EPSILON,
  normsOf,
  skipSources,
  tensorsOf,
  type Activation,
  type Attention,
  type BatchNorm,
  type Conv,
  type ConvNorm,
  type ExitHead,
  type ExtractedNet,
  type Linear,
  type MbConv,
  type NamedTensor,
  type NetBlock,
  type SqueezeExcite,
  type Transformation,
} from '../supernet/extracted-net.ts';
import { mapSides } from '../supernet/widths.ts';
import { emitAttention } from './emit-attention.ts';
import { createGraph, type ExternalPlace, type GraphBuilder } from './graph.ts';

export const INPUT = 'input';
export const OUTPUT = 'logits';

export interface EmitOptions {
  /** Images a run: a number is baked in (as devices measure it), `dynamic` leaves it to each run. */
  readonly batch: number | 'dynamic';
  /**
   * `running`: batch norms use the net's statistics. `batch`: they use those of the current batch (biased variance), and the graph gives
   * them as further outputs, named by `batchStatisticsOf`; the net's own statistics are then no part of the model.
   */
  readonly statistics: 'running' | 'batch';
}

export interface EmittedModel {
  /** ModelProto without any trained value: equal architectures give equal bytes. */
  readonly graph: Uint8Array;
  /** Bytes of the external file `t/<i>`, little-endian float32: one file for each convolution or linear weight, all small tensors in the last. */
  readonly weights: readonly Uint8Array[];
  /** [batch, channels, side, side] at batch 1. */
  readonly inputShape: readonly number[];
  /** [batch, classes] at batch 1. */
  readonly outputShape: readonly number[];
}

/** Graph outputs that hold a batch norm's current statistics, where they are emitted. */
export function batchStatisticsOf(norm: BatchNorm): { readonly mean: string; readonly variance: string } {
  return { mean: `${norm.mean.name}.batch`, variance: `${norm.variance.name}.batch` };
}

export function emitModel(net: ExtractedNet, options: EmitOptions): EmittedModel {
  const norms = normsOf(net);
  const ownStatistics = new Set(norms.flatMap((norm) => [norm.mean, norm.variance]));
  const tensors = tensorsOf(net).filter((tensor) => options.statistics === 'running' || !ownStatistics.has(tensor));
  const { places, files } = placeTensors(tensors);

  const graph = createGraph('subnet');
  const batch = options.batch === 'dynamic' ? 'batch' : options.batch;
  const image = [net.space.inputChannels, net.subnet.resolution, net.subnet.resolution];
  const input = graph.input(INPUT, [batch, ...image]);
  for (const tensor of tensors) graph.external(tensor.name, tensor.shape, places.get(tensor) as ExternalPlace);
  const emit = options.statistics === 'running' ? runningNorm : batchNorm;
  graph.output(emitNet(graph, net, input, emit), [batch, net.space.classes]);
  if (options.statistics === 'batch') {
    for (const norm of norms) {
      const { mean, variance } = batchStatisticsOf(norm);
      graph.output(mean, norm.mean.shape);
      graph.output(variance, norm.variance.shape);
    }
  }
  return { graph: graph.bytes(), weights: files, inputShape: [1, ...image], outputShape: [1, net.space.classes] };
}

/** Each weight (matrix or more) has a file to itself, which other subnets can share; all vectors go into one last file, which none can. */
function placeTensors(tensors: readonly NamedTensor[]): { places: ReadonlyMap<NamedTensor, ExternalPlace>; files: readonly Uint8Array[] } {
  const isWeight = (tensor: NamedTensor) => tensor.shape.length > 1;
  const weights = tensors.filter(isWeight);
  const vectors = tensors.filter((tensor) => !isWeight(tensor));
  const places = new Map<NamedTensor, ExternalPlace>();
  weights.forEach((tensor, i) => places.set(tensor, { location: `t/${i}`, offset: 0, length: tensor.data.byteLength }));
  const together = new Uint8Array(vectors.reduce((sum, tensor) => sum + tensor.data.byteLength, 0));
  let offset = 0;
  for (const tensor of vectors) {
    together.set(bytesOf(tensor.data), offset);
    places.set(tensor, { location: `t/${weights.length}`, offset, length: tensor.data.byteLength });
    offset += tensor.data.byteLength;
  }
  return { places, files: [...weights.map((tensor) => bytesOf(tensor.data)), together] };
}

/** The values as they lie in memory; every platform with an ONNX Runtime is little-endian. */
export function bytesOf(values: Float32Array): Uint8Array {
  return new Uint8Array(values.buffer, values.byteOffset, values.byteLength);
}

/** Adds the normalisation of `x` [batch, C, H, W] and gives the name of the result. */
type NormEmitter = (graph: GraphBuilder, name: string, x: string, norm: BatchNorm) => string;

const runningNorm: NormEmitter = (graph, name, x, { gamma, beta, mean, variance }) =>
  graph.node(name, 'BatchNormalization', [x, gamma.name, beta.name, mean.name, variance.name], { epsilon: { float: BATCH_NORM_EPSILON } });

/**
 * In training mode the operator uses the statistics of its batch, with the biased variance, and gives them blended with the old ones; at
 * momentum 0 nothing is left of the old ones, so gamma and beta stand in for them.
 */
const batchNorm: NormEmitter = (graph, name, x, norm) => {
  const { mean, variance } = batchStatisticsOf(norm);
  const inputs = [x, norm.gamma.name, norm.beta.name, norm.beta.name, norm.gamma.name];
  const attributes = { epsilon: { float: BATCH_NORM_EPSILON }, momentum: { float: 0 }, training_mode: 1 };
  return graph.node(name, 'BatchNormalization', inputs, attributes, [mean, variance]);
};

function emitNet(graph: GraphBuilder, net: ExtractedNet, input: string, emitNorm: NormEmitter): string {
  const conv = (name: string, x: string, { weight, bias, stride, padding, groups }: Conv): string => {
    const kernel = weight.shape.slice(2);
    return graph.node(name, 'Conv', bias === null ? [x, weight.name] : [x, weight.name, bias.name], {
      kernel_shape: kernel,
      strides: [stride, stride],
      pads: [padding, padding, padding, padding],
      group: groups,
    });
  };
  // HardSwish is defined since opset 14 as x * max(0, min(1, x / 6 + 1 / 2)).
  const activate = (name: string, x: string, activation: Activation): string =>
    graph.node(name, activation === 'relu' ? 'Relu' : 'HardSwish', [x]);
  const convNorm = (name: string, x: string, part: ConvNorm): string => {
    const normed = emitNorm(graph, `${name}.norm`, conv(`${name}.conv`, x, part.conv), part.norm);
    return part.activation === null ? normed : activate(`${name}.activation`, normed, part.activation);
  };
  const squeezeExcite = (name: string, x: string, { reduce, expand }: SqueezeExcite): string => {
    const mean = graph.node(`${name}.mean`, 'GlobalAveragePool', [x]);
    const hidden = activate(`${name}.hidden`, conv(`${name}.reduce`, mean, reduce), 'relu');
    const gate = graph.node(`${name}.gate`, 'HardSigmoid', [conv(`${name}.expand`, hidden, expand)], {
      alpha: { float: 1 / 6 },
      beta: { float: 0.5 },
    });
    return graph.node(name, 'Mul', [x, gate]);
  };
  const mbConv = (name: string, x: string, part: MbConv): string => {
    const wide = part.expand === null ? x : convNorm(`${name}.expand`, x, part.expand);
    const filtered = convNorm(`${name}.depthwise`, wide, part.depthwise);
    const gated = part.squeezeExcite === null ? filtered : squeezeExcite(`${name}.se`, filtered, part.squeezeExcite);
    const projected = convNorm(`${name}.project`, gated, part.project);
    return part.identity ? graph.node(`${name}.sum`, 'Add', [projected, x]) : projected;
  };
  /** 2x2 pixels at stride 2; a map of odd `side` gets one row and column more, which neither the maximum nor the mean counts. */
  const pool = (name: string, op: 'MaxPool' | 'AveragePool', x: string, side: number): string =>
    graph.node(name, op, [x], { kernel_shape: [2, 2], strides: [2, 2], pads: [0, 0, side % 2, side % 2] });
  const transformation = (name: string, x: string, part: Transformation, side: number): string => {
    const pooled = part.pool === 1 ? x : pool(`${name}.pool`, 'MaxPool', x, side);
    const mixed = part.conv === null ? pooled : conv(`${name}.conv`, pooled, part.conv);
    return activate(`${name}.activation`, emitNorm(graph, name, mixed, part.norm), part.activation);
  };
  const attention = (name: string, x: string, part: Attention, side: number): string => {
    const project = (label: 'query' | 'key' | 'value') => conv(`${name}.${label}.conv`, x, part[label]);
    const maps = { query: project('query'), key: project('key'), value: project('value') };
    const y = emitAttention(graph, name, maps, part, side);
    return part.pool === 1 ? y : pool(`${name}.pool`, 'AveragePool', y, side);
  };
  const block = (name: string, x: string, part: NetBlock, side: number): string => {
    const { pointwise, third } = part;
    const branches: string[] = [];
    if (part.mbConv !== null) branches.push(mbConv(name, x, part.mbConv));
    if (pointwise !== null) branches.push(convNorm(`${name}.pointwise`, x, pointwise));
    if (third?.kind === 'transformation') branches.push(transformation(`${name}.transformation`, x, third, side));
    if (third?.kind === 'attention') branches.push(attention(`${name}.attention`, x, third, side));
    return branches.reduce((sum, branch, i) => graph.node(`${name}.branches.${i}`, 'Add', [sum, branch]));
  };
  const stage = (name: string, x: string, blocks: readonly NetBlock[], sides: readonly number[]): string => {
    const y = [x];
    const skipSum = (t: number): string =>
      skipSources(net.space.denseSkips, t)
        .map((source) => y[source] as string)
        .reduce((sum, term, i) => graph.node(`${name}.skip${t}.${i}`, 'Add', [sum, term]));
    blocks.forEach((part, b) => y.push(block(`${name}.${b}`, skipSum(b), part, sides[Math.min(b, 1)] as number)));
    return skipSum(blocks.length);
  };
  const linear = (name: string, x: string, { weight, bias }: Linear): string =>
    graph.node(name, 'Gemm', bias === null ? [x, weight.name] : [x, weight.name, bias.name], { transB: 1 });
  const exit = (x: string, head: ExitHead): string => {
    const mean = graph.node('exit.mean', 'GlobalAveragePool', [convNorm('exit.conv', x, head.conv)]);
    const mixed = linear('exit.mix', graph.node('exit.flat', 'Flatten', [mean]), head.mix);
    return linear(OUTPUT, activate('exit.mix.activation', mixed, 'h_swish'), head.classifier);
  };

  const sides = mapSides(net.space, net.subnet.resolution);
  const first = mbConv('first', convNorm('stem', input, net.stem), net.first);
  return exit(
    net.stages.reduce((x, blocks, s) => stage(`stages.${s}`, x, blocks, sides.slice(s)), first),
    net.exit,
  );
}
