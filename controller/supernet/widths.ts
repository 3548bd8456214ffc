// Channel counts inside an MBConv, by the rule that OFA's networks share, and sides of the maps: one place, since training, extraction and
// counting must agree.
import type { Space } from '../space.ts';

/** Nearest multiple of 8, at least 8, never more than 10 % below `value` (MobileNet's rule; OFA, arXiv 1908.09791). */
function makeDivisible(value: number): number {
  const rounded = Math.max(8, Math.floor((value + 4) / 8) * 8);
  return rounded < 0.9 * value ? rounded + 8 : rounded;
}

/** Channels between the expand and the project convolution, from the block's input channels and expand ratio. */
export function midChannels(inputChannels: number, expand: number): number {
  return makeDivisible(Math.round(inputChannels * expand));
}

/** Hidden units of squeeze-and-excitation for `mid` active channels. */
export function squeezeChannels(mid: number): number {
  return makeDivisible(Math.floor(mid / 4));
}

/** Widths of the exit head after stage `stage`, counted from 0: of its convolution, and of the linear layer that the classifier reads. */
export function headWidths(
  { head, stages, exits }: Pick<Space, 'head' | 'stages' | 'exits'>,
  stage: number,
): readonly [wide: number, mixed: number] {
  const own = head.widths?.[exits === 'early' ? stage : 0];
  if (own !== undefined) return own;
  const channels = stages[stage]?.channels ?? 0;
  return [(head.expand ?? 0) * channels, (head.mix ?? 0) * channels];
}

/**
 * Sides of the maps in pixels: after the stem (the input of the first stage), then after each stage. Padding is floor(k / 2), so a stride
 * divides a side, rounded up.
 */
export function mapSides(space: Space, resolution: number): number[] {
  const sides = [Math.ceil(resolution / space.stem.stride)];
  for (const { stride } of space.stages) sides.push(Math.ceil((sides[sides.length - 1] as number) / stride));
  return sides;
}
