// The choices a supernet offers, as data. A new space is a new value (a preset here or a JSON file), never new code.
import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { z } from 'zod';
import { failed, ok, type Outcome } from '@ofa-fleet/shared/outcome.ts';

const count = z.int().min(1);
const ascending = <T extends z.ZodType<number>>(value: T) =>
  z
    .array(value)
    .min(1)
    .refine((values) => values.every((entry, i) => i === 0 || entry > (values[i - 1] as number)), 'must ascend without repeats');

const stageSchema = z.strictObject({
  /** Output channels of every block of the stage. */
  channels: count,
  /** Stride of the first block; the others have stride 1. */
  stride: z.union([z.literal(1), z.literal(2)]),
  activation: z.enum(['relu', 'h_swish']),
  squeezeExcite: z.boolean(),
});

/** Bits of a branch mask: which of a parallel block's branches are active. Numbers and order are OFAv2's (arXiv 2302.01888): 4 is MBConv alone. */
export const BRANCH = { mbConv: 4, pointwise: 2, third: 1 } as const;

const parallelSchema = z.strictObject({
  /** Branch masks, ascending; elastic per block. Their union must be one of them, since it is the largest net's, and must hold the MBConv. */
  masks: ascending(z.int().min(1).max(7)),
  /** `transformation`: pool -> 1x1 convolution where channels change -> batch norm -> activation; `attention`: over 7x7 neighbourhoods. */
  third: z.enum(['transformation', 'attention']),
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
  resolutions: ascending(count),
  /** Stem: conv 3x3 (h_swish) then a fixed MBConv with expand ratio 1 (relu), both of this width. */
  stem: z.strictObject({ channels: count, stride: z.union([z.literal(1), z.literal(2)]) }),
  stages: z.array(stageSchema).min(1).max(8),
  /** Depthwise kernel sides, ascending, out of 3, 5, 7 and starting anywhere; elastic per block. */
  kernels: ascending(z.union([z.literal(3), z.literal(5), z.literal(7)])),
  /** Expand ratios, ascending; elastic per block. */
  expands: ascending(z.number().min(1).max(8)),
  /** Blocks per stage, ascending; elastic per stage: the first d blocks are kept. */
  depths: ascending(count),
  /** `early`: a classifier after each stage, a subnet ends at one of them; `single`: only after the last (OFAv2, EE and SE nets). */
  exits: z.enum(['early', 'single']),
  /** Intra-stage dense skips (OFAv2, D nets). */
  denseSkips: z.boolean(),
  /** Parallel blocks (OFAv2, P nets): each block is the sum of its active branches. Absent where a block is an MBConv and nothing else. */
  parallel: parallelSchema.optional(),
  /**
   * Width of the exit heads: relative to the stage's channels c, conv1x1 c -> expand·c, then linear expand·c -> mix·c; or, where they are no
   * whole multiples, as in nets whose width multiplier is 0.33, the two widths of each exit, first exit first. `headWidths` reads either.
   */
  head: z.strictObject({ expand: count.optional(), mix: count.optional(), widths: z.array(z.tuple([count, count])).optional() }),
});

export type Space = Readonly<z.infer<typeof spaceSchema>>;

/** The stages of OFA-MobileNetV3 (arXiv 1908.09791) at given widths and strides: relu, then h_swish; squeeze-and-excitation where it has it. */
function mobileNetV3Stages(channels: readonly number[], strides: readonly (1 | 2)[]): Space['stages'] {
  return channels.map((width, s) => ({
    channels: width,
    stride: strides[s] as 1 | 2,
    activation: s < 2 ? 'relu' : 'h_swish',
    squeezeExcite: s === 1 || s >= 3,
  }));
}

const PUBLISHED_CHOICES: Pick<Space, 'kernels' | 'expands' | 'depths' | 'head'> = {
  kernels: [3, 5, 7],
  expands: [3, 4, 6],
  depths: [2, 3, 4],
  head: { expand: 6, mix: 8 },
};
/** Widths of the published nets, [16, 24, 40, 80, 112, 160] times 1.0 and 1.2, rounded to multiples of 8; the first is the stem's. */
const PUBLISHED_WIDTHS = { 'w1.0': [16, 24, 40, 80, 112, 160], 'w1.2': [24, 32, 48, 96, 136, 192] };

/** Once-For-All's published space for ImageNet (arXiv 1908.09791). */
function imageNet(width: keyof typeof PUBLISHED_WIDTHS): Space {
  const [stem = 0, ...channels] = PUBLISHED_WIDTHS[width];
  return {
    name: `ofa-mbv3-${width}`,
    inputChannels: 3,
    classes: 1000,
    mean: [0.485, 0.456, 0.406],
    std: [0.229, 0.224, 0.225],
    resolutions: Array.from({ length: 25 }, (_, i) => 128 + 4 * i),
    stem: { channels: stem, stride: 2 },
    stages: mobileNetV3Stages(channels, [2, 2, 2, 1, 2]),
    ...PUBLISHED_CHOICES,
    exits: 'single',
    denseSkips: false,
  };
}

/**
 * OFAv2's space for Tiny ImageNet in its best form, EE_D (arXiv 2302.01888): the ImageNet net, strides and all, on images of 64 pixels, so
 * that the last stage sees 2x2 pixels. That is as published, and why early exits help it so much.
 */
