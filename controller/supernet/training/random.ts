// Seeded random streams without state to save: each use names its stream (purpose, phase, step), so a resumed run draws what the
// uninterrupted one would have, and one stream's use never shifts another's.
import { createHash } from 'node:crypto';
import { uniformFloat64 } from 'pure-rand/distribution/uniformFloat64';
import { uniformInt } from 'pure-rand/distribution/uniformInt';
import { xoroshiro128plus } from 'pure-rand/generator/xoroshiro128plus';

export interface Random {
  /** In [0, 1). */
  uniform(): number;
  /** An integer from `from` to `to`, both included. */
  integer(from: number, to: number): number;
  /** One of the values. */
  of<T>(values: readonly T[]): T;
  /** A shuffled copy. */
  shuffle<T>(values: readonly T[]): T[];
}

/** The stream of that name under `seed`. */
export function randomStream(seed: number, ...name: readonly (string | number)[]): Random {
  return randomOf(streamSeed(seed, ...name));
}

/** A 32-bit seed for the stream of that name. */
export function streamSeed(seed: number, ...name: readonly (string | number)[]): number {
  return createHash('sha256')
    .update([seed, ...name].join(' '))
    .digest()
    .readInt32LE(0);
}

function randomOf(seed: number): Random {
  const rng = xoroshiro128plus(seed);
  const integer = (from: number, to: number) => uniformInt(rng, from, to);
  return {
    uniform: () => uniformFloat64(rng),
    integer,
    of: <T>(values: readonly T[]) => values[integer(0, values.length - 1)] as T,
    shuffle: <T>(values: readonly T[]) => {
      const shuffled = [...values];
      for (let i = shuffled.length - 1; i > 0; i--) {
        const j = integer(0, i);
        [shuffled[i], shuffled[j]] = [shuffled[j] as T, shuffled[i] as T];
      }
      return shuffled;
    },
  };
}
