// Every operator that a training step uses, on every backend that is here: its gradients against finite differences and against
// TensorFlow.js's plain JavaScript backend.
import * as tf from '@tensorflow/tfjs';
import { beforeAll, describe, expect, it } from 'vitest';
import { selectBackend } from '../../../controller/supernet/backend.ts';
import { elasticFilter, prefix } from '../../../controller/supernet/elastic.ts';
import {
  addBias,
  conv,
  depthwiseConv,
  globalMean,
  hSigmoid,
  hSwish,
  matMul,
  normaliseByBatch,
  relu,
} from '../../../controller/supernet/layers.ts';
import { randomStream } from '../../../controller/supernet/training/random.ts';
import { WHY_NO_ADDON } from './native-addon.ts';

type Shape = readonly number[];
type Tensors = Readonly<Record<string, tf.Tensor>>;
type Plain = Readonly<Record<string, Float32Array>>;

interface Operator {
  readonly name: string;
  readonly inputs: Readonly<Record<string, Shape>>;
  /** Values of an input, where the default (uniform in ±1) would lie on a kink. */
  readonly value?: (uniform: number, index: number) => number;
  readonly apply: (inputs: Tensors) => tf.Tensor;
}

const four = (tensor: tf.Tensor | undefined) => tensor as tf.Tensor4D;
const two = (tensor: tf.Tensor | undefined) => tensor as tf.Tensor2D;
const one = (tensor: tf.Tensor | undefined) => tensor as tf.Tensor1D;

const convolutions: Operator[] = [1, 3, 5, 7].flatMap((k) =>
  [1, 2].flatMap((stride) =>
    (
      [
        [8, 12],
        [3, 10],
      ] as const
    ).map(([from, to]) => ({
      name: `convolution ${k}x${k}, stride ${stride}, ${from} to ${to} channels`,
      inputs: { x: [2, 9, 8, from], filter: [k, k, from, to] },
      apply: ({ x, filter }: Tensors) => conv(four(x), four(filter), stride),
    })),
  ),
);

const depthwiseConvolutions: Operator[] = [3, 5, 7].flatMap((k) =>
  [1, 2].flatMap((stride) =>
    (
      [
        [9, 8, 8],
        [2, 2, 20],
        [7, 12, 6],
        [1, 1, 8],
        [18, 17, 4],
      ] as const
    ).map(([height, width, channels]) => ({
      name: `depthwise convolution ${k}x${k}, stride ${stride}, on ${height}x${width}x${channels}`,
      inputs: { x: [2, height, width, channels], filter: [k, k, channels, 1] },
      apply: ({ x, filter }: Tensors) => depthwiseConv(four(x), four(filter), stride),
    })),
  ),
);

/** As no net of ours has it: at stride 2 the last row and column of an even side are never reached, and get no gradient. */
const unreached: Operator = {
  name: 'depthwise convolution 3x3, stride 2, without zeros around',
  inputs: { x: [2, 8, 6, 8], filter: [3, 3, 8, 1] },
  apply: ({ x, filter }) => tf.depthwiseConv2d(four(x), four(filter), 2, 'valid'),
};

/** Quarters off the halves: at least 0.25 away from every whole and half number. */
const offKinks = (uniform: number) => Math.round(8 * uniform) / 2 + 0.25;

