// Every tensor of a supernet: name, shape, kind and first value, derived from the space alone. Training, checkpoints and extraction
// all go by these names.
import { BRANCH, type Space } from '../space.ts';
import { ATTENTION_SIDE } from './extracted-net.ts';
import { headWidths, midChannels, squeezeChannels } from './widths.ts';

/**
 * `mean` and `variance` are running statistics, the rest is trained; weight decay applies to `conv` and `linear` only. `offset`: what
 * attention adds to its keys by place.
 */
export type ParameterKind = 'conv' | 'linear' | 'bias' | 'gamma' | 'beta' | 'kernel-matrix' | 'offset' | 'mean' | 'variance';

export interface Parameter {
  readonly name: string;
  readonly kind: ParameterKind;
  /** TensorFlow layouts: conv [k, k, in, out], depthwise [k, k, C, 1], linear [in, out]. Kernel matrices [to·to, to·to]. */
  readonly shape: readonly number[];
}

export function isTrained(parameter: Parameter): boolean {
  return parameter.kind !== 'mean' && parameter.kind !== 'variance';
}

/** Name of the matrix that turns the centre of a `from` x `from` kernel into a `to` x `to` kernel. */
export function kernelMatrixName(depthwise: string, from: number, to: number): string {
  return `${depthwise}.${from}to${to}`;
}

/** All parameters of the supernet of `space`, in order of execution. */
export function parametersOf(space: Space): Parameter[] {
  const parameters: Parameter[] = [];
  const add = (kind: ParameterKind, name: string, shape: readonly number[]) => parameters.push({ name, kind, shape });
  const norm = (name: string, channels: number) => {
    add('gamma', `${name}.norm.gamma`, [channels]);
    add('beta', `${name}.norm.beta`, [channels]);
    add('mean', `${name}.norm.mean`, [channels]);
    add('variance', `${name}.norm.variance`, [channels]);
  };
  const convNorm = (name: string, k: number, from: number, to: number) => {
    add('conv', `${name}.weight`, [k, k, from, to]);
    norm(name, to);
  };
  const depthwise = (name: string, kernels: readonly number[], channels: number) => {
    const largest = Math.max(...kernels);
    add('conv', `${name}.weight`, [largest, largest, channels, 1]);
    for (let i = kernels.length - 1; i > 0; i--) {
      const [to, from] = [kernels[i - 1] as number, kernels[i] as number];
      add('kernel-matrix', kernelMatrixName(name, from, to), [to * to, to * to]);
    }
    norm(name, channels);
  };

  /** Branches that are never sliced; those that no mask of the space has are not there. */
  const parallelBranches = (name: string, from: number, to: number, { masks, third }: NonNullable<Space['parallel']>) => {
    const used = (branch: keyof typeof BRANCH) => masks.some((mask) => (mask & BRANCH[branch]) !== 0);
    if (used('pointwise')) convNorm(`${name}.pointwise`, 1, from, to);
    if (!used('third')) return;
    if (third === 'transformation') {
      if (from !== to) {
        add('conv', `${name}.transformation.weight`, [1, 1, from, to]);
        add('bias', `${name}.transformation.bias`, [to]);
      }
      norm(`${name}.transformation`, to);
    } else {
      for (const part of ['query', 'key', 'value']) add('conv', `${name}.attention.${part}.weight`, [1, 1, from, to]);
      for (const part of ['rows', 'columns']) add('offset', `${name}.attention.${part}`, [ATTENTION_SIDE, to / 2]);
    }
  };

  const { stem, stages } = space;
  convNorm('stem', 3, space.inputChannels, stem.channels);
  depthwise('first.depthwise', [3], stem.channels);
  convNorm('first.project', 1, stem.channels, stem.channels);
  const deepest = Math.max(...space.depths);
  let channels = stem.channels;
  stages.forEach((stage, s) => {
    for (let b = 0; b < deepest; b++) {
      const name = `stages.${s}.${b}`;
      const mid = midChannels(channels, Math.max(...space.expands));
      convNorm(`${name}.expand`, 1, channels, mid);
      depthwise(`${name}.depthwise`, space.kernels, mid);
      if (stage.squeezeExcite) {
        const hidden = squeezeChannels(mid);
        add('conv', `${name}.squeeze.reduce.weight`, [1, 1, mid, hidden]);
        add('bias', `${name}.squeeze.reduce.bias`, [hidden]);
        add('conv', `${name}.squeeze.expand.weight`, [1, 1, hidden, mid]);
        add('bias', `${name}.squeeze.expand.bias`, [mid]);
      }
      convNorm(`${name}.project`, 1, mid, stage.channels);
      if (space.parallel !== undefined) parallelBranches(name, channels, stage.channels, space.parallel);
      channels = stage.channels;
    }
    if (space.exits === 'early' || s === stages.length - 1) {
      const name = `exits.${s}`;
      const [wide, mixed] = headWidths(space, s);
      convNorm(`${name}.conv`, 1, channels, wide);
      add('linear', `${name}.mix.weight`, [wide, mixed]);
      add('linear', `${name}.classifier.weight`, [mixed, space.classes]);
      add('bias', `${name}.classifier.bias`, [space.classes]);
    }
  });
  return parameters;
}

/**
 * First value of a parameter: convolutions N(0, sqrt(2 / (k·k·out))), linears U(±1 / sqrt(in)), biases 0, batch norms the identity,
 * kernel matrices the identity and offsets N(0, 1). `uniform` gives numbers in [0, 1).
 */
export function initialValue(parameter: Parameter, uniform: () => number): Float32Array {
  const size = parameter.shape.reduce((product, side) => product * side, 1);
  const [rows = 1, columns = 1, inputs = 1, outputs = 1] = parameter.shape;
  switch (parameter.kind) {
    case 'conv': {
      const channels = outputs === 1 ? inputs : outputs;
      const deviation = Math.sqrt(2 / (rows * columns * channels));
      return Float32Array.from({ length: size }, () => deviation * standardNormal(uniform));
    }
    case 'offset':
      return Float32Array.from({ length: size }, () => standardNormal(uniform));
    case 'linear':
      return Float32Array.from({ length: size }, () => (2 * uniform() - 1) / Math.sqrt(rows));
    case 'kernel-matrix':
      return Float32Array.from({ length: size }, (_, i) => (i % (rows + 1) === 0 ? 1 : 0));
    case 'gamma':
    case 'variance':
      return new Float32Array(size).fill(1);
    case 'bias':
    case 'beta':
    case 'mean':
      return new Float32Array(size);
  }
}

/** One draw of N(0, 1) from two of `uniform` (Box and Muller). */
function standardNormal(uniform: () => number): number {
  return Math.sqrt(-2 * Math.log(1 - uniform())) * Math.cos(2 * Math.PI * uniform());
}
