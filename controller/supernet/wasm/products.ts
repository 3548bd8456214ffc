// Machine code of matrix products: a tile of the result stays in registers while the operands pass. Pixels by channels times a filter, and,
// for filter gradients, pixels transposed times pixels, where nothing is transposed in memory.
import {
  add,
  advance,
  assign,
  atMost,
  define,
  less,
  lesser,
  load,
  loadSplat,
  mulAdd,
  product,
  set,
  splat,
  store,
  sum,
  whileLoop,
  type Code,
  type Local,
} from './assembler.ts';

/** Rows of a block: few enough for its part of `a` and `b` to stay in the second-level cache, many enough to pay for adding up the tile. */
const ROWS_AT_ONCE = 128;
const VECTOR = 16;

/** transposedProduct(a, b, out, M, I, O); O a multiple of 4. */
export const TRANSPOSED_PRODUCT = define('transposedProduct', 6, ([a, b, out, rows, inner, outer], frame) => {
  const [block, length, i, o, next, nextO, row, fromA, fromB, target] = frame.integers(10);
  const [strideA, strideB] = frame.integers(2);
  const sums = frame.vectors(8);
  const [left] = frame.vectors(1);
  const right = frame.vectors(2);

  /** Tiles of `tall` rows by `wide` vectors of the result, from column o on. */
  const tiles = (tall: number, wide: number): Code => {
    const rowsOf = Array.from({ length: tall }, (_, k) => k);
    const columns = Array.from({ length: wide }, (_, k) => k);
    const cell = (y: number, x: number) => sums[2 * y + x] as Local;
    const tileRow = (y: number): Code => sum(target, product(strideB, y));
    return whileLoop(
      atMost(assign(nextO, sum(o, 4 * wide)), outer),
      rowsOf.map((y) => columns.map((x) => set(cell(y, x), splat(0)))),
      set(fromA, sum(a, product(i, 4))),
      set(fromB, sum(b, product(o, 4))),
      set(row, 0),
      whileLoop(
        less(row, length),
        columns.map((x) => set(right[x] as Local, load(fromB, VECTOR * x))),
        rowsOf.map((y) => [
          set(left, loadSplat(fromA, 4 * y)),
          columns.map((x) => set(cell(y, x), mulAdd(left, right[x] as Local, cell(y, x)))),
        ]),
        advance(fromA, strideA),
        advance(fromB, strideB),
        advance(row, 1),
      ),
      set(target, sum(out, product(i, strideB), product(o, 4))),
      rowsOf.map((y) => columns.map((x) => store(tileRow(y), add(load(tileRow(y), VECTOR * x), cell(y, x)), VECTOR * x))),
      set(o, nextO),
    );
  };
  const strips = (tall: number): Code =>
    whileLoop(atMost(assign(next, sum(i, tall)), inner), set(o, 0), tiles(tall, 2), tiles(tall, 1), set(i, next));

  return [
    set(strideA, product(inner, 4)),
    set(strideB, product(outer, 4)),
    set(block, 0),
    whileLoop(
      less(block, rows),
      set(length, lesser(ROWS_AT_ONCE, sum(rows, product(block, -1)))),
      set(i, 0),
      strips(4),
      strips(1),
      advance(a, product(length, strideA)),
      advance(b, product(length, strideB)),
      advance(block, ROWS_AT_ONCE),
    ),
  ];
});

/** Rows of `a` a tile takes: with two vectors of columns, twelve sums and three operands in the 16 registers of x86. */
const TALL = 6;
/** Steps of K between two moves of the pointers. */
const UNROLLED = 4;

function multiply<Name extends string>(name: Name, wide: number) {
  return define(name, 6, ([a, panel, out, rows, inner, outRow], frame) => {
    const [done, next, strideA, fromPanel, k, nextK] = frame.integers(6);
    const fromA = frame.integers(TALL);
    const sums = frame.vectors(2 * TALL);
    const right = frame.vectors(2);
    const [left] = frame.vectors(1);
    const columns = Array.from({ length: wide }, (_, x) => x);

    const tiles = (tall: number): Code => {
      const pointers = fromA.slice(0, tall);
      const cell = (y: number, x: number) => sums[wide * y + x] as Local;
      const along = (steps: number): Code => [
        Array.from({ length: steps }, (_, step) => [
          columns.map((x) => set(right[x] as Local, load(fromPanel, VECTOR * (wide * step + x)))),
          pointers.map((pointer, y) => [
            set(left, loadSplat(pointer, 4 * step)),
            columns.map((x) => set(cell(y, x), mulAdd(left, right[x] as Local, cell(y, x)))),
          ]),
        ]),
        pointers.map((pointer) => advance(pointer, 4 * steps)),
        advance(fromPanel, VECTOR * wide * steps),
      ];
      return whileLoop(
        atMost(assign(next, sum(done, tall)), rows),
        pointers.map((pointer, y) => [
          set(pointer, y === 0 ? a : sum(a, product(strideA, y))),
          columns.map((x) => set(cell(y, x), splat(0))),
        ]),
        set(fromPanel, panel),
        set(k, 0),
        whileLoop(atMost(assign(nextK, sum(k, UNROLLED)), inner), along(UNROLLED), set(k, nextK)),
        whileLoop(less(k, inner), along(1), advance(k, 1)),
        pointers.map((_, y) => [columns.map((x) => store(out, cell(y, x), VECTOR * x)), advance(out, outRow)]),
        advance(a, product(strideA, tall)),
        set(done, next),
      );
    };
    return [set(strideA, product(inner, 4)), set(done, 0), [TALL, 2, 1].map(tiles)];
  });
}

/** multiply8(a, panel, out, rows, K, outRow): out [rows, 8] = a [rows, K] · panel [K, 8]; rows of `out` are `outRow` bytes apart. */
export const MULTIPLY_8 = multiply('multiply8', 2);
/** multiply4: the same with a panel [K, 4]. */
export const MULTIPLY_4 = multiply('multiply4', 1);
