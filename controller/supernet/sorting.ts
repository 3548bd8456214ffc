// Channel sorting (Once-For-All, arXiv 1908.09791): before widths shrink, the most important channels of each block move to the front, so
// that a prefix keeps them. The largest net's function does not change.
import type { Space } from '../space.ts';
import type { PlainTensor } from './safetensors.ts';
import { midChannels, squeezeChannels } from './widths.ts';

/**
 * Sorted copies of all blocks' tensors. `trainedExpands`: ratios that were already elastic before this phase; channels do not leave the
 * ring between two of their prefixes, so those nets keep their channels and are only re-ordered inside. Hidden units of
 * squeeze-and-excitation likewise, unless `hiddenRings` is false: so it is in Once-For-All's own code, which disturbs the hidden units of
 * nets that were trained already; for comparison with it only.
 */
export function sortChannels(
  space: Space,
  tensors: ReadonlyMap<string, PlainTensor>,
  trainedExpands: readonly number[],
  { hiddenRings = true }: { readonly hiddenRings?: boolean } = {},
): Map<string, PlainTensor> {
  const sorted = new Map(tensors);
  let inputs = space.stem.channels;
  space.stages.forEach((stage, s) => {
    for (let b = 0; b < Math.max(...space.depths); b++) {
      const block = `stages.${s}.${b}`;
      const widths = trainedExpands.map((expand) => midChannels(inputs, expand));
      const project = sorted.get(`${block}.project.weight`) as PlainTensor;
      const order = orderOf(rowImportance(project), widths);
      const norms = ['expand', 'depthwise'].flatMap((part) =>
        ['gamma', 'beta', 'mean', 'variance'].map((kind) => `${block}.${part}.norm.${kind}`),
      );
      for (const name of norms) permute(sorted, name, 0, order);
      permute(sorted, `${block}.expand.weight`, 3, order);
      permute(sorted, `${block}.depthwise.weight`, 2, order);
      permute(sorted, `${block}.project.weight`, 2, order);
      if (stage.squeezeExcite) {
        permute(sorted, `${block}.squeeze.reduce.weight`, 2, order);
        permute(sorted, `${block}.squeeze.expand.weight`, 3, order);
        permute(sorted, `${block}.squeeze.expand.bias`, 0, order);
        const hiddenImportance = rowImportance(sorted.get(`${block}.squeeze.expand.weight`) as PlainTensor);
        const hiddenOrder = orderOf(hiddenImportance, hiddenRings ? widths.map(squeezeChannels) : []);
        permute(sorted, `${block}.squeeze.reduce.weight`, 3, hiddenOrder);
        permute(sorted, `${block}.squeeze.reduce.bias`, 0, hiddenOrder);
        permute(sorted, `${block}.squeeze.expand.weight`, 2, hiddenOrder);
      }
      inputs = stage.channels;
    }
  });
  return sorted;
}

/** Sum of |weight| over the outputs of each input channel of a 1x1 convolution [1, 1, in, out]. */
function rowImportance({ shape, data }: PlainTensor): Float64Array {
  const [, , inputs = 0, outputs = 0] = shape;
  return Float64Array.from({ length: inputs }, (_, i) =>
    data.subarray(i * outputs, (i + 1) * outputs).reduce((sum, value) => sum + Math.abs(value), 0),
  );
}

/** Positions by ring (ends at each of `widths`), then by falling importance; ties keep their order. */
function orderOf(importance: Float64Array, widths: readonly number[]): number[] {
  const ring = (channel: number) => widths.filter((width) => channel >= width).length;
  const positions = Array.from(importance.keys());
  return positions.sort((a, b) => ring(a) - ring(b) || (importance[b] as number) - (importance[a] as number) || a - b);
}

/** Replaces a tensor by one whose entry i along `axis` is the old entry order[i]. */
function permute(tensors: Map<string, PlainTensor>, name: string, axis: number, order: readonly number[]): void {
  const { shape, data } = tensors.get(name) as PlainTensor;
  const inner = shape.slice(axis + 1).reduce((product, side) => product * side, 1);
  const outer = shape.slice(0, axis).reduce((product, side) => product * side, 1);
  const moved = new Float32Array(data.length);
  for (let o = 0; o < outer; o++) {
    order.forEach((from, to) => {
      const start = (o * order.length + from) * inner;
      moved.set(data.subarray(start, start + inner), (o * order.length + to) * inner);
    });
  }
  tensors.set(name, { shape, data: moved });
}
