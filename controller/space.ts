// The choices a supernet offers, as data. A new space is a new value (a preset here or a JSON file), never new code.
import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { z } from 'zod';
import { failed, ok, type Outcome } from '@ofa-fleet/shared/outcome.ts';

const count = z.int().min(1);

const stageSchema = z.strictObject({
  /** Output channels of every block of the stage. */
  channels: count,
  /** Stride of the first block; the others have stride 1. */
  stride: z.union([z.literal(1), z.literal(2)]),
  activation: z.enum(['relu', 'h_swish']),
  squeezeExcite: z.boolean(),
});

const spaceSchema = z.strictObject({
  /** Human name, e.g. `fashion-tiny`. */
  name: z.string().regex(/^[a-z0-9][a-z0-9_.-]{0,63}$/),
  inputChannels: z.union([z.literal(1), z.literal(3)]),
  classes: count,
  /** Per-channel normalisation of pixels in [0, 1]: (x - mean) / std. */
  mean: z.array(z.number()),
  std: z.array(z.number().positive()),
  /** Input sides in pixels; images are resized bilinearly to it. */
  resolutions: z.array(count).min(1),
  /** Stem: conv 3x3 (h_swish) then a fixed MBConv with expand ratio 1 (relu), both of this width. */
  stem: z.strictObject({ channels: count, stride: z.union([z.literal(1), z.literal(2)]) }),
  stages: z.array(stageSchema).min(1).max(8),
  /** Depthwise kernel sides, ascending, out of 3, 5, 7 and starting anywhere; elastic per block. */
  kernels: z.array(z.union([z.literal(3), z.literal(5), z.literal(7)])).min(1),
  /** Expand ratios, ascending; elastic per block. */
  expands: z.array(z.number().min(1).max(8)).min(1),
  /** Blocks per stage, ascending; elastic per stage: the first d blocks are kept. */
  depths: z.array(count).min(1),
  /** `early`: a classifier after each stage, a subnet ends at one of them; `single`: only after the last (OFAv2, EE and SE nets). */
  exits: z.enum(['early', 'single']),
  /** Intra-stage dense skips (OFAv2, D nets). */
  denseSkips: z.boolean(),
  /** Exit head widths relative to its stage's channels c: conv1x1 c -> expand·c, then linear expand·c -> mix·c. */
  head: z.strictObject({ expand: count, mix: count }),
});

export type Space = Readonly<z.infer<typeof spaceSchema>>;

export const PRESETS: Readonly<Record<string, Space>> = {
  // Small enough to train in hours on two cores; OFAv2's best net form (EE_D) on grey images. The wide stem makes even the smallest
  // subnet take about 0.4 ms on one thread of a current core, well above what calling a runtime costs.
  'fashion-tiny': {
    name: 'fashion-tiny',
    inputChannels: 1,
    classes: 10,
    mean: [0.286],
    std: [0.353],
    resolutions: [28, 32, 36],
    stem: { channels: 128, stride: 1 },
    stages: [
      { channels: 48, stride: 2, activation: 'relu', squeezeExcite: false },
      { channels: 72, stride: 1, activation: 'relu', squeezeExcite: true },
      { channels: 112, stride: 2, activation: 'h_swish', squeezeExcite: false },
    ],
    kernels: [3, 5, 7],
    expands: [2, 3, 4],
    depths: [1, 2, 3],
    exits: 'early',
    denseSkips: true,
    head: { expand: 4, mix: 1 },
  },
  // The published Once-For-All space (arXiv 1908.09791, width multiplier 1.0, ImageNet).
  'ofa-mbv3-w1.0': {
    name: 'ofa-mbv3-w1.0',
    inputChannels: 3,
    classes: 1000,
    mean: [0.485, 0.456, 0.406],
    std: [0.229, 0.224, 0.225],
    resolutions: [160, 176, 192, 208, 224],
    stem: { channels: 16, stride: 2 },
    stages: [
      { channels: 24, stride: 2, activation: 'relu', squeezeExcite: false },
      { channels: 40, stride: 2, activation: 'relu', squeezeExcite: true },
      { channels: 80, stride: 2, activation: 'h_swish', squeezeExcite: false },
      { channels: 112, stride: 1, activation: 'h_swish', squeezeExcite: true },
      { channels: 160, stride: 2, activation: 'h_swish', squeezeExcite: true },
    ],
    kernels: [3, 5, 7],
    expands: [3, 4, 6],
    depths: [2, 3, 4],
    exits: 'single',
    denseSkips: false,
    head: { expand: 6, mix: 8 },
  },
};

/** Identity of the choices: first 16 hex digits of SHA-256 over the space's canonical JSON. Trained weights, subnets and predictors are bound to it. */
export function spaceId(space: Space): string {
  return createHash('sha256').update(canonicalJson(space)).digest('hex').slice(0, 16);
}

/** Parses an untrusted value; the message lists every mistake at once. */
export function parseSpace(value: unknown, origin: string): Outcome<Space> {
  const parsed = spaceSchema.safeParse(value);
  if (!parsed.success) {
    const mistakes = parsed.error.issues.map((issue) => `${issue.path.join('.') || '(whole)'}: ${issue.message}`);
    return failed('INVALID_INPUT', `${origin} is not a search space: ${mistakes.join('; ')}.`);
  }
  const space = parsed.data;
  const mistakes: string[] = [];
  for (const key of ['resolutions', 'kernels', 'expands', 'depths'] as const) {
    if (space[key].some((value, i) => i > 0 && value <= (space[key][i - 1] ?? 0))) mistakes.push(`${key} must ascend without repeats`);
  }
  for (const key of ['mean', 'std'] as const) {
    if (space[key].length !== space.inputChannels) mistakes.push(`${key} needs ${space.inputChannels} values, has ${space[key].length}`);
  }
  if (mistakes.length > 0) return failed('INVALID_INPUT', `${origin} is not a search space: ${mistakes.join('; ')}.`);
  return ok(space);
}

/** A preset by name, or a JSON file by path. */
export function loadSpace(nameOrFile: string): Outcome<Space> {
  const preset = PRESETS[nameOrFile];
  if (preset !== undefined) return ok(preset);
  try {
    return parseSpace(JSON.parse(readFileSync(nameOrFile, 'utf8')), nameOrFile);
  } catch (error) {
    const known = Object.keys(PRESETS).join(', ');
    return failed('NOT_FOUND', `No space "${nameOrFile}": it is neither a preset (${known}) nor a readable JSON file (${String(error)}).`);
  }
}

/** JSON with sorted keys and no white space, so that equal values have equal bytes. */
export function canonicalJson(value: unknown): string {
  if (Array.isArray(value)) return `[${value.map(canonicalJson).join(',')}]`;
  if (value !== null && typeof value === 'object') {
    const entries = Object.entries(value).sort(([a], [b]) => (a < b ? -1 : 1));
    return `{${entries.map(([key, entry]) => `${JSON.stringify(key)}:${canonicalJson(entry)}`).join(',')}}`;
  }
  return JSON.stringify(value);
}
