// Numbers for people.

/** With four digits; microseconds where it is below a tenth of a millisecond. */
export function milliseconds(value: number): string {
  return value < 0.1 ? `${(value * 1e3).toPrecision(4)} µs` : `${value.toPrecision(4)} ms`;
}
