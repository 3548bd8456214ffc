// Cuts one subnet out of a supernet as plain values: channels sliced, kernels transformed and baked in, layouts turned to ONNX's.
// Plain arithmetic, so that whoever only exports needs no TensorFlow.js.
import type { Space } from '../space.ts';
import { hasBranch, type Block, type MbConvBlock, type Subnet } from '../subnet.ts';
import type { Checkpoint } from './checkpoint.ts';
import type {
  Activation,
  Attention,
  BatchNorm,
  Conv,
  ConvNorm,
  ExitHead,
  ExtractedNet,
  Linear,
  MbConv,
  NamedTensor,
  NetBlock,
  SqueezeExcite,
  Transformation,
} from './extracted-net.ts';
import { kernelMatrixName } from './parameters.ts';
import type { PlainTensor } from './safetensors.ts';
import { headWidths, midChannels, squeezeChannels } from './widths.ts';

type Stage = Space['stages'][number];

/** The batch norms keep the supernet's running averages (`statistics: 'mixture'`): calibrate before use. `subnet` must be one of the checkpoint's space. */
export function extractSubnet(checkpoint: Pick<Checkpoint, 'space' | 'tensors'>, subnet: Subnet): ExtractedNet {
  const { space, tensors } = checkpoint;
  const tensor = (name: string): PlainTensor => {
    const found = tensors.get(name);
    if (found === undefined) throw new Error(`The supernet has no tensor "${name}".`);
    return found;
  };
  const vector = (name: string, length: number): NamedTensor => ({ name, shape: [length], data: tensor(name).data.slice(0, length) });
  const norm = (name: string, channels: number): BatchNorm => ({
    gamma: vector(`${name}.norm.gamma`, channels),
    beta: vector(`${name}.norm.beta`, channels),
    mean: vector(`${name}.norm.mean`, channels),
    variance: vector(`${name}.norm.variance`, channels),
  });
  /** [k, k, in, out] cut to `inputs` and `outputs` channels -> [out, in, k, k] */
  const filter = (name: string, inputs: number, outputs: number): NamedTensor => {
    const { shape, data } = tensor(name);
    const [k = 0, , from = 0, to = 0] = shape;
    const taps = k * k;
    const cut = new Float32Array(outputs * inputs * taps);
    for (let o = 0; o < outputs; o++) {
      for (let i = 0; i < inputs; i++) {
        for (let t = 0; t < taps; t++) cut[(o * inputs + i) * taps + t] = data[(t * from + i) * to + o] as number;
      }
    }
    return { name, shape: [outputs, inputs, k, k], data: cut };
  };
  /** A 1x1 or stem convolution with its batch norm. */
  const convNorm = (name: string, inputs: number, outputs: number, stride: 1 | 2, activation: Activation | null): ConvNorm => {
    const weight = filter(`${name}.weight`, inputs, outputs);
    const conv: Conv = { weight, bias: null, stride, padding: Math.floor((weight.shape[2] as number) / 2), groups: 1 };
    return { conv, norm: norm(name, outputs), activation };
  };
  const depthwise = (
    name: string,
    kernels: readonly number[],
    kernel: number,
    channels: number,
    stride: 1 | 2,
    activation: Activation,
  ): ConvNorm => {
    const weight = {
      name: `${name}.weight`,
      shape: [channels, 1, kernel, kernel],
      data: bakedFilter(tensor, name, kernels, kernel, channels),
    };
    return {
      conv: { weight, bias: null, stride, padding: Math.floor(kernel / 2), groups: channels },
      norm: norm(name, channels),
      activation,
    };
  };
  const squeezeExcite = (name: string, mid: number): SqueezeExcite => {
    const hidden = squeezeChannels(mid);
    const conv = (part: string, inputs: number, outputs: number): Conv => ({
      weight: filter(`${name}.${part}.weight`, inputs, outputs),
      bias: vector(`${name}.${part}.bias`, outputs),
      stride: 1,
      padding: 0,
      groups: 1,
    });
    return { reduce: conv('reduce', mid, hidden), expand: conv('expand', hidden, mid) };
  };
  const mbConv = (name: string, inputs: number, { kernel, expand }: MbConvBlock, stage: Stage, stride: 1 | 2): MbConv => {
    const mid = midChannels(inputs, expand);
    return {
      expand: convNorm(`${name}.expand`, inputs, mid, 1, stage.activation),
      depthwise: depthwise(`${name}.depthwise`, space.kernels, kernel, mid, stride, stage.activation),
      squeezeExcite: stage.squeezeExcite ? squeezeExcite(`${name}.squeeze`, mid) : null,
      project: convNorm(`${name}.project`, mid, stage.channels, 1, null),
      identity: stride === 1 && inputs === stage.channels,
    };
  };
  const pointwiseConv = (name: string, inputs: number, outputs: number, bias: boolean): Conv => ({
    weight: filter(`${name}.weight`, inputs, outputs),
    bias: bias ? vector(`${name}.bias`, outputs) : null,
    stride: 1,
    padding: 0,
    groups: 1,
  });
  const transformation = (name: string, inputs: number, stage: Stage, stride: 1 | 2): Transformation => ({
    kind: 'transformation',
    pool: stride,
    conv: inputs === stage.channels ? null : pointwiseConv(name, inputs, stage.channels, true),
    norm: norm(name, stage.channels),
    activation: stage.activation,
  });
  const attention = (name: string, inputs: number, outputs: number, stride: 1 | 2): Attention => {
    const conv = (part: string) => pointwiseConv(`${name}.${part}`, inputs, outputs, false);
    const offsets = (part: string): NamedTensor => ({ name: `${name}.${part}`, ...tensor(`${name}.${part}`) });
    return {
      kind: 'attention',
      query: conv('query'),
      key: conv('key'),
      value: conv('value'),
      rows: offsets('rows'),
      columns: offsets('columns'),
      pool: stride,
    };
  };
  const block = (name: string, inputs: number, genes: Block, stage: Stage, stride: 1 | 2): NetBlock => {
    const third = () =>
      space.parallel?.third === 'attention'
        ? attention(`${name}.attention`, inputs, stage.channels, stride)
        : transformation(`${name}.transformation`, inputs, stage, stride);
    return {
      mbConv: genes.kernel === undefined ? null : mbConv(name, inputs, genes, stage, stride),
      pointwise: hasBranch(genes, 'pointwise') ? convNorm(`${name}.pointwise`, inputs, stage.channels, stride, stage.activation) : null,
      third: hasBranch(genes, 'third') ? third() : null,
    };
  };
  /** [in, out] -> [out, in] */
  const linear = (name: string, biasName: string | null): Linear => {
    const { shape, data } = tensor(name);
    const [inputs = 0, outputs = 0] = shape;
    const turned = Float32Array.from({ length: data.length }, (_, i) => data[(i % inputs) * outputs + Math.floor(i / inputs)] as number);
    return { weight: { name, shape: [outputs, inputs], data: turned }, bias: biasName === null ? null : vector(biasName, outputs) };
  };

  const { channels: stemChannels, stride: stemStride } = space.stem;
  let channels = stemChannels;
  const stages = subnet.stages.map((blocks, s) => {
    const stage = space.stages[s] as Stage;
    return blocks.map((genes, b): NetBlock => {
      const inputs = channels;
      channels = stage.channels;
      return block(`stages.${s}.${b}`, inputs, genes, stage, b === 0 ? stage.stride : 1);
    });
  });
  const exitName = `exits.${subnet.stages.length - 1}`;
  const exit: ExitHead = {
    conv: convNorm(`${exitName}.conv`, channels, headWidths(space, subnet.stages.length - 1)[0], 1, 'h_swish'),
    mix: linear(`${exitName}.mix.weight`, null),
    classifier: linear(`${exitName}.classifier.weight`, `${exitName}.classifier.bias`),
  };
  return {
    space,
    subnet,
    statistics: 'mixture',
    stem: convNorm('stem', space.inputChannels, stemChannels, stemStride, 'h_swish'),
    first: {
      expand: null,
      depthwise: depthwise('first.depthwise', [3], 3, stemChannels, 1, 'relu'),
      squeezeExcite: null,
      project: convNorm('first.project', stemChannels, stemChannels, 1, null),
      identity: true,
    },
    stages,
    exit,
  };
}

