// Runs an extracted net in TensorFlow.js, on any backend: the independent answer that an exported file must agree with.
import * as tf from '@tensorflow/tfjs';
import {
  skipSources,
  type Conv,
  type ConvNorm,
  type ExitHead,
  type ExtractedNet,
  type Linear,
  type Attention,
  type MbConv,
  type NetBlock,
  type NamedTensor,
} from '../../../controller/supernet/extracted-net.ts';
import { conv, depthwiseConv, globalMean, hSigmoid, hSwish, normalise, relu } from '../../../controller/supernet/layers.ts';

/** Logits [count, classes], row-major, for input [count, inputChannels, r, r] (NCHW, normalised), with the net's own statistics. */
export function forwardExtracted(net: ExtractedNet, input: Float32Array, count: number): Float32Array {
  const { space, subnet } = net;
  const logits = tf.tidy(() => {
    const x = tf.tensor4d(input, [count, space.inputChannels, subnet.resolution, subnet.resolution]);
    let y = mbConv(net.first, convNorm(net.stem, tf.transpose(x, [0, 2, 3, 1])));
    for (const blocks of net.stages) {
      const outputs = [y];
      const gather = (t: number) => tf.addN(skipSources(space.denseSkips, t).map((i) => outputs[i] as tf.Tensor4D));
      blocks.forEach((block, b) => outputs.push(sumOfBranches(block, gather(b))));
      y = gather(blocks.length);
    }
    return exit(net.exit, y);
  });
  const values = logits.dataSync<'float32'>();
  logits.dispose();
  return Float32Array.from(values);
}

function vector(tensor: NamedTensor): tf.Tensor1D {
  return tf.tensor1d(tensor.data);
}

function convolve({ weight, bias, stride, groups }: Conv, x: tf.Tensor4D): tf.Tensor4D {
  const stored = tf.tensor4d(weight.data, weight.shape as [number, number, number, number]);
  const y =
    groups === 1 ? conv(x, tf.transpose(stored, [2, 3, 1, 0]), stride) : depthwiseConv(x, tf.transpose(stored, [2, 3, 0, 1]), stride);
  return bias === null ? y : tf.add(y, vector(bias));
}

function convNorm({ conv: part, norm, activation }: ConvNorm, x: tf.Tensor4D): tf.Tensor4D {
  const y = normalise(convolve(part, x), vector(norm.gamma), vector(norm.beta), vector(norm.mean), vector(norm.variance));
  if (activation === null) return y;
  return activation === 'relu' ? relu(y) : hSwish(y);
}

function mbConv({ expand, depthwise, squeezeExcite, project, identity }: MbConv, x: tf.Tensor4D): tf.Tensor4D {
  let y = expand === null ? x : convNorm(expand, x);
  y = convNorm(depthwise, y);
  if (squeezeExcite !== null) {
    const mean: tf.Tensor4D = tf.mean(y, [1, 2], true);
    y = tf.mul(y, hSigmoid(convolve(squeezeExcite.expand, tf.relu(convolve(squeezeExcite.reduce, mean)))));
  }
  y = convNorm(project, y);
  return identity ? tf.add(y, x) : y;
}

function sumOfBranches({ mbConv: elastic, pointwise, third }: NetBlock, x: tf.Tensor4D): tf.Tensor4D {
  const branches: tf.Tensor4D[] = [];
  if (elastic !== null) branches.push(mbConv(elastic, x));
  if (pointwise !== null) branches.push(convNorm(pointwise, x));
  if (third?.kind === 'transformation') {
    let y = third.pool === 1 ? x : tf.maxPool(x, 2, 2, 'same');
    if (third.conv !== null) y = convolve(third.conv, y);
    const { gamma, beta, mean, variance } = third.norm;
    y = normalise(y, vector(gamma), vector(beta), vector(mean), vector(variance));
    branches.push(third.activation === 'relu' ? relu(y) : hSwish(y));
  }
  if (third?.kind === 'attention') branches.push(attend(third, x));
  return tf.addN(branches);
}

/** One neighbour at a time, unlike the trained form: the softmax's sums are run up side by side. */
function attend({ query, key, value, rows, columns, pool }: Attention, x: tf.Tensor4D): tf.Tensor4D {
  const [q, k, v] = [convolve(query, x), convolve(key, x), convolve(value, x)];
  const border: [number, number][] = [[0, 0], [3, 3], [3, 3], [0, 0]]; // prettier-ignore
  const [keys, values] = [tf.pad(k, border), tf.pad(v, border)];
  const half = rows.shape[1] as number;
  let [weighted, total] = [tf.zerosLike(q), tf.zerosLike(q)];
  for (let row = 0; row < 7; row++) {
    for (let column = 0; column < 7; column++) {
      const offset = [...rows.data.slice(row * half, (row + 1) * half), ...columns.data.slice(column * half, (column + 1) * half)];
      const near = (map: tf.Tensor4D) => tf.slice(map, [0, row, column, 0], q.shape);
      const share = tf.exp(tf.mul(q, tf.add(near(keys), tf.tensor1d(offset))));
      weighted = tf.add(weighted, tf.mul(share, near(values)));
      total = tf.add(total, share);
    }
  }
  const y: tf.Tensor4D = tf.div(weighted, total);
  return pool === 1 ? y : tf.avgPool(y, 2, 2, 'same');
}

function exit({ conv: wide, mix, classifier }: ExitHead, x: tf.Tensor4D): tf.Tensor2D {
  return linear(classifier, hSwish(linear(mix, globalMean(convNorm(wide, x)))));
}

function linear({ weight, bias }: Linear, x: tf.Tensor2D): tf.Tensor2D {
  const y: tf.Tensor2D = tf.matMul(x, tf.tensor2d(weight.data, weight.shape as [number, number]), false, true);
  return bias === null ? y : tf.add(y, vector(bias));
}
