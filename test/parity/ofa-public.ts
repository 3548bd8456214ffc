// Reads the expected values in ofa-public/ and compares with them by the tolerances that its README states.
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { expect } from 'vitest';

const FOLDER = fileURLToPath(new URL('./ofa-public/', import.meta.url));

export const publicFile = (name: string): string => join(FOLDER, name);

export interface PublicSubnet {
  readonly id: number;
  readonly ks: readonly number[];
  readonly e: readonly number[];
  readonly d: readonly number[];
  readonly r: number;
  readonly params: number;
  readonly macs_profile: number;
  readonly macs_analytic: number;
  readonly bn_layout: readonly (readonly [string, number])[];
  /** Of blocks 0..; the first is not elastic. */
  readonly widths_mid: readonly number[];
  readonly se_mid: readonly number[];
}

export function readJson(name: string): unknown {
  return JSON.parse(readFileSync(publicFile(name), 'utf8'));
}

export const SUBNETS = readJson('subnets.json') as readonly PublicSubnet[];

/** A float32 array in C order; its own few lines, so that the program's reader is not judged by itself. */
export function readFloats(name: string): { readonly shape: readonly number[]; readonly data: Float32Array } {
  const bytes = readFileSync(publicFile(name));
  const start = 10 + bytes.readUInt16LE(8);
  const header = bytes.subarray(10, start).toString();
  if (!header.includes("'<f4'") || !header.includes('False')) throw new Error(`${name} is not float32 in C order`);
  const shape = (/\(([^)]*)\)/.exec(header)?.[1] ?? '')
    .split(',')
    .filter((side) => side.trim() !== '')
    .map(Number);
  return { shape, data: new Float32Array(Uint8Array.from(bytes.subarray(start)).buffer) };
}

/** The top left `side` x `side` of inputs.npy, [8, 3, side, side]. */
export function inputsAt(side: number): { readonly shape: readonly number[]; readonly count: number; readonly data: Float32Array } {
  const { shape, data } = readFloats('inputs.npy');
  const [count = 0, channels = 0, height = 0, width = 0] = shape;
  const crop = new Float32Array(count * channels * side * side);
  for (let i = 0; i < crop.length; i++) {
    const [x, y, plane] = [i % side, Math.floor(i / side) % side, Math.floor(i / side / side)];
    crop[i] = data[(plane * height + y) * width + x] as number;
  }
  return { shape: [channels, side, side], count, data: crop };
}

/** Part `index` of an array whose first axis counts subnets. */
export function part(name: string, index: number): Float32Array {
  const { shape, data } = readFloats(name);
  const size = data.length / (shape[0] as number);
  return data.subarray(index * size, (index + 1) * size);
}

/** Logits [8, 10]: the largest difference below 1e-4 of the largest logit, and below 1e-3 of the largest deviation from the images' mean. */
export function expectLogits(got: Float32Array, want: Float32Array, images = 8): void {
  expect(got.length).toBe(want.length);
  expect(largestDifference(got, want) / largest(want)).toBeLessThan(1e-4);
  const [gotSpread, wantSpread] = [deviations(got, images), deviations(want, images)];
  expect(largestDifference(gotSpread, wantSpread) / largest(wantSpread)).toBeLessThan(1e-3);
}

export function largest(values: Float32Array): number {
  return values.reduce((most, value) => Math.max(most, Math.abs(value)), 0);
}

export function largestDifference(a: Float32Array, b: Float32Array): number {
  return largest(a.map((value, i) => value - (b[i] as number)));
}

function deviations(logits: Float32Array, images: number): Float32Array {
  const classes = logits.length / images;
  const means = Array.from({ length: classes }, (_, label) =>
    Array.from({ length: images }, (_unused, i) => logits[i * classes + label] as number).reduce((sum, value) => sum + value / images, 0),
  );
  return logits.map((value, i) => value - (means[i % classes] as number));
}
