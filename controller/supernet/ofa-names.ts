// Under which keys and in which layouts Once-For-All's PyTorch code (github.com/mit-han-lab/once-for-all) and OFAv2's keep the tensors of a
// supernet: one table for both ways, import and export.
import type { Space } from '../space.ts';
import { parametersOf, type Parameter } from './parameters.ts';

/** `ofa`: OFAMobileNetV3 (`blocks.7.conv…`), single exit, no skips; `ofav2`: all of OFAv2's nets (`body_stages.1.layers.2.conv…`). */
export type KeyStyle = 'ofa' | 'ofav2';

export interface OfaEntry {
  readonly parameter: Parameter;
  readonly key: string;
  /** As torch has it, e.g. [out, in, k, k]. */
  readonly shape: readonly number[];
  /** Axes of `shape` in the order that the parameter has them; axes of length 1 may follow. */
  readonly order: readonly number[];
}

/** Under the key of a batch norm's γ without `weight`; an int64 scalar that nobody needs. */
export const BATCHES_TRACKED = 'num_batches_tracked';

/** The style in which the reference's own class for this space writes. */
export function styleOf(space: Space): KeyStyle {
  return space.exits === 'single' && !space.denseSkips && space.parallel === undefined ? 'ofa' : 'ofav2';
}

/** One entry for each parameter, in their order. */
export function ofaEntries(space: Space, style: KeyStyle): OfaEntry[] {
  return parametersOf(space).map((parameter) => ({ parameter, key: keyOf(space, style, parameter.name), ...layoutOf(parameter) }));
}

/** Every key of a state dict of that space, batch counters too. */
export function ofaKeys(space: Space, style: KeyStyle): string[] {
  return ofaEntries(space, style).flatMap(({ parameter, key }) =>
    parameter.kind === 'variance' ? [key, key.replace(/running_var$/, BATCHES_TRACKED)] : [key],
  );
}

/**
 * A key without what differs between files of the same net: the old name of a block's convolution, and the doubled names of layers that were
 * elastic when the file was written.
 */
export function plainKey(key: string): string {
  return key
    .replace('.mobile_inverted_conv.', '.conv.')
    .replace('.bn.bn.', '.bn.')
    .replace('.conv.conv.weight', '.conv.weight')
    .replace('.linear.linear.', '.linear.');
}

const NORM_PARTS: Readonly<Record<string, string>> = { gamma: 'weight', beta: 'bias', mean: 'running_mean', variance: 'running_var' };
const CONVOLUTIONS: Readonly<Record<string, string>> = { expand: 'inverted_bottleneck', depthwise: 'depth_conv', project: 'point_linear' };

/** Learned offsets of attention: the first half of the channels by row, the second by column. */
const ATTENTION: Readonly<Record<string, string>> = { rows: 'rel_h', columns: 'rel_w' };

function keyOf(space: Space, style: KeyStyle, name: string): string {
  const [place = '', ...rest] = name.split('.');
  if (place === 'stem') return `${style === 'ofa' ? '' : 'head_stage.'}first_conv.${layerKey(rest, 'conv', 'bn')}`;
  if (place === 'first') {
    const [layer = '', ...part] = rest;
    return `${style === 'ofa' ? 'blocks.0' : 'head_stage.first_layer'}.conv.${CONVOLUTIONS[layer]}.${layerKey(part, 'conv', 'bn')}`;
  }
  if (place === 'stages') {
    const [stage, block, ...part] = rest;
    return blockKey(space, style, Number(stage), Number(block), part);
  }
  const [stage, layer, ...part] = rest;
  const exit = style === 'ofa' ? '' : space.exits === 'early' ? `exit_stages.${stage}.` : 'exit_stage.';
  if (layer === 'conv') return `${exit}final_expand_layer.${layerKey(part, 'conv', 'bn')}`;
  return layer === 'mix' ? `${exit}feature_mix_layer.conv.weight` : `${exit}classifier.linear.${part[0]}`;
}

function blockKey(space: Space, style: KeyStyle, stage: number, block: number, [layer = '', ...part]: readonly string[]): string {
  const number = 1 + stage * Math.max(...space.depths) + block;
  const layers = space.parallel === undefined ? 'layers' : 'layers_blocks';
  const place = style === 'ofa' ? `blocks.${number}` : `body_stages.${stage}.${layers}.${block}`;
  if (layer === 'pointwise') return `${place}.1.${layerKey(part, 'conv', 'bn')}`;
  if (layer === 'transformation')
    return part[0] === 'norm' ? `${place}.2.transformation.0.${NORM_PARTS[part[1] ?? '']}` : `${place}.2.conv1x1.${part[0]}`;
  if (layer === 'attention') return `${place}.2.${ATTENTION[part[0] ?? ''] ?? `${part[0]}_conv.weight`}`;
  const mbConv = `${place}${space.parallel === undefined ? '' : '.0'}.conv`;
  if (layer === 'squeeze') return `${mbConv}.depth_conv.se.fc.${part.join('.')}`;
  if (part[0]?.includes('to') === true) return `${mbConv}.depth_conv.conv.${part[0]}_matrix`;
  return `${mbConv}.${CONVOLUTIONS[layer]}.${layerKey(part, 'conv.conv', 'bn.bn')}`;
}

/** `weight` of a convolution, or a part of its batch norm. */
function layerKey([kind = '', part = '']: readonly string[], conv: string, norm: string): string {
  return kind === 'norm' ? `${norm}.${NORM_PARTS[part]}` : `${conv}.${kind}`;
}

/** Convolutions [k, k, in, out] are [out, in, k, k] there, depthwise ones [k, k, C, 1] are [C, 1, k, k], linears [in, out] are [out, in]. */
function layoutOf({ name, kind, shape }: Parameter): Pick<OfaEntry, 'shape' | 'order'> {
  const [first = 1, second = 1, third = 1, fourth = 1] = shape;
  if (kind === 'conv' && shape.length === 4) {
    if (name.endsWith('.depthwise.weight')) return { shape: [third, 1, first, second], order: [2, 3, 0, 1] };
    return { shape: [fourth, third, first, second], order: [2, 3, 1, 0] };
  }
  if (kind === 'linear') {
    // the first of the two linears of an exit is a 1x1 convolution there
    return name.endsWith('.mix.weight') ? { shape: [second, first, 1, 1], order: [1, 0, 2, 3] } : { shape: [second, first], order: [1, 0] };
  }
  if (kind === 'offset') {
    // [7, C / 2] by row or column here
    return name.endsWith('.rows')
      ? { shape: [second, 1, 1, first, 1], order: [3, 0, 1, 2, 4] }
      : { shape: [second, 1, 1, 1, first], order: [4, 0, 1, 2, 3] };
  }
  return { shape, order: shape.map((_, axis) => axis) };
}
