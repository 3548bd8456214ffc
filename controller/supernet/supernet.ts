// The supernet's one forward pass, for training, teaching and evaluation: elastic stages with dense skips, parallel blocks and early exits
// (Once-For-All, arXiv 1908.09791; OFAv2, arXiv 2302.01888). The subnet is an argument; there is no 'active subnet' and no state.
import * as tf from '@tensorflow/tfjs';
import type { Space } from '../space.ts';
import { hasBranch, type Block, type MbConvBlock, type Subnet } from '../subnet.ts';
import { attention } from './attention.ts';
import { elasticFilter, prefix, prefixes, weight, type Weights } from './elastic.ts';
import { skipSources, type Activation } from './extracted-net.ts';
import {
  addBias,
  conv,
  depthwiseConv,
  globalMean,
  hSigmoid,
  hSwish,
  matMul,
  normalise,
  normaliseByBatch,
  relu,
  type BatchStatistics,
} from './layers.ts';
import { maxOfSquares } from './pools.ts';
import { midChannels, squeezeChannels } from './widths.ts';

type Stage = Space['stages'][number];

/** How batch norms normalise, and whether units drop out. */
export type Mode =
  /** Running statistics of the supernet, or calibrated ones by norm name where given. */
  | { readonly kind: 'running'; readonly statistics?: ReadonlyMap<string, { readonly mean: tf.Tensor1D; readonly variance: tf.Tensor1D }> }
  /** Statistics of the batch; used by the teacher and to calibrate. */
  | { readonly kind: 'batch' }
  /** Statistics of the batch, and dropout before the classifier: `dropout` gives the factors for a shape. */
  | { readonly kind: 'train'; readonly dropout: (shape: [number, number]) => tf.Tensor2D | null };

export interface Pass {
  /** Logits [batch, classes] of the asked exits, first stage first. */
  readonly logits: readonly tf.Tensor2D[];
  /** Batch statistics by norm name (`stages.0.1.expand.norm`), prefixes of the active channels; empty in mode `running`. Kept tensors. */
  readonly statistics: ReadonlyMap<string, BatchStatistics>;
}