const OPERATORS: readonly Operator[] = [
  ...convolutions,
  ...depthwiseConvolutions,
  unreached,
  ...(
    [
      [5, 4, 8],
      [5, 4, 20],
      [5, 4, 6],
      [20, 15, 4],
    ] as const
  ).map(([height, width, channels]) => ({
    name: `batch norm by batch statistics on ${height}x${width}x${channels}`,
    inputs: { x: [3, height, width, channels], gamma: [channels], beta: [channels] },
    apply: ({ x, gamma, beta }: Tensors) => {
      const [y, { mean, variance }] = normaliseByBatch(four(x), one(gamma), one(beta));
      tf.dispose([mean, variance]);
      return y;
    },
  })),
  { name: 'relu', inputs: { x: [2, 3, 5, 8] }, value: offKinks, apply: ({ x }) => relu(four(x)) },
  { name: 'h_swish on maps', inputs: { x: [2, 3, 5, 8] }, value: offKinks, apply: ({ x }) => hSwish(four(x)) },
  { name: 'h_swish on an odd number of features', inputs: { x: [3, 7] }, value: offKinks, apply: ({ x }) => hSwish(two(x)) },
  { name: 'h_sigmoid', inputs: { x: [2, 1, 1, 8] }, value: offKinks, apply: ({ x }) => hSigmoid(four(x)) },
  {
    name: 'squeeze-and-excitation',
    inputs: { x: [3, 4, 5, 16], reduce: [16, 8], reduceBias: [8], expand: [8, 16], expandBias: [16] },
    apply: ({ x, reduce, reduceBias, expand, expandBias }) => {
      const hidden = addBias(matMul(globalMean(four(x)), two(reduce)), one(reduceBias));
      const factors = hSigmoid(addBias(matMul(hidden, two(expand)), one(expandBias)));
      return tf.mul(four(x), tf.reshape(factors, [3, 1, 1, 16]));
    },
  },
  {
    name: 'convolution 1x1 of more pixels than are multiplied at once',
    inputs: { x: [1, 24, 24, 64], filter: [1, 1, 64, 8] },
    apply: ({ x, filter }) => conv(four(x), four(filter), 1),
  },
  {
    name: 'convolution 1x1 of one pixel',
    inputs: { x: [5, 1, 1, 8], filter: [1, 1, 8, 12] },
    apply: ({ x, filter }) => conv(four(x), four(filter), 1),
  },
  { name: 'product of matrices', inputs: { a: [7, 12], b: [12, 10] }, apply: ({ a, b }) => matMul(two(a), two(b)) },
  { name: 'bias', inputs: { x: [5, 10], bias: [10] }, apply: ({ x, bias }) => addBias(two(x), one(bias)) },
  { name: 'mean over the map', inputs: { x: [3, 4, 5, 8] }, apply: ({ x }) => globalMean(four(x)) },
  {
    name: 'linear layer',
    inputs: { x: [5, 12], weight: [12, 10], bias: [10] },
    apply: ({ x, weight, bias }) => tf.add(tf.matMul(two(x), two(weight)), one(bias)),
  },
  {
    name: 'kernel transform from 7x7 to 3x3',
    inputs: { 'd.weight': [7, 7, 6, 1], 'd.7to5': [25, 25], 'd.5to3': [9, 9] },
    apply: (inputs) => elasticFilter(new Map(Object.entries(inputs)), 'd', [3, 5, 7], 3, 4),
  },
  { name: 'channel prefix', inputs: { x: [1, 1, 6, 8] }, apply: ({ x }) => prefix(prefix(four(x), 3, 4), 2, 3) },
  {
    name: 'max pooling 2x2, stride 2, of odd sides',
    inputs: { x: [2, 5, 7, 8] },
    value: (_, index) => ((index * 367) % 560) / 100, // 560 different values
    apply: ({ x }) => tf.maxPool(four(x), 2, 2, 'same'),
  },
  {
    name: 'cross entropy of a softmax',
    inputs: { logits: [4, 10], targets: [4, 10] },
    apply: ({ logits, targets }) => tf.sum(tf.mul(tf.softmax(two(targets)), tf.logSoftmax(two(logits))), 1),
  },
];

function valuesOf({ name, inputs, value }: Operator): Plain {
  return Object.fromEntries(
    Object.entries(inputs).map(([key, shape]) => {
      const random = randomStream(1, name, key);
      const size = shape.reduce((product, side) => product * side, 1);
      const uniforms = Float32Array.from({ length: size }, () => 2 * random.uniform() - 1);
      return [key, value === undefined ? uniforms : uniforms.map((uniform, i) => value(uniform, i))];
    }),
  );
}

