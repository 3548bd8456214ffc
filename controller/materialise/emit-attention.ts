// The graph of attention over 7x7 neighbourhoods (`Attention` in extracted-net.ts), in operators that every ONNX runtime has: 49 shifted copies of
// the padded keys and values, and a softmax over them.
import { ATTENTION_SIDE, type Attention } from '../supernet/extracted-net.ts';
import type { GraphBuilder } from './graph.ts';

const NEIGHBOURS = ATTENTION_SIDE ** 2;

/** Query, key and value are names of values [batch, C, side, side], as is the name given back. The pool after it is not part of this. */
export function emitAttention(
  graph: GraphBuilder,
  name: string,
  maps: { readonly query: string; readonly key: string; readonly value: string },
  { rows, columns }: Pick<Attention, 'rows' | 'columns'>,
  side: number,
): string {
  const half = rows.shape[1] as number;
  const channels = 2 * half;
  const border = Math.floor(ATTENTION_SIDE / 2);
  const integers = (label: string, values: readonly number[]): string =>
    graph.node(`${name}.${label}`, 'Constant', [], { value_ints: values });
  const reshape = (label: string, x: string, shape: readonly number[]): string =>
    graph.node(`${name}.${label}`, 'Reshape', [x, integers(`${label}.shape`, shape)]);

  const pads = integers('pads', [0, 0, border, border, 0, 0, border, border]);
  const axes = integers('axes', [2, 3]);
  const corners = Array.from({ length: NEIGHBOURS }, (_, i) => {
    const [row, column] = [Math.floor(i / ATTENTION_SIDE), i % ATTENTION_SIDE];
    return [integers(`start${i}`, [row, column]), integers(`end${i}`, [row + side, column + side])] as const;
  });
  /** [batch, C, side, side] -> [batch, 49, C, side, side]; a 0 in a shape keeps that dimension. */
  const neighbourhoods = (label: string, x: string): string => {
    const padded = graph.node(`${name}.${label}.padded`, 'Pad', [x, pads]);
    const shifted = corners.map(([start, end], i) => graph.node(`${name}.${label}.shift${i}`, 'Slice', [padded, start, end, axes]));
    const together = graph.node(`${name}.${label}.shifts`, 'Concat', shifted, { axis: 1 });
    return reshape(`${label}.neighbours`, together, [0, NEIGHBOURS, channels, side, side]);
  };
  /** [7, C / 2] -> [7, 7, C / 2] along rows or columns of neighbours */
  const spread = (label: string, x: string, shape: readonly number[]): string =>
    graph.node(`${name}.${label}.spread`, 'Expand', [reshape(label, x, shape), integers(`${label}.spread.shape`, [ATTENTION_SIDE, ATTENTION_SIDE, half])]); // prettier-ignore

  const byRow = spread('byRow', rows.name, [ATTENTION_SIDE, 1, half]);
  const byColumn = spread('byColumn', columns.name, [1, ATTENTION_SIDE, half]);
  const offsets = reshape('offsets', graph.node(`${name}.offset`, 'Concat', [byRow, byColumn], { axis: 2 }), [
    1,
    NEIGHBOURS,
    channels,
    1,
    1,
  ]);
  const keys = graph.node(`${name}.keys`, 'Add', [neighbourhoods('key', maps.key), offsets]);
  const query = reshape('queries', maps.query, [0, 1, channels, side, side]);
  const shares = graph.node(`${name}.shares`, 'Softmax', [graph.node(`${name}.products`, 'Mul', [query, keys])], { axis: 1 });
  const weighted = graph.node(`${name}.weighted`, 'Mul', [shares, neighbourhoods('value', maps.value)]);
  return graph.node(name, 'ReduceSum', [weighted, integers('neighbours', [1])], { keepdims: 0 });
}
