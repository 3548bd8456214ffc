// Machine code over rows of channels ([rows, channels] float32, channels a multiple of 4): maps, each a formula of one pixel's values and
// per-channel coefficients in one pass over memory, and reductions, sums over the rows per channel.
import {
  add,
  advance,
  and,
  count,
  define,
  greater,
  lesser,
  load,
  less,
  max,
  min,
  mul,
  mulAdd,
  product,
  set,
  splat,
  store,
  sub,
  sum,
  whileLoop,
  type Code,
  type Local,
  type WasmFunction,
} from './assembler.ts';

/** Rows whose float32 sum is made in a register before it joins the total: the rounding error of long sums stays small. */
const ROWS_AT_ONCE = 256;
const VECTOR = 16;

type Values = readonly Code[];

/** name(out, rows, channels, ...inputs, ...coefficients): out = formula(inputs, coefficients), coefficients [channels]. */
function map<Name extends string>(
  name: Name,
  inputs: number,
  coefficients: number,
  formula: (inputs: Values, coefficients: Values) => Code,
): WasmFunction<Name> {
  return define(name, 3 + inputs + coefficients, (parameters, frame) => {
    const [out, rows, channels, ...pointers] = parameters as [Local, Local, Local, ...Local[]];
    const streams = pointers.slice(0, inputs);
    const vectors = pointers.slice(inputs);
    const [row, c, bytes] = frame.integers(3);
    const value = formula(
      streams.map((pointer) => load(pointer)),
      vectors.map((pointer) => load(sum(pointer, c))),
    );
    return [
      set(bytes, product(channels, 4)),
      count(
        row,
        rows,
        1,
        count(
          c,
          bytes,
          VECTOR,
          store(out, value),
          [out, ...streams].map((pointer) => advance(pointer, VECTOR)),
        ),
      ),
    ];
  });
}

/** name(rows, channels, ...inputs, ...coefficients, ...sums): each sum [channels] += Σ over the rows of its formula. */
function reduction<Name extends string>(
  name: Name,
  inputs: number,
  coefficients: number,
  sums: number,
  formulas: (inputs: Values, coefficients: Values) => readonly Code[],
): WasmFunction<Name> {
  return define(name, 2 + inputs + coefficients + sums, (parameters, frame) => {
    const [rows, channels, ...pointers] = parameters as [Local, Local, ...Local[]];
    const streams = pointers.slice(0, inputs);
    const vectors = pointers.slice(inputs, inputs + coefficients);
    const totals = pointers.slice(inputs + coefficients);
    const [c, bytes, block, row, end] = frame.integers(5);
    const cursors = streams.map(() => frame.integers(1)[0]);
    const partial = frame.vectors(4 * sums);
    const kept = frame.vectors(4 * coefficients);
    /** `wide` vectors of channels side by side: a cache line where it is 4. */
    const strip = (wide: number): Code => {
      const lanes = Array.from({ length: wide }, (_, lane) => lane);
      const partials = lanes.map((lane) => partial.slice(lane * sums, (lane + 1) * sums));
      const constants = lanes.map((lane) => kept.slice(lane * coefficients, (lane + 1) * coefficients));
      return whileLoop(
        less(sum(c, VECTOR * (wide - 1)), bytes),
        lanes.map((lane) =>
          (constants[lane] as Local[]).map((constant, i) => set(constant, load(sum(vectors[i] as Local, c), VECTOR * lane))),
        ),
        cursors.map((cursor, i) => set(cursor, sum(streams[i] as Local, c))),
        set(block, 0),
        whileLoop(
          less(block, rows),
          set(end, lesser(rows, sum(block, ROWS_AT_ONCE))),
          partials.flat().map((total) => set(total, splat(0))),
          set(row, block),
          whileLoop(
            less(row, end),
            lanes.map((lane) =>
              formulas(
                cursors.map((cursor) => load(cursor, VECTOR * lane)),
                (constants[lane] as Local[]).map((constant) => read(constant)),
              ).map((value, i) => {
                const total = (partials[lane] as Local[])[i] as Local;
                return set(total, add(total, value));
              }),
            ),
            cursors.map((cursor) => advance(cursor, bytes)),
            advance(row, 1),
          ),
          partials.map((parts, lane) =>
            parts.map((part, i) => {
              const address = sum(totals[i] as Local, c);
              return store(address, add(load(address, VECTOR * lane), part), VECTOR * lane);
            }),
          ),
          set(block, end),
        ),
        advance(c, VECTOR * wide),
      );
    };
    return [set(bytes, product(channels, 4)), set(c, 0), strip(4), strip(1)];
  });
}

/** A variable as an expression among others. */
const read = (local: Local): Code => [0x20, local.index];

const three = splat(3);
const six = splat(6);
const zero = splat(0);
const sixth = splat(1 / 6);
const gate = (x: Code): Code => max(min(add(x, three), six), zero);

export const CHANNEL_FUNCTIONS = [
  map('scale', 1, 1, ([x], [factor]) => mul(x as Code, factor as Code)),
  map('affine', 1, 2, ([x], [factor, shift]) => mulAdd(x as Code, factor as Code, shift as Code)),
  // Batch norm's gradient to its input: a · dy + b · x + c with coefficients per channel.
  map('affine2', 2, 3, ([dy, x], [a, b, c]) => mulAdd(dy as Code, a as Code, mulAdd(x as Code, b as Code, c as Code))),
  map('reluGradient', 2, 0, ([dy, x]) => and(dy as Code, greater(x as Code, zero))),
  map('hSwish', 1, 0, ([x]) => mul(mul(x as Code, gate(x as Code)), sixth)),
  // relu6(x + 3) / 6 + x / 6 where -3 < x < 3; 0 below; 1 above.
  map('hSwishGradient', 2, 0, ([dy, x]) =>
    mul(dy as Code, mul(add(gate(x as Code), and(x as Code, and(greater(x as Code, splat(-3)), greater(three, x as Code)))), sixth)),
  ),
  reduction('total', 1, 0, 1, ([x]) => [x as Code]),
  reduction('totalOfSquares', 1, 1, 1, ([x], [mean]) => {
    const centred = sub(x as Code, mean as Code);
    return [mul(centred, centred)];
  }),
  reduction('normTotals', 2, 1, 2, ([dy, x], [mean]) => [dy as Code, mul(dy as Code, sub(x as Code, mean as Code))]),
];
