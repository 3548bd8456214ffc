// Progressive shrinking as a table: the full net first, then kernels, height (exits), depth and width become elastic, one value at a time
// (Once-For-All, arXiv 1908.09791; order of OFAv2, arXiv 2302.01888). Resolutions are elastic from the start.
import type { Space } from '../../space.ts';
import { uniformSubnet, type Block, type Subnet } from '../../subnet.ts';
import type { Random } from './random.ts';
import type { PhaseSettings, Recipe } from './recipe.ts';

export type PhaseKind = 'full' | 'kernel' | 'height' | 'depth' | 'width';

/** What may be drawn for each gene; ascending. */
export interface Choices {
  readonly kernels: readonly number[];
  /** Numbers of active stages. */
  readonly heights: readonly number[];
  readonly depths: readonly number[];
  readonly expands: readonly number[];
}

export interface Phase {
  /** e.g. `height-2` */
  readonly name: string;
  readonly kind: PhaseKind;
  readonly choices: Choices;
  readonly epochs: number;
  readonly warmUpEpochs: number;
  readonly rate: number;
  readonly subnetsPerStep: number;
  readonly dropout: number;
}

/** The phases that `space` needs: an axis with one value has none. */
export function phasesOf(space: Space, recipe: Recipe): Phase[] {
  const largest = <T>(values: readonly T[]): T[] => values.slice(-1);
  const heights = space.exits === 'early' ? space.stages.map((_, s) => s + 1) : [space.stages.length];
  let choices: Choices = {
    kernels: largest(space.kernels),
    heights: largest(heights),
    depths: largest(space.depths),
    expands: largest(space.expands),
  };
  const phases: Phase[] = [];
  const add = (kind: PhaseKind, step: number, steps: number) => {
    const settings = recipe.phases[kind];
    phases.push({
      name: steps === 1 ? kind : `${kind}-${step}`,
      kind,
      choices,
      epochs: stepValue(settings, 'epochs', step, steps),
      warmUpEpochs: stepValue(settings, 'warmUpEpochs', step, steps),
      rate: stepValue(settings, 'rates', step, steps),
      subnetsPerStep: settings.subnetsPerStep,
      dropout: settings.dropout,
    });
  };
  /** One phase for each value that joins the choices, from the second largest down. */
  const shrink = (kind: PhaseKind, axis: keyof Choices, values: readonly number[]) => {
    for (let step = 1; step < values.length; step++) {
      choices = { ...choices, [axis]: values.slice(values.length - 1 - step) };
      add(kind, step, values.length - 1);
    }
  };
  add('full', 1, 1);
  if (space.kernels.length > 1) {
    choices = { ...choices, kernels: space.kernels }; // all at once, as published
    add('kernel', 1, 1);
  }
  shrink('height', 'heights', heights);
  shrink('depth', 'depths', space.depths);
  shrink('width', 'expands', space.expands);
  return phases;
}

function stepValue(settings: PhaseSettings, key: 'epochs' | 'warmUpEpochs' | 'rates', step: number, steps: number): number {
  const values = settings[key];
  return values[Math.max(0, values.length - 1 - (steps - step))] as number;
}

/** A subnet with every gene drawn independently and uniformly from the choices. */
export function drawSubnet(choices: Choices, resolution: number, random: Random): Subnet {
  const block = (): Block => ({ kernel: random.of(choices.kernels), expand: random.of(choices.expands) });
  const stages = Array.from({ length: random.of(choices.heights) }, () => Array.from({ length: random.of(choices.depths) }, block));
  return { resolution, stages };
}

/**
 * Subnets to score a phase by: one value per axis for the whole net, all combinations of least and most (all kernels in the kernel
 * phase) at the least and most resolution. Where there are more than `limit`, the extremes and a random choice of the others.
 */
export function validationSubnets(space: Space, phase: Phase, limit: number, random: Random): Subnet[] {
  const ends = (values: readonly number[]) => (values.length < 2 ? values : [values[0] as number, values[values.length - 1] as number]);
  const { choices } = phase;
  const all: Subnet[] = [];
  for (const resolution of ends(space.resolutions)) {
    for (const kernel of phase.kind === 'kernel' ? choices.kernels : ends(choices.kernels)) {
      for (const stages of ends(choices.heights)) {
        for (const depth of ends(choices.depths)) {
          for (const expand of ends(choices.expands)) all.push(uniformSubnet(space, { resolution, kernel, expand, depth, stages }));
        }
      }
    }
  }
  if (all.length <= limit) return all;
  const inner = random.shuffle(all.slice(1, -1)).slice(0, Math.max(0, limit - 2));
  return [all[0] as Subnet, ...inner, all[all.length - 1] as Subnet];
}
