// The pools of parallel blocks against plain loops, values and gradients, on every backend that is here.
import * as tf from '@tensorflow/tfjs';
import { describe, expect, it } from 'vitest';
import { selectBackend } from '../../../controller/supernet/backend.ts';
import { maxOfSquares, meanOfSquares } from '../../../controller/supernet/pools.ts';
import { lossAndGradients } from '../../../controller/supernet/training/gradients.ts';
import { randomStream } from '../../../controller/supernet/training/random.ts';
import { WHY_NO_ADDON } from './native-addon.ts';

const BACKENDS = WHY_NO_ADDON === null ? (['cpu', 'wasm', 'tensorflow'] as const) : (['cpu', 'wasm'] as const);
const SIDES = [[5, 5], [4, 4], [4, 7], [2, 2], [1, 1], [3, 6]] as const; // prettier-ignore

/** Pool and gradient to x of sum(pool · probe), each one channel at a time. */
function plainly(x: number[][], probe: number[][], kind: 'max' | 'mean'): { pooled: number[]; gradient: number[] } {
  const [height, width] = [x.length, (x[0] as number[]).length];
  const gradient = x.map((row) => row.map(() => 0));
  const pooled: number[] = [];
  for (let r = 0; r < height; r += 2) {
    for (let c = 0; c < width; c += 2) {
      const places = [[r, c], [r, c + 1], [r + 1, c], [r + 1, c + 1]].filter(([a, b]) => (a as number) < height && (b as number) < width) as [number, number][]; // prettier-ignore
      const values = places.map(([a, b]) => x[a]?.[b] as number);
      const weight = probe[r / 2]?.[c / 2] as number;
      const most = Math.max(...values);
      pooled.push(kind === 'max' ? most : values.reduce((sum, entry) => sum + entry, 0) / values.length);
      places.forEach(([a, b], i) => {
        (gradient[a] as number[])[b] = kind === 'max' ? (values[i] === most ? weight : 0) : weight / values.length;
      });
    }
  }
  return { pooled, gradient: gradient.flat() };
}

describe.each(BACKENDS)('pools on %s', (only) => {
  it.each(SIDES)('of %i x %i pixels are the maximum and the mean of what is there, as are their gradients', async (height, width) => {
    await selectBackend({ purpose: 'training', threads: 1, only });
    const random = randomStream(1, 'pools', `${height}x${width}`);
    const grid = (rows: number, columns: number) =>
      Array.from({ length: rows }, () => Array.from({ length: columns }, () => Math.fround(2 * random.uniform() - 1.5)));
    const [x, probe] = [grid(height, width), grid(Math.ceil(height / 2), Math.ceil(width / 2))];
    const tensor = (rows: number[][]) => tf.tensor4d(rows.flat(), [1, rows.length, (rows[0] as number[]).length, 1]);
    for (const [kind, pool] of [['max', maxOfSquares], ['mean', meanOfSquares]] as const) {
      const weights = new Map([['x', tensor(x)]]);
      const loss = (): tf.Scalar => tf.sum(tf.mul(pool(weights.get('x') as tf.Tensor4D), tensor(probe)));
      const gradient = lossAndGradients(weights, ['x'], loss).gradients.get('x')?.dataSync<'float32'>();
      const expected = plainly(x, probe, kind);
      expected.pooled.forEach((entry, i) => expect(pool(tensor(x)).dataSync()[i]).toBeCloseTo(entry, 5));
      expected.gradient.forEach((entry, i) => expect(gradient?.[i], `${kind} ${i}`).toBeCloseTo(entry, 5));
    } // prettier-ignore
  });
});