/** The transformed depthwise filter [channels, 1, kernel, kernel]; see `elasticFilter`, whose twin in plain numbers this is. */
function bakedFilter(
  tensor: (name: string) => PlainTensor,
  name: string,
  kernels: readonly number[],
  kernel: number,
  channels: number,
): Float32Array {
  const { shape, data } = tensor(`${name}.weight`);
  const [largest = 0, , stored = 0] = shape;
  const baked = new Float32Array(channels * kernel * kernel);
  for (let c = 0; c < channels; c++) {
    let filter = Float32Array.from({ length: largest * largest }, (_, t) => data[t * stored + c] as number);
    for (let i = kernels.length - 1; i > 0 && (kernels[i] as number) > kernel; i--) {
      const [to, from] = [kernels[i - 1] as number, kernels[i] as number];
      const start = (from - to) / 2;
      const centre = Float32Array.from(
        { length: to * to },
        (_, t) => filter[(start + Math.floor(t / to)) * from + start + (t % to)] as number,
      );
      const matrix = tensor(kernelMatrixName(name, from, to)).data;
      filter = Float32Array.from({ length: to * to }, (_, row) =>
        centre.reduce((sum, value, t) => sum + (matrix[row * to * to + t] as number) * value, 0),
      );
    }
    baked.set(filter, c * kernel * kernel);
  }
  return baked;
}