/** Random numbers in ±1, always the same for that name. */
function directionOf(length: number, ...name: readonly string[]): Float32Array {
  const random = randomStream(2, ...name);
  return Float32Array.from({ length }, () => 2 * random.uniform() - 1);
}

function tensorsOf(operator: Operator, values: Plain): Record<string, tf.Tensor> {
  return Object.fromEntries(
    Object.entries(operator.inputs).map(([key, shape]) => [key, tf.tensor(values[key] as Float32Array, [...shape])]),
  );
}

function evaluate(operator: Operator, values: Plain): Float32Array {
  return tf.tidy(() => operator.apply(tensorsOf(operator, values)).dataSync<'float32'>().slice());
}

/** Gradients of the sum of all results, each weighed by a fixed random number. */
function gradientsOf(operator: Operator, values: Plain): Plain {
  return tf.tidy(() => {
    const keys = Object.keys(operator.inputs);
    const inputs = tensorsOf(operator, values);
    const gradients = tf.grads((...tensors: tf.Tensor[]) => {
      const y = operator.apply(Object.fromEntries(keys.map((key, i) => [key, tensors[i] as tf.Tensor])));
      return tf.sum(tf.mul(y, tf.tensor(directionOf(y.size, operator.name, 'result'), y.shape)));
    })(keys.map((key) => inputs[key] as tf.Tensor));
    return Object.fromEntries(gradients.map((gradient, i) => [keys[i] as string, gradient.dataSync<'float32'>().slice()]));
  });
}

function dot(a: Float32Array, b: Float32Array): number {
  return a.reduce((total, value, i) => total + value * (b[i] as number), 0);
}

/** Largest difference, relative to the largest value. */
function difference(values: Float32Array, expected: Float32Array): number {
  const scale = expected.reduce((largest, value) => Math.max(largest, Math.abs(value)), 1e-3);
  return expected.reduce((worst, value, i) => Math.max(worst, Math.abs(value - (values[i] as number))), 0) / scale;
}

const STEP = 2 ** -7;
const plain = new Map<string, { readonly result: Float32Array; readonly gradients: Plain }>();

beforeAll(async () => {
  await selectBackend({ purpose: 'training', only: 'cpu' });
  for (const operator of OPERATORS) {
    const values = valuesOf(operator);
    plain.set(operator.name, { result: evaluate(operator, values), gradients: gradientsOf(operator, values) });
  }
});

describe.each(['cpu', 'wasm', 'tensorflow'] as const)('on the backend "%s"', (only) => {
  const missing = only === 'tensorflow' && WHY_NO_ADDON !== null;
  beforeAll(async () => {
    if (!missing) await selectBackend({ purpose: 'training', threads: 1, only });
  });

  it.skipIf(missing).each(OPERATORS)('$name has the gradients of finite differences and of plain JavaScript', (operator) => {
    const values = valuesOf(operator);
    const expected = plain.get(operator.name);
    if (expected === undefined) throw new Error('no reference');
    expect(difference(evaluate(operator, values), expected.result)).toBeLessThan(1e-4);
    const gradients = gradientsOf(operator, values);
    for (const [key, value] of Object.entries(values)) {
      const gradient = gradients[key] as Float32Array;
      expect(difference(gradient, expected.gradients[key] as Float32Array), key).toBeLessThan(1e-4);
      const direction = directionOf(value.length, operator.name, key);
      const at = (step: number) => evaluate(operator, { ...values, [key]: value.map((v, i) => v + step * (direction[i] as number)) });
      const [above, below] = [at(STEP), at(-STEP)];
      const weights = directionOf(above.length, operator.name, 'result');
      const byDifference = (dot(above, weights) - dot(below, weights)) / (2 * STEP);
      const byGradient = dot(gradient, direction);
      expect(Math.abs(byGradient - byDifference), key).toBeLessThan(3e-3 * Math.max(1, Math.abs(byDifference)));
    }
  });
});
