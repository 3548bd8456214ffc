// Machine code of depthwise convolution and its two gradients, for one image and four channels: a plane of cells, each the vector of the
// four channels at one pixel, in a scratch area that the first-level cache holds, zeros around it, so that every tap is a constant offset.
import {
  add,
  advance,
  assign,
  atMost,
  count,
  define,
  load,
  mulAdd,
  product,
  set,
  splat,
  store,
  sum,
  whileLoop,
  type Code,
  type WasmFunction,
} from './assembler.ts';

/** Bytes of a cell. */
export const CELL = 16;
/** Sums that fit the 16 vector registers of x86 beside an operand and a product. */
const SUMS_AT_ONCE = 14;

/** copyCells(from, fromRow, fromCell, to, toRow, toCell, rows, columns): steps between rows and cells in bytes. */
export const COPY_CELLS = define('copyCells', 8, ([from, fromRow, fromCell, to, toRow, toCell, rows, columns], frame) => {
  const [y, x, source, target] = frame.integers(4);
  return count(
    y,
    rows,
    1,
    set(source, from),
    set(target, to),
    count(x, columns, 1, store(target, load(source)), advance(source, fromCell), advance(target, toCell)),
    advance(from, fromRow),
    advance(to, toRow),
  );
});

/** The functions below for kernels of `side` x `side` taps at that stride; taps are `side`² cells in a row. */
export function depthwiseFunctions(side: number, stride: number): readonly WasmFunction<'correlate' | 'scatter' | 'gatherTaps'>[] {
  return [correlate(side, stride), scatter(side, stride), gatherTaps(side, stride)];
}

const range = (length: number): number[] => Array.from({ length }, (_, i) => i);

/**
 * correlate(plane, planeRow, taps, out, outRow, outCell, rows, columns): out[y][x] = Σ taps[i][j] · plane[stride·y + i][stride·x + j].
 * Up to four columns share a tap while it is in a register.
 */
function correlate(side: number, stride: number): WasmFunction<'correlate'> {
  return define('correlate', 8, ([plane, planeRow, taps, out, outRow, outCell, rows, columns], frame) => {
    const [y, i, reached, next, corner, row, tapRow, target] = frame.integers(8);
    const [tap] = frame.vectors(1);
    const all = frame.vectors(4);
    const blocks = (width: number): Code => {
      const sums = all.slice(0, width);
      return whileLoop(
        atMost(assign(next, sum(reached, width)), columns),
        sums.map((total) => set(total, splat(0))),
        set(row, corner),
        set(tapRow, taps),
        count(
          i,
          side,
          1,
          range(side).map((j) => [
            set(tap, load(tapRow, CELL * j)),
            sums.map((total, k) => set(total, mulAdd(load(row, CELL * (stride * k + j)), tap, total))),
          ]),
          advance(row, planeRow),
          advance(tapRow, CELL * side),
        ),
        sums.map((total) => [store(target, total), advance(target, outCell)]),
        advance(corner, CELL * stride * width),
        set(reached, next),
      );
    };
    return count(
      y,
      rows,
      1,
      set(reached, 0),
      set(corner, plane),
      set(target, out),
      [4, 2, 1].map(blocks),
      advance(plane, product(planeRow, stride)),
      advance(out, outRow),
    );
  });
}

/** scatter(plane, planeRow, taps, dy, rows, columns): plane[stride·y + i][stride·x + j] += taps[i][j] · dy[y][x]; dy cells in a row. */
function scatter(side: number, stride: number): WasmFunction<'scatter'> {
  return define('scatter', 6, ([plane, planeRow, taps, dy, rows, columns], frame) => {
    const [y, x, i, corner, row, tapRow] = frame.integers(6);
    const [value] = frame.vectors(1);
    return count(
      y,
      rows,
      1,
      set(corner, plane),
      count(
        x,
        columns,
        1,
        set(value, load(dy)),
        set(row, corner),
        set(tapRow, taps),
        count(
          i,
          side,
          1,
          range(side).map((j) => store(row, mulAdd(value, load(tapRow, CELL * j), load(row, CELL * j)), CELL * j)),
          advance(row, planeRow),
          advance(tapRow, CELL * side),
        ),
        advance(corner, CELL * stride),
        advance(dy, CELL),
      ),
      advance(plane, product(planeRow, stride)),
    );
  });
}

/**
 * gatherTaps(plane, planeRow, dy, rows, columns, taps): taps[i][j] += Σ dy[y][x] · plane[stride·y + i][stride·x + j]; dy cells in a row.
 * As many rows of taps at once as registers hold.
 */
function gatherTaps(side: number, stride: number): WasmFunction<'gatherTaps'> {
  return define('gatherTaps', 6, ([plane, planeRow, dy, rows, columns, taps], frame) => {
    const [y, x, corner, row, source] = frame.integers(5);
    const [value] = frame.vectors(1);
    const tapRows = Math.max(1, Math.min(side, Math.floor(SUMS_AT_ONCE / side)));
    const all = frame.vectors(tapRows * side);
    return range(Math.ceil(side / tapRows)).map((group): Code => {
      const first = group * tapRows;
      const active = range(Math.min(tapRows, side - first));
      const sums = active.map((i) => all.slice(i * side, (i + 1) * side));
      return [
        sums.flat().map((total) => set(total, splat(0))),
        set(source, dy),
        set(corner, sum(plane, product(planeRow, first))),
        count(
          y,
          rows,
          1,
          set(row, corner),
          count(
            x,
            columns,
            1,
            set(value, load(source)),
            sums.map((row_, i) => tapsOfRow(row, i, row_)),
            advance(row, CELL * stride),
            advance(source, CELL),
          ),
          advance(corner, product(planeRow, stride)),
        ),
        sums.flat().map((total, t) => store(taps, add(load(taps, CELL * (first * side + t)), total), CELL * (first * side + t))),
      ];

      function tapsOfRow(base: typeof row, i: number, totals: typeof all): Code {
        const address = i === 0 ? base : sum(base, product(planeRow, i));
        return totals.map((total, j) => set(total, mulAdd(load(address, CELL * j), value, total)));
      }
    });
  });
}
