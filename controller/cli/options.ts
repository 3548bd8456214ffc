// Options that several commands share, and how their values are read; a value that cannot be is wrong use and says what can.
import { InvalidArgumentError, Option } from 'commander';
import type { ByteScale } from '../materialise/npy.ts';

const DEFAULT_STATE = './ofa-fleet-data';

export function stateOption(): Option {
  return new Option('--state <dir>', 'folder with the database and the models').default(DEFAULT_STATE);
}

export function wholeNumber(least: number, most: number): (text: string) => number {
  return (text) => {
    const value = Number(text);
    if (!/^\d+$/.test(text) || value < least || value > most)
      throw new InvalidArgumentError(`Give a whole number from ${least} to ${most}.`);
    return value;
  };
}

export function positiveNumber(unit: string): (text: string) => number {
  return (text) => {
    const value = Number(text);
    if (!(value > 0) || !Number.isFinite(value)) throw new InvalidArgumentError(`Give a number of ${unit} above 0.`);
    return value;
  };
}

export function share(text: string): number {
  const match = /^(\d+(?:\.\d+)?) ?%$/.exec(text);
  const value = match === null ? NaN : Number(match[1]) / 100;
  if (!(value >= 0.001 && value <= 0.5)) throw new InvalidArgumentError('Give a share from 0.1% to 50%, e.g. 2%.');
  return value;
}

export function numberList(text: string): readonly number[] {
  const values = text.split(',').map((part) => (part.trim() === '' ? NaN : Number(part)));
  if (!values.every(Number.isFinite)) throw new InvalidArgumentError('Give numbers with commas between them, e.g. 128,160,192.');
  return values;
}

export function byteScale(text: string): ByteScale {
  const [offset = NaN, divisor = NaN, ...rest] = numberList(text);
  if (Number.isNaN(divisor) || divisor === 0 || rest.length > 0)
    throw new InvalidArgumentError('Give two numbers, the second not 0, e.g. 128,64.');
  return { offset, divisor };
}

/** An example under the help of a command. */
export function example(...lines: readonly string[]): string {
  return `\nExample:\n${lines.map((line) => `  ${line}\n`).join('')}`;
}