/** x [batch, side, side, inputChannels], already normalised. `exits`: only the subnet's own, or every one on the way (teacher, full phase). */
export function forward(weights: Weights, space: Space, subnet: Subnet, x: tf.Tensor4D, mode: Mode, exits: 'own' | 'all' = 'own'): Pass {
  const statistics = new Map<string, BatchStatistics>();

  /** Batch norm over the first channels of `name` (as many as x has), then the activation. */
  const normActivate = (name: string, input: tf.Tensor4D, activation: Activation | null): tf.Tensor4D => {
    const channels = input.shape[3];
    const vector = (part: string) => prefix(weight<tf.Rank.R1>(weights, `${name}.norm.${part}`), 0, channels);
    let y: tf.Tensor4D;
    if (mode.kind === 'running') {
      const given = mode.statistics?.get(`${name}.norm`);
      y = normalise(input, vector('gamma'), vector('beta'), given?.mean ?? vector('mean'), given?.variance ?? vector('variance'));
    } else {
      const [value, batch] = normaliseByBatch(input, vector('gamma'), vector('beta'));
      statistics.set(`${name}.norm`, batch);
      y = value;
    }
    if (activation === null) return y;
    return activation === 'relu' ? relu(y) : hSwish(y);
  };

  /** Mean over the map -> reduce -> relu -> expand -> h_sigmoid -> scale; both 1x1 convolutions cut to the active channels. */
  const squeezeExcite = (name: string, input: tf.Tensor4D): tf.Tensor4D => {
    const [batch, , , mid] = input.shape;
    const hidden = squeezeChannels(mid);
    const dense = (part: string, x: tf.Tensor2D, from: number, to: number): tf.Tensor2D => {
      const matrix = tf.reshape<tf.Rank.R2>(prefixes(weight<tf.Rank.R4>(weights, `${name}.${part}.weight`), [1, 1, from, to]), [from, to]);
      return addBias(matMul(x, matrix), prefix(weight<tf.Rank.R1>(weights, `${name}.${part}.bias`), 0, to));
    };
    const reduced = relu(dense('reduce', globalMean(input), mid, hidden)); // [batch, hidden]
    const factors = hSigmoid(dense('expand', reduced, hidden, mid)); // [batch, mid]
    return tf.mul(input, tf.reshape(factors, [batch, 1, 1, mid]));
  };

  /** One elastic MBConv: [batch, H, W, in] -> [batch, ceil(H / stride), ceil(W / stride), out]. */
  const mbConv = (name: string, input: tf.Tensor4D, block: MbConvBlock, stage: Stage, stride: 1 | 2): tf.Tensor4D => {
    const mid = midChannels(input.shape[3], block.expand);
    const expanded = conv(input, prefix(weight<tf.Rank.R4>(weights, `${name}.expand.weight`), 3, mid), 1);
    let y = normActivate(`${name}.expand`, expanded, stage.activation);
    y = depthwiseConv(y, elasticFilter(weights, `${name}.depthwise`, space.kernels, block.kernel, mid), stride);
    y = normActivate(`${name}.depthwise`, y, stage.activation);
    if (stage.squeezeExcite) y = squeezeExcite(`${name}.squeeze`, y);
    y = conv(y, prefix(weight<tf.Rank.R4>(weights, `${name}.project.weight`), 2, mid), 1);
    y = normActivate(`${name}.project`, y, null);
    return stride === 1 && input.shape[3] === stage.channels ? sum([y, input]) : y;
  };

  /** Pool where the stride is 2 -> 1x1 convolution where channels change -> batch norm -> activation. */
  const transformation = (name: string, input: tf.Tensor4D, stage: Stage, stride: 1 | 2): tf.Tensor4D => {
    let y = stride === 1 ? input : maxOfSquares(input);
    if (input.shape[3] !== stage.channels) {
      y = tf.add(conv(y, weight<tf.Rank.R4>(weights, `${name}.weight`), 1), weight(weights, `${name}.bias`));
    }
    return normActivate(name, y, stage.activation);
  };

  /** One block: the sum of its active branches, all of the same input. */
  const blockOutput = (name: string, input: tf.Tensor4D, block: Block, stage: Stage, stride: 1 | 2): tf.Tensor4D => {
    const branches: tf.Tensor4D[] = [];
    if (block.kernel !== undefined) branches.push(mbConv(name, input, block, stage, stride));
    if (hasBranch(block, 'pointwise')) {
      const projected = conv(input, weight<tf.Rank.R4>(weights, `${name}.pointwise.weight`), stride);
      branches.push(normActivate(`${name}.pointwise`, projected, stage.activation));
    }
    if (hasBranch(block, 'third')) {
      branches.push(
        space.parallel?.third === 'attention'
          ? attention(weights, `${name}.attention`, input, stride)
          : transformation(`${name}.transformation`, input, stage, stride),
      );
    }
    return sum(branches);
  };

  const exit = (s: number, input: tf.Tensor4D): tf.Tensor2D => {
    const name = `exits.${s}`;
    const wide = normActivate(`${name}.conv`, conv(input, weight(weights, `${name}.conv.weight`), 1), 'h_swish');
    let features = hSwish(matMul(globalMean(wide), weight<tf.Rank.R2>(weights, `${name}.mix.weight`))); // [batch, mix·c]
    const factors = mode.kind === 'train' ? mode.dropout(features.shape) : null;
    if (factors !== null) features = tf.mul(features, factors);
    return addBias(
      matMul(features, weight<tf.Rank.R2>(weights, `${name}.classifier.weight`)),
      weight<tf.Rank.R1>(weights, `${name}.classifier.bias`),
    );
  };

  let y = normActivate('stem', conv(x, weight(weights, 'stem.weight'), space.stem.stride), 'h_swish');
  const inner = normActivate('first.depthwise', depthwiseConv(y, weight(weights, 'first.depthwise.weight'), 1), 'relu');
  y = sum([y, normActivate('first.project', conv(inner, weight(weights, 'first.project.weight'), 1), null)]);

  const logits: tf.Tensor2D[] = [];
  subnet.stages.forEach((blocks, s) => {
    const stage = space.stages[s] as Stage;
    const outputs = [y]; // y[0] = the stage's input, y[i] = output of block i
    const gather = (t: number) => sum(skipSources(space.denseSkips, t).map((i) => outputs[i] as tf.Tensor4D));
    blocks.forEach((block, b) => outputs.push(blockOutput(`stages.${s}.${b}`, gather(b), block, stage, b === 0 ? stage.stride : 1)));
    y = gather(blocks.length);
    const last = s === subnet.stages.length - 1;
    if (last || (exits === 'all' && space.exits === 'early')) logits.push(exit(s, y));
  });
  return { logits, statistics };
}

function sum(tensors: tf.Tensor4D[]): tf.Tensor4D {
  return tensors.length === 1 ? (tensors[0] as tf.Tensor4D) : tf.addN(tensors);
}