function tinyImageNet(width: keyof typeof PUBLISHED_WIDTHS): Space {
  return {
    ...imageNet(width),
    name: `ofav2-64-${width}`,
    classes: 200,
    mean: [0.4802, 0.4481, 0.3975],
    std: [0.277, 0.2691, 0.2821],
    resolutions: [48, 52, 56, 60, 64],
    exits: 'early',
    denseSkips: true,
  };
}

/**
 * OFAv2's net for images of 32 pixels. With a stem of stride 1 and the published strides after it, every stage sees the map sides that it has
 * on Tiny ImageNet at 64 pixels (16, 8, 4, 4, 2), so that exits mean the same; the narrower nets are what a CPU trains in hours.
 */
function small(stem: number, channels: readonly number[]): Omit<Space, 'name' | 'inputChannels' | 'classes' | 'mean' | 'std'> {
  return {
    resolutions: [24, 28, 32],
    stem: { channels: stem, stride: 1 },
    stages: mobileNetV3Stages(channels, [2, 2, 2, 1, 2]),
    ...PUBLISHED_CHOICES,
    exits: 'early',
    denseSkips: true,
  };
}

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
  // Half the published width: 2.1 million parameters, 1.6 to 21 million MACs. The statistics of CIFAR-100 differ by 0.02 at most.
  cifar: {
    name: 'cifar',
    inputChannels: 3,
    classes: 10,
    mean: [0.4914, 0.4822, 0.4465],
    std: [0.247, 0.2435, 0.2616],
    ...small(16, [16, 24, 40, 56, 80]),
  },
  // A quarter of the published width: 0.7 million parameters, up to 8.5 million MACs, for experiments that train many supernets.
  fashion: {
    name: 'fashion',
    inputChannels: 1,
    classes: 10,
    mean: [0.286],
    std: [0.353],
    ...small(8, [8, 16, 24, 32, 40]),
  },
  'ofa-mbv3-w1.0': imageNet('w1.0'),
  'ofa-mbv3-w1.2': imageNet('w1.2'),
  'ofav2-64-w1.0': tinyImageNet('w1.0'),
  'ofav2-64-w1.2': tinyImageNet('w1.2'),
};

/** Identity of the choices: first 16 hex digits of SHA-256 over the space's canonical JSON. Trained weights, subnets and predictors are bound to it. */
export function spaceId(space: Space): string {
  return createHash('sha256').update(canonicalJson(space)).digest('hex').slice(0, 16);
}

/** Parses an untrusted value; the message lists every mistake at once. */
export function parseSpace(value: unknown, origin: string): Outcome<Space> {
  const parsed = spaceSchema.safeParse(value);
  const mistakes = parsed.success ? [] : parsed.error.issues.map((issue) => `${issue.path.join('.') || '(whole)'}: ${issue.message}`);
  // what ties two fields together, each pair where both are well formed, beside the other mistakes
  const { shape } = spaceSchema;
  const field = <K extends keyof Space>(key: K): Space[K] | undefined => {
    const entry: unknown = typeof value === 'object' && value !== null ? (value as Record<string, unknown>)[key] : undefined;
    const one = shape[key].safeParse(entry);
    return one.success ? (one.data as Space[K]) : undefined;
  };
  const channels = field('inputChannels');
  for (const key of ['mean', 'std'] as const) {
    const values = field(key);
    if (channels !== undefined && values !== undefined && values.length !== channels)
      mistakes.push(`${key}: needs ${channels} values, has ${values.length}`);
  }
  const head = field('head');
  const [exits, stages] = [field('exits'), field('stages')];
  if (head !== undefined && exits !== undefined && stages !== undefined) {
    const wanted = exits === 'early' ? stages.length : 1;
    const relative = head.expand !== undefined && head.mix !== undefined;
    if (head.widths === undefined ? !relative : head.expand !== undefined || head.mix !== undefined)
      mistakes.push('head: needs expand and mix, or widths instead of them');
    else if (head.widths !== undefined && head.widths.length !== wanted)
      mistakes.push(`head.widths: needs ${wanted} pairs, one for each exit, has ${head.widths.length}`);
  }
  const parallel = field('parallel');
  if (parallel !== undefined) {
    const union = parallel.masks.reduce((all, mask) => all | mask, 0);
    if ((union & BRANCH.mbConv) === 0 || !parallel.masks.includes(union))
      mistakes.push(`parallel.masks: ${parallel.masks.join(', ')} must hold their union with the MBConv, ${union | BRANCH.mbConv}`);
    const odd = parallel.third === 'attention' ? (field('stages') ?? []).find((stage) => stage.channels % 2 === 1) : undefined;
    if (odd !== undefined) mistakes.push(`stages: attention needs even channels, one has ${odd.channels}`);
  }
  return parsed.success && mistakes.length === 0
    ? ok(parsed.data)
    : failed('INVALID_INPUT', `${origin} is not a search space: ${mistakes.join('; ')}.`);
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

/** JSON with sorted keys and no white space, so that equal values have equal bytes; a field that is undefined is absent. */
export function canonicalJson(value: unknown): string {
  if (Array.isArray(value)) return `[${value.map(canonicalJson).join(',')}]`;
  if (value !== null && typeof value === 'object') {
    const entries = Object.entries(value)
      .filter(([, entry]) => entry !== undefined)
      .sort(([a], [b]) => (a < b ? -1 : 1));
    return `{${entries.map(([key, entry]) => `${JSON.stringify(key)}:${canonicalJson(entry)}`).join(',')}}`;
  }
  return JSON.stringify(value);
}
