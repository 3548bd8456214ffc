// The search space of a supernet that Once-For-All's or OFAv2's PyTorch code trained, read off its tensors' shapes: widths, classes, largest
// kernel, expand ratio and depth, squeeze-and-excitation. The rest is the same in all their MobileNetV3 supernets and stands here.
import { failed, ok, type Outcome } from '@ofa-fleet/shared/outcome.ts';
import { parseSpace, type Space } from '../space.ts';
import { plainKey, type KeyStyle } from './ofa-names.ts';
import { midChannels } from './widths.ts';

const STRIDES = [2, 2, 2, 1, 2] as const;
const ACTIVATIONS = ['relu', 'relu', 'h_swish', 'h_swish', 'h_swish'] as const;
const KERNELS = [3, 5, 7] as const;
const EXPANDS = [3, 4, 6];
const DEPTHS = [2, 3, 4];
const ALL_MASKS = [1, 2, 3, 4, 5, 6, 7];

/** What no tensor tells. */
export interface SpaceWishes {
  readonly name: string;
  readonly resolutions: readonly number[];
  readonly mean: readonly number[];
  readonly std: readonly number[];
  /** One of the eight by name, e.g. `EE_D`; null where the keys say enough. */
  readonly architecture: string | null;
}

export interface InferredSpace {
  readonly space: Space;
  readonly style: KeyStyle;
}

/** `shapes`: of all tensors by key, in torch's layouts. Fails with INVALID_INPUT where they are not those of such a supernet. */
export function inferSpace(shapes: ReadonlyMap<string, readonly number[]>, wishes: SpaceWishes, origin: string): Outcome<InferredSpace> {
  const plain = new Map([...shapes].map(([key, shape]) => [plainKey(key), shape]));
  const style = keyStyle(plain);
  if (style === null) {
    const some = [...shapes.keys()].slice(0, 5).join(', ');
    return failed(
      'INVALID_INPUT',
      `${origin} has neither "first_conv.conv.weight" (Once-For-All) nor "head_stage.first_conv.conv.weight" (OFAv2); its keys begin with ${some}. Only their MobileNetV3 supernets can be imported.`,
    );
  }
  const isParallel = [...plain.keys()].some((key) => key.includes('.layers_blocks.'));
  const isAttention = [...plain.keys()].some((key) => key.endsWith('.2.query_conv.weight'));
  const isEarly = plain.has('exit_stages.0.classifier.linear.weight');
  const blocks = blockPrefixes(plain, style, isParallel);
  const deepest = blocks.length / STRIDES.length;
  const lastExit = style === 'ofa' ? '' : isEarly ? `exit_stages.${STRIDES.length - 1}.` : 'exit_stage.';
  if (!plain.has(`${lastExit}final_expand_layer.conv.weight`)) {
    return failed(
      'INVALID_INPUT',
      `${origin} is not a whole MobileNetV3 supernet: it lacks ${lastExit}final_expand_layer.conv.weight (nets of ProxylessNAS have none).`,
    );
  }
  if (!Number.isInteger(deepest) || deepest < 1) {
    return failed(
      'INVALID_INPUT',
      `${origin} has ${blocks.length} elastic blocks, ${STRIDES.length} stages of equal depth are expected, 20 blocks in all. If it is one subnet ` +
        'that was cut out, import the supernet that it came from, and cut it out again: ofa-fleet export FILE --subnet SUBNET.json.',
    );
  }
  const missing: string[] = [];
  const side = (key: string, axis: number): number => {
    const shape = plain.get(plainKey(key));
    if (shape?.[axis] === undefined) missing.push(key);
    return shape?.[axis] ?? 1;
  };
  const head = style === 'ofa' ? '' : 'head_stage.';
  const firstOf = (s: number) => blocks[s * deepest] as string;
  const channels = STRIDES.map((_, s) => side(`${firstOf(s)}.point_linear.conv.conv.weight`, 0));
  const [firstMid, firstInput] = [0, 1].map((axis) => side(`${firstOf(0)}.inverted_bottleneck.conv.conv.weight`, axis)) as [number, number];
  const largestKernel = side(`${firstOf(0)}.depth_conv.conv.conv.weight`, 2);
  const heads = STRIDES.flatMap((_, s) => (isEarly ? [`exit_stages.${s}.`] : s === STRIDES.length - 1 ? [lastExit] : [])).map(
    (exit): [number, number] => [side(`${exit}final_expand_layer.conv.weight`, 0), side(`${exit}feature_mix_layer.conv.weight`, 0)],
  );
  const stem = side(`${head}first_conv.conv.weight`, 0);
  const inputChannels = side(`${head}first_conv.conv.weight`, 1);
  const classes = side(`${lastExit}classifier.linear.weight`, 0);
  if (missing.length > 0) return failed('INVALID_INPUT', `${origin} is not a whole supernet: it lacks ${missing.join(', ')}.`);

  const largestExpand = EXPANDS.find((expand) => midChannels(firstInput, expand) === firstMid) ?? firstMid / firstInput;
  const space = parseSpace(
    {
      name: wishes.name,
      inputChannels,
      classes,
      mean: wishes.mean,
      std: wishes.std,
      resolutions: wishes.resolutions,
      stem: { channels: stem, stride: 2 },
      stages: channels.map((width, s) => ({
        channels: width,
        stride: STRIDES[s],
        activation: ACTIVATIONS[s],
        squeezeExcite: plain.has(`${firstOf(s)}.depth_conv.se.fc.reduce.weight`),
      })),
      kernels: kernelsOf(plain, firstOf(0), largestKernel),
      expands: upTo(EXPANDS, largestExpand),
      depths: upTo(DEPTHS, deepest),
      exits: isEarly ? 'early' : 'single',
      denseSkips: false,
      head: headOf(heads, isEarly ? channels : channels.slice(-1)),
      ...(isParallel ? { parallel: { masks: ALL_MASKS, third: isAttention ? 'attention' : 'transformation' } } : {}),
    } satisfies Record<keyof Omit<Space, 'parallel'>, unknown>,
    `The net in ${origin}`,
  );
  if (!space.ok) return space;
  return withNamedArchitecture(space.value, { style, isParallel, isEarly }, wishes, origin);
}

