// Numbers as a reader wants them: a value with its interval, at the precision that the interval supports.
import type { Interval } from '@ofa-fleet/shared/measurement.ts';

/** Three significant digits, never in powers of ten. */
export function threeDigits(value: number): string {
  if (value === 0) return '0';
  const digits = Math.max(0, 2 - Math.floor(Math.log10(Math.abs(value))));
  return value.toFixed(Math.min(6, digits));
}

interface Estimate {
  readonly value: number;
  readonly ci: Interval | null;
}

/** e.g. `2.31 ± 0.04 ms`: the half-width of the interval, at two digits; the value to the same decimal. */
export function milliseconds({ value, ci }: Estimate): string {
  return withHalfWidth(value, ci === null ? null : Math.max(value - ci.lo, ci.hi - value), 'ms');
}

/** An estimate in joules, e.g. `1.42 ± 0.11 mJ`. */
export function millijoules({ value, ci }: Estimate): string {
  return withHalfWidth(value * 1e3, ci === null ? null : Math.max(value - ci.lo, ci.hi - value) * 1e3, 'mJ');
}

function withHalfWidth(value: number, half: number | null, unit: string): string {
  if (half === null) return `${threeDigits(value)} ${unit} (no interval)`;
  const decimals = half > 0 ? Math.min(6, Math.max(0, 1 - Math.floor(Math.log10(half)))) : 3;
  return `${value.toFixed(decimals)} ± ${half.toFixed(decimals)} ${unit}`;
}

/** e.g. `11.2 %`. */
export function percent(share: number): string {
  return `${(share * 100).toFixed(1)} %`;
}

/** e.g. `11.2 % (10.0 to 12.5)`. */
export function percentWithin(share: number, interval: Interval): string {
  return `${percent(share)} (${(interval.lo * 100).toFixed(1)} to ${(interval.hi * 100).toFixed(1)})`;
}

/** e.g. `3.2 M`. */
export function millions(count: number): string {
  return `${threeDigits(count / 1e6)} M`;
}
