// What may be typed behind an option, with what to type instead.
import { InvalidArgumentError } from 'commander';
import { planSchema, type Plan } from '@ofa-fleet/shared/measurement.ts';

/** Plugs and power supplies need minutes at one load. */
const [LEAST_HOLD_MIN, MOST_HOLD_MIN] = [5, 30];
export const LEAST_HOLD_MS = LEAST_HOLD_MIN * 60_000;

export function parseShare(text: string): number {
  const match = /^(\d+(?:\.\d+)?) ?%$/.exec(text);
  const share = match === null ? NaN : Number(match[1]) / 100;
  if (!(share >= 0.001 && share <= 0.5)) throw new InvalidArgumentError('Give a share from 0.1% to 50%, e.g. 2%.');
  return share;
}

export function parseDuration(text: string): number {
  const match = /^(\d+(?:\.\d+)?) ?(ms|s|min)$/.exec(text);
  const factors: Readonly<Record<string, number>> = { ms: 1, s: 1000, min: 60_000 };
  const ms = match === null ? NaN : Number(match[1]) * (factors[match[2] ?? ''] ?? NaN);
  if (!(ms >= 100 && ms <= 600_000)) throw new InvalidArgumentError('Give a time from 100ms to 10min, e.g. 30s.');
  return ms;
}

export function parseCount(least: number, most: number): (text: string) => number {
  return (text) => {
    const count = Number(text);
    if (!Number.isInteger(count) || count < least || count > most)
      throw new InvalidArgumentError(`Give a whole number from ${least} to ${most}.`);
    return count;
  };
}

export const parseThreads = parseCount(1, 64);

export function parseHold(text: string): number {
  const minutes = Number(/^(\d+(?:\.\d+)?) ?min$/.exec(text)?.[1]);
  if (!(minutes >= LEAST_HOLD_MIN && minutes <= MOST_HOLD_MIN)) {
    throw new InvalidArgumentError(`Give a time from ${LEAST_HOLD_MIN}min to ${MOST_HOLD_MIN}min.`);
  }
  return minutes * 60_000;
}

export function parseMode(text: string): Plan['mode'] {
  const mode = planSchema.shape.mode.safeParse(text);
  if (!mode.success) throw new InvalidArgumentError('Give back-to-back, sustained, or gap:MS with 1 to 10000 milliseconds, e.g. gap:200.');
  return mode.data;
}

export function parseTemperature(text: string): number {
  const celsius = Number(text);
  if (!(celsius >= 30 && celsius <= 150)) throw new InvalidArgumentError('Give degrees Celsius from 30 to 150, e.g. 85.');
  return celsius;
}
