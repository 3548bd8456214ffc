// Randomness of the search: one independent stream for each (seed, n), so that ask n does not depend on how many numbers earlier asks drew.
import { uniformFloat64 } from 'pure-rand/distribution/uniformFloat64';
import { uniformInt } from 'pure-rand/distribution/uniformInt';
import { xoroshiro128plusFromState } from 'pure-rand/generator/xoroshiro128plus';
import type { RandomGenerator } from 'pure-rand/types/RandomGenerator';

/** A mutable generator: every draw moves it on. */
export type Rng = RandomGenerator;

/**
 * The stream of ask `n` under `seed`, both safe integers. Distinct pairs give distinct generator states; asks use n >= 0 and the first
 * design -1, so other draws under the same seed take n <= -2.
 */
export function stream(seed: number, n: number): Rng {
  if (!Number.isSafeInteger(seed) || !Number.isSafeInteger(n))
    throw new Error(`A random stream needs two safe integers, not ${seed} and ${n}.`);
  const words = [seed, Math.floor(seed / 2 ** 32), n, Math.floor(n / 2 ** 32)];
  // a bijection on each word, so no pair is lost; the constants keep the state off all-zero
  const rng = xoroshiro128plusFromState(words.map((word, i) => mix((word | 0) ^ Math.imul(i + 1, 0x9e3779b9))));
  // neighbouring seeds differ in one word; a few steps spread that over the whole state
  for (let i = 0; i < 16; i++) rng.next();
  return rng;
}

/** Finaliser of MurmurHash3 (32 bit). */
function mix(word: number): number {
  let h = word;
  h = Math.imul(h ^ (h >>> 16), 0x85ebca6b);
  h = Math.imul(h ^ (h >>> 13), 0xc2b2ae35);
  return h ^ (h >>> 16);
}

/** Uniform in 0 .. count - 1. */
export function below(rng: Rng, count: number): number {
  return uniformInt(rng, 0, count - 1);
}

export function pick<T>(rng: Rng, values: readonly T[]): T {
  if (values.length === 0) throw new Error('pick from no values');
  return values[below(rng, values.length)] as T;
}

export function chance(rng: Rng, probability: number): boolean {
  return uniformFloat64(rng) < probability;
}

/** A shuffled copy (Fisher–Yates). */
export function shuffled<T>(rng: Rng, values: readonly T[]): T[] {
  const copy = [...values];
  for (let i = copy.length - 1; i > 0; i--) {
    const j = below(rng, i + 1);
    [copy[i], copy[j]] = [copy[j] as T, copy[i] as T];
  }
  return copy;
}
