// What Apple's `powermetrics` (its manual page; text format, sampler cpu_power) and NVIDIA's `nvidia-smi` (its manual page; --format=csv,noheader) print.

const WATTS: Readonly<Record<string, number>> = { W: 1, mW: 1e-3 };

/** The line that stands for the whole chip: `Combined Power (…): 1234 mW`, on older systems `Package Power: 1234 mW`, on Intel `… package power (…): 12.34W`. */
const CHIP_LINE = /^\s*(?:Combined Power|Package Power|Intel energy model derived package power)\b[^:]*:\s*(\d+(?:\.\d+)?)\s*(mW|W)\s*$/i;

/** Watts of the processor chip; null for every other line of a sample. */
export function parsePowermetrics(line: string): number | null {
  const [, value, unit = ''] = CHIP_LINE.exec(line) ?? [];
  const watts = Number(value) * (WATTS[unit] ?? NaN);
  return Number.isFinite(watts) && watts > 0 ? watts : null;
}

/** Watts of one card: `123.45 W`, `123.45`; null for `[N/A]`, `[Not Supported]`, `[Unknown Error]` and for anything that is no power. */
export function parseNvidiaSmi(line: string): number | null {
  const [, value] = /^\s*(\d+(?:\.\d+)?)(?:\s*W)?\s*$/.exec(line) ?? [];
  const watts = Number(value);
  return Number.isFinite(watts) && watts > 0 ? watts : null;
}
