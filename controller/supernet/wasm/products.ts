// Machine code of the product that filter gradients are: out [I, O] += a [M, I] transposed times b [M, O], with M the pixels of a batch.
// A tile of the result stays in registers while the rows of a block pass; nothing is transposed or repacked.
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
  mul,
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
          columns.map((x) => set(cell(y, x), add(cell(y, x), mul(left, right[x] as Local)))),
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
