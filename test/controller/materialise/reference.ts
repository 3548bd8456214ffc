// A plain forward pass in double precision, written from the definitions in extracted-net.ts: loops and nothing else, so that it can be
// the judge of graphs and of TensorFlow.js. Values are [batch][channel][pixel].
import {
  BATCH_NORM_EPSILON,
  normsOf,
  skipSources,
  type BatchNorm,
  type Conv,
  type ConvNorm,
  type ExtractedNet,
  type Attention,
  type Linear,
  type MbConv,
  type NetBlock,
} from '../../../controller/supernet/extracted-net.ts';

interface Maps {
  readonly side: number;
  readonly values: Float64Array[][];
}

export interface ReferencePass {
  readonly logits: number[][];
  /** Mean and biased variance that each batch norm used, in the order of `normsOf`. */
  readonly statistics: { mean: Float64Array; variance: Float64Array }[];
}

const relu6 = (x: number) => Math.min(Math.max(x, 0), 6);
const hSigmoid = (x: number) => relu6(x + 3) / 6;
const activations = { relu: (x: number) => Math.max(x, 0), h_swish: (x: number) => x * hSigmoid(x) };

/** `images`: [batch, channels, side, side], row-major. */
export function referenceForward(net: ExtractedNet, images: Float32Array, batch: number, normalise: 'running' | 'batch'): ReferencePass {
  const statistics = new Map<BatchNorm, { mean: Float64Array; variance: Float64Array }>();
  const side = net.subnet.resolution;
  const channels = net.space.inputChannels;

  const map = ({ side: s, values }: Maps, f: (x: number, n: number, c: number) => number): Maps => ({
    side: s,
    values: values.map((image, n) => image.map((plane, c) => plane.map((x) => f(x, n, c)))),
  });
  const add = (a: Maps, b: Maps): Maps => ({
    side: a.side,
    values: a.values.map((image, n) => image.map((plane, c) => plane.map((x, i) => x + at(at(at(b.values, n), c), i)))),
  });
  const mean = (x: Maps): Maps => ({ side: 1, values: x.values.map((image) => image.map((plane) => Float64Array.of(average(plane)))) });

  function conv(x: Maps, { weight, bias, stride, padding, groups }: Conv): Maps {
    const [out, into, k] = weight.shape as [number, number, number];
    const outSide = Math.floor((x.side + 2 * padding - k) / stride) + 1;
    const values = x.values.map((image) =>
      Array.from({ length: out }, (_, o) => {
        const plane = new Float64Array(outSide * outSide).fill(bias === null ? 0 : at(bias.data, o));
        const firstInput = Math.floor(o / (out / groups)) * into;
        for (let i = 0; i < into; i++) {
          const source = at(image, firstInput + i);
          for (let row = 0; row < outSide; row++) {
            for (let column = 0; column < outSide; column++) {
              let sum = 0;
              for (let dy = 0; dy < k; dy++) {
                for (let dx = 0; dx < k; dx++) {
                  const y = row * stride + dy - padding;
                  const z = column * stride + dx - padding;
                  if (y < 0 || z < 0 || y >= x.side || z >= x.side) continue;
                  sum += at(source, y * x.side + z) * at(weight.data, ((o * into + i) * k + dy) * k + dx);
                }
              }
              plane[row * outSide + column] = at(plane, row * outSide + column) + sum;
            }
          }
        }
        return plane;
      }),
    );
    return { side: outSide, values };
  }

  function norm(x: Maps, part: BatchNorm): Maps {
    const count = part.gamma.data.length;
    const used = { mean: Float64Array.from(part.mean.data), variance: Float64Array.from(part.variance.data) };
    if (normalise === 'batch') {
      for (let c = 0; c < count; c++) {
        const all = x.values.flatMap((image) => [...at(image, c)]);
        used.mean[c] = average(all);
        used.variance[c] = average(all.map((value) => (value - at(used.mean, c)) ** 2));
      }
    }
    statistics.set(part, used);
    const scale = Float64Array.from(
      { length: count },
      (_, c) => at(part.gamma.data, c) / Math.sqrt(at(used.variance, c) + BATCH_NORM_EPSILON),
    );
    return map(x, (value, _, c) => (value - at(used.mean, c)) * at(scale, c) + at(part.beta.data, c));
  }

  function convNorm(x: Maps, part: ConvNorm): Maps {
    const normed = norm(conv(x, part.conv), part.norm);
    return part.activation === null ? normed : map(normed, activations[part.activation]);
  }

  function mbConv(x: Maps, part: MbConv): Maps {
    let y = convNorm(part.expand === null ? x : convNorm(x, part.expand), part.depthwise);
    if (part.squeezeExcite !== null) {
      const gate = conv(map(conv(mean(y), part.squeezeExcite.reduce), activations.relu), part.squeezeExcite.expand);
      y = map(y, (value, n, c) => value * hSigmoid(at(at(at(gate.values, n), c), 0)));
    }
    y = convNorm(y, part.project);
    return part.identity ? add(y, x) : y;
  }

  /** 2x2 pixels at stride 2, those beyond an odd side left out. */
  function pool(x: Maps, of: (values: number[]) => number): Maps {
    const side = Math.ceil(x.side / 2);
    const pooled = (plane: Float64Array) =>
      Float64Array.from({ length: side * side }, (_, i) => {
        const [row, column] = [2 * Math.floor(i / side), 2 * (i % side)];
        const within = [0, 1]
          .flatMap((dy) => [0, 1].map((dx) => [row + dy, column + dx] as const))
          .filter(([r, c]) => r < x.side && c < x.side);
        return of(within.map(([r, c]) => at(plane, r * x.side + c)));
      });
    return { side, values: x.values.map((image) => image.map(pooled)) };
  }

  function attention(x: Maps, part: Attention): Maps {
    const [query, key, value] = [conv(x, part.query), conv(x, part.key), conv(x, part.value)];
    const half = at(part.rows.shape, 1);
    const y = map(query, () => 0);
    query.values.forEach((image, n) =>
      image.forEach((plane, c) =>
        plane.forEach((q, pixel) => {
          const logits: number[] = [];
          const around: number[] = [];
          for (let dy = 0; dy < 7; dy++) {
            for (let dx = 0; dx < 7; dx++) {
              const [row, column] = [Math.floor(pixel / x.side) + dy - 3, (pixel % x.side) + dx - 3];
              const inside = row >= 0 && column >= 0 && row < x.side && column < x.side;
              const read = (maps: Maps) => (inside ? at(at(at(maps.values, n), c), row * x.side + column) : 0);
              const offset = c < half ? at(part.rows.data, dy * half + c) : at(part.columns.data, dx * half + c - half);
              logits.push(q * (read(key) + offset));
              around.push(read(value));
            }
          }
          const largest = Math.max(...logits);
          const shares = logits.map((logit) => Math.exp(logit - largest));
          const total = shares.reduce((sum, share) => sum + share, 0);
          at(at(y.values, n), c)[pixel] = shares.reduce((sum, share, i) => sum + (share / total) * at(around, i), 0);
        }),
      ),
    );
    return part.pool === 1 ? y : pool(y, average);
  }

  function third(x: Maps, part: NonNullable<NetBlock['third']>): Maps {
    if (part.kind === 'attention') return attention(x, part);
    const pooled = part.pool === 1 ? x : pool(x, (values) => Math.max(...values));
    const mixed = part.conv === null ? pooled : conv(pooled, part.conv);
    return map(norm(mixed, part.norm), activations[part.activation]);
  }

  function block(x: Maps, part: NetBlock): Maps {
    const branches: Maps[] = [];
    if (part.mbConv !== null) branches.push(mbConv(x, part.mbConv));
    if (part.pointwise !== null) branches.push(convNorm(x, part.pointwise));
    if (part.third !== null) branches.push(third(x, part.third));
    return branches.reduce(add);
  }

  function stage(x: Maps, blocks: readonly NetBlock[]): Maps {
    const y = [x];
    const skipSum = (t: number) =>
      skipSources(net.space.denseSkips, t)
        .map((i) => at(y, i))
        .reduce(add);
    blocks.forEach((part, b) => y.push(block(skipSum(b), part)));
    return skipSum(blocks.length);
  }

  const linear = (x: number[], { weight, bias }: Linear): number[] =>
    Array.from({ length: at(weight.shape, 0) }, (_, o) =>
      x.reduce((sum, value, i) => sum + value * at(weight.data, o * x.length + i), bias === null ? 0 : at(bias.data, o)),
    );

  const input: Maps = {
    side,
    values: Array.from({ length: batch }, (_, n) =>
      Array.from({ length: channels }, (_unused, c) =>
        Float64Array.from(images.subarray((n * channels + c) * side * side, (n * channels + c + 1) * side * side)),
      ),
    ),
  };
  const features = net.stages.reduce(stage, mbConv(convNorm(input, net.stem), net.first));
  const pooled = mean(convNorm(features, net.exit.conv));
  const logits = pooled.values.map((image) => {
    const mixed = linear(
      image.map((plane) => at(plane, 0)),
      net.exit.mix,
    );
    return linear(mixed.map(activations.h_swish), net.exit.classifier);
  });
  return {
    logits,
    statistics: normsOf(net).map((part) => statistics.get(part) as { mean: Float64Array; variance: Float64Array }),
  };
}

function average(values: ArrayLike<number>): number {
  let sum = 0;
  for (let i = 0; i < values.length; i++) sum += values[i] as number;
  return sum / values.length;
}

function at<T>(values: ArrayLike<T>, index: number): T {
  const value = values[index];
  if (value === undefined) throw new RangeError(`no element ${index} of ${values.length}`);
  return value;
}
