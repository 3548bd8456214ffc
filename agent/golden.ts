// Compares a model's output with the one that is right for its golden input.

export interface Golden {
  readonly input: Float32Array;
  readonly output: Float32Array;
  /** |got - expected| <= tolerance · max(1, |expected|) for each value. */
  readonly tolerance: number;
}

/** The first place where the output is not what it should be, in words; null where all of it is. */
export function goldenMismatch(got: Float32Array, { output, tolerance }: Golden): string | null {
  if (got.length !== output.length) return `the output has ${got.length} values, expected ${output.length}`;
  for (const [i, expected] of output.entries()) {
    const value = got[i] as number;
    const limit = tolerance * Math.max(1, Math.abs(expected));
    // Written so that NaN counts as a mismatch.
    if (!(Math.abs(value - expected) <= limit)) return `output ${i} is ${value}, expected ${expected} ± ${limit.toPrecision(3)}`;
  }
  return null;
}
