// Nets with random weights, built from the space's own description and not from the supernet's code, so that each checks the other.
import { xoroshiro128plus } from 'pure-rand/generator/xoroshiro128plus';
import type { InputImages } from '../../../controller/materialise/images.ts';
import type { Space } from '../../../controller/space.ts';
import type { Subnet } from '../../../controller/subnet.ts';
import type {
  Activation,
  BatchNorm,
  Conv,
  ConvNorm,
  ExtractedNet,
  Linear,
  MbConv,
  NamedTensor,
  NetBlock,
  SqueezeExcite,
} from '../../../controller/supernet/extracted-net.ts';
import { smallSpace } from '../../helpers/spaces.ts';

export { smallSpace };

/** Round to a multiple of 8, at least 8 and not below 0.9 v (MobileNet's rule). */
function makeDivisible(v: number): number {
  const u = Math.max(8, Math.floor((v + 4) / 8) * 8);
  return u < 0.9 * v ? u + 8 : u;
}

/** Uniform numbers in [-1, 1), reproducible from the seed. */
export function uniformNumbers(seed: number): () => number {
  const generator = xoroshiro128plus(seed);
  return () => generator.next() / 2 ** 31;
}

export function randomNet(space: Space, subnet: Subnet, seed: number): ExtractedNet {
  const next = uniformNumbers(seed);
  const tensor = (name: string, shape: number[], make: () => number): NamedTensor => ({
    name,
    shape,
    data: Float32Array.from({ length: shape.reduce((a, b) => a * b, 1) }, make),
  });
  const weight = (name: string, shape: number[]) => {
    const fanIn = shape.slice(1).reduce((a, b) => a * b, 1);
    return tensor(name, shape, () => next() * Math.sqrt(6 / fanIn));
  };
  const conv = (name: string, out: number, into: number, k: number, stride: 1 | 2, groups: number, bias = false): Conv => ({
    weight: weight(`${name}.weight`, [out, into / groups, k, k]),
    bias: bias ? tensor(`${name}.bias`, [out], () => 0.1 * next()) : null,
    stride,
    padding: Math.floor(k / 2),
    groups,
  });
  const norm = (name: string, channels: number): BatchNorm => ({
    gamma: tensor(`${name}.gamma`, [channels], () => 1 + 0.3 * next()),
    beta: tensor(`${name}.beta`, [channels], () => 0.3 * next()),
    mean: tensor(`${name}.mean`, [channels], () => 0.3 * next()),
    variance: tensor(`${name}.variance`, [channels], () => 1 + 0.5 * next()),
  });
  const convNorm = (name: string, activation: Activation | null, ...args: [number, number, number, 1 | 2, number]): ConvNorm => ({
    conv: conv(name, ...args),
    norm: norm(`${name}.norm`, args[0]),
    activation,
  });
  const linear = (name: string, out: number, into: number, bias: boolean): Linear => ({
    weight: weight(`${name}.weight`, [out, into]),
    bias: bias ? tensor(`${name}.bias`, [out], () => 0.1 * next()) : null,
  });
  const squeezeExcite = (name: string, mid: number): SqueezeExcite => {
    const hidden = makeDivisible(Math.floor(mid / 4));
    return { reduce: conv(`${name}.reduce`, hidden, mid, 1, 1, 1, true), expand: conv(`${name}.expand`, mid, hidden, 1, 1, 1, true) };
  };

  const width = space.stem.channels;
  const first: MbConv = {
    expand: null,
    depthwise: convNorm('first.depthwise', 'relu', width, width, 3, 1, width),
    squeezeExcite: null,
    project: convNorm('first.project', null, width, width, 1, 1, 1),
    identity: true,
  };
  let into = width;
  const stages = subnet.stages.map((blocks, s) => {
    const stage = space.stages[s];
    if (stage === undefined) throw new Error(`the space has no stage ${s + 1}`);
    return blocks.map(({ kernel, expand, mask = 4 }, b): NetBlock => {
      const name = `stages.${s}.${b}`;
      const [from, out, stride] = [into, stage.channels, b === 0 ? stage.stride : 1] as const;
      into = out;
      const mid = makeDivisible(Math.round(from * (expand ?? 0)));
      const plain = (label: string, bias: boolean) => conv(`${name}.${label}`, out, from, 1, 1, 1, bias);
      // nothing normalises these maps, and the softmax over their products is a step function where they are large
      const gentle = (map: Conv): Conv => ({ ...map, weight: { ...map.weight, data: map.weight.data.map((entry) => 0.3 * entry) } });
      // a branch's bit: 4, 2, 1 in the order of the three
      return {
        mbConv:
          mask < 4
            ? null
            : {
                expand: convNorm(`${name}.expand`, stage.activation, mid, from, 1, 1, 1),
                depthwise: convNorm(`${name}.depthwise`, stage.activation, mid, mid, kernel ?? 0, stride, mid),
                squeezeExcite: stage.squeezeExcite ? squeezeExcite(`${name}.se`, mid) : null,
                project: convNorm(`${name}.project`, null, out, mid, 1, 1, 1),
                identity: stride === 1 && from === out,
              },
        pointwise: mask % 4 < 2 ? null : convNorm(`${name}.pointwise`, stage.activation, out, from, 1, stride, 1),
        third:
          mask % 2 === 0
            ? null
            : space.parallel?.third === 'attention'
              ? {
                  kind: 'attention',
                  query: gentle(plain('query', false)),
                  key: gentle(plain('key', false)),
                  value: plain('value', false),
                  rows: tensor(`${name}.rows`, [7, out / 2], next),
                  columns: tensor(`${name}.columns`, [7, out / 2], next),
                  pool: stride,
                }
              : {
                  kind: 'transformation',
                  pool: stride,
                  conv: from === out ? null : plain('transformation', true),
                  norm: norm(`${name}.transformation.norm`, out),
                  activation: stage.activation,
                },
      };
    });
  });
  const wide = into * (space.head.expand ?? 0);
  const mixed = into * (space.head.mix ?? 0);
  return {
    space,
    subnet,
    statistics: 'mixture',
    stem: convNorm('stem', 'h_swish', width, space.inputChannels, 3, space.stem.stride, 1),
    first,
    stages,
    exit: {
      conv: convNorm('exit.conv', 'h_swish', wide, into, 1, 1, 1),
      mix: linear('exit.mix', mixed, wide, false),
      classifier: linear('exit.classifier', space.classes, mixed, true),
    },
  };
}

/** Uniform noise as input images of `net`. */
export function randomImages(net: ExtractedNet, count: number, seed: number): InputImages {
  const shape = [net.space.inputChannels, net.subnet.resolution, net.subnet.resolution];
  const length = shape.reduce((product, size) => product * size, count);
  return { shape, count, data: Float32Array.from({ length }, uniformNumbers(seed)) };
}