/** `heads`: the two widths of each exit, `channels`: of the stage before it. Relative where all are the same whole multiples, as published ones are. */
function headOf(heads: [number, number][], channels: readonly number[]): Space['head'] {
  const ratios = ([0, 1] as const).map((part) => new Set(heads.map((widths, i) => widths[part] / (channels[i] as number))));
  const [expand, mix] = ratios.map(([ratio]) => ratio as number);
  const areRelative = ratios.every((values) => values.size === 1) && Number.isInteger(expand) && Number.isInteger(mix);
  return areRelative ? { expand, mix } : { widths: heads };
}

/** Dense skips leave no trace in the keys of OFAv2's nets, so the user has to say which it was. */
function withNamedArchitecture(
  space: Space,
  keys: { readonly style: KeyStyle; readonly isParallel: boolean; readonly isEarly: boolean },
  { architecture }: SpaceWishes,
  origin: string,
): Outcome<InferredSpace> {
  const { style, isParallel, isEarly } = keys;
  const fitting = (isParallel ? ['P', 'DP'] : ['B', 'D']).map((form) => `${isEarly ? 'EE' : 'SE'}_${form}`);
  const named = architecture?.toUpperCase() ?? (style === 'ofa' ? 'SE_B' : null);
  if (named === null) {
    return failed('INVALID_INPUT', `The keys of ${origin} are those of ${fitting.join(' and of ')} alike: say which it is with --arch.`);
  }
  if (!fitting.includes(named)) {
    return failed('INVALID_INPUT', `The keys of ${origin} are those of ${fitting.join(' or ')}, not of ${named}: give another --arch.`);
  }
  return ok({ space: { ...space, denseSkips: named.includes('_D') }, style });
}

function keyStyle(plain: ReadonlyMap<string, unknown>): KeyStyle | null {
  if (plain.has('first_conv.conv.weight')) return 'ofa';
  return plain.has('head_stage.first_conv.conv.weight') ? 'ofav2' : null;
}

/** Where the MBConvs of all elastic blocks are, in order. */
function blockPrefixes(plain: ReadonlyMap<string, unknown>, style: KeyStyle, isParallel: boolean): string[] {
  const found: string[] = [];
  const keys = [...plain.keys()];
  const has = (prefix: string): boolean => keys.some((key) => key.startsWith(`${prefix}.`)) && found.push(prefix) > 0;
  if (style === 'ofa') {
    for (let i = 1; has(`blocks.${i}.conv`); i++);
    return found;
  }
  for (let s = 0; s < STRIDES.length; s++) {
    for (let b = 0; has(`body_stages.${s}.${isParallel ? `layers_blocks.${b}.0` : `layers.${b}`}.conv`); b++);
  }
  return found;
}

/** Kernel sides by the names of the matrices that turn one into the next; the usual ones where there is none. */
function kernelsOf(plain: ReadonlyMap<string, unknown>, block: string, largest: number): number[] {
  const names = [...plain.keys()].flatMap((key) => {
    const [, from, to] = key.startsWith(`${block}.`) ? (/\.([1-9])to([1-9])_matrix$/.exec(key) ?? []) : [];
    return from === undefined ? [] : [Number(from), Number(to)];
  });
  return names.length === 0 ? upTo(KERNELS, largest) : [...new Set([...names, largest])].sort((a, b) => a - b);
}

/** The usual choices that the largest allows, and the largest itself. */
function upTo(usual: readonly number[], largest: number): number[] {
  return [...usual.filter((value) => value < largest), largest];
}
