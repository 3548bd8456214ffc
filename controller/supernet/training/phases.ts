// Progressive shrinking as a table: the full net first, then kernels, level (branches of parallel blocks), height (exits), depth and width
// become elastic, one value at a time (Once-For-All, arXiv 1908.09791; order of OFAv2, arXiv 2302.01888). Resolutions are elastic from the
// start. A recipe may have one phase instead, in which everything is.
import type { Space } from '../../space.ts';
import { blockOf, type Block, type Subnet } from '../../subnet.ts';
import type { Random } from './random.ts';
import type { PhaseSettings, Recipe } from './recipe.ts';

/** `finetune` trains one given subnet alone. */
export type PhaseKind = 'full' | 'kernel' | 'level' | 'height' | 'depth' | 'width' | 'sandwich' | 'finetune';

/** What may be drawn for each gene; ascending. */
export interface Choices {
  readonly kernels: readonly number[];
  /** Branch masks; absent where the space has no parallel blocks. */
  readonly masks?: readonly number[];
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
  /** The one subnet that is trained; null where subnets are drawn from the choices. */
  readonly only: Subnet | null;
}

/** The phases that `space` needs: an axis with one value has none. */
export function phasesOf(space: Space, recipe: Recipe): Phase[] {
  const all = allChoices(space);
  if ('sandwich' in recipe.phases) return [phaseOf('sandwich', recipe.phases.sandwich, all)];
  const settings = recipe.phases;
  const largest = (values: readonly number[]) => values.slice(-1);
  let choices: Choices = {
    kernels: largest(all.kernels),
    ...(all.masks === undefined ? {} : { masks: largest(all.masks) }),
    heights: largest(all.heights),
    depths: largest(all.depths),
    expands: largest(all.expands),
  };
  const phases = [phaseOf('full', settings.full, choices)];
  if (all.kernels.length > 1) {
    choices = { ...choices, kernels: all.kernels }; // all at once, as published
    phases.push(phaseOf('kernel', settings.kernel, choices));
  }
  /** One phase for each value that joins the choices, from the second largest down. */
  const shrink = (kind: 'level' | 'height' | 'depth' | 'width', values: readonly number[], allow: (from: readonly number[]) => Choices) => {
    for (let step = 1; step < values.length; step++) {
      choices = allow(values.slice(values.length - 1 - step));
      phases.push(phaseOf(kind, settings[kind], choices, step, values.length - 1));
    }
  };
  const { masks } = all;
  if (masks !== undefined) {
    const counts = [...new Set(masks.map(branchesOf))].sort((a, b) => a - b);
    shrink('level', counts, (allowed) => ({ ...choices, masks: masks.filter((mask) => allowed.includes(branchesOf(mask))) }));
  }
  shrink('height', all.heights, (heights) => ({ ...choices, heights }));
  shrink('depth', all.depths, (depths) => ({ ...choices, depths }));
  shrink('width', all.expands, (expands) => ({ ...choices, expands }));
  return phases;
}

/** Everything that the space offers. */
export function allChoices(space: Space): Choices {
  return {
    kernels: space.kernels,
    ...(space.parallel === undefined ? {} : { masks: space.parallel.masks }),
    heights: space.exits === 'early' ? space.stages.map((_, s) => s + 1) : [space.stages.length],
    depths: space.depths,
    expands: space.expands,
  };
}

/** Number of active branches of a parallel block. */
function branchesOf(mask: number): number {
  return [1, 2, 4].filter((bit) => (mask & bit) !== 0).length;
}

/** Step `step` of `steps` of its kind. */
function phaseOf(kind: PhaseKind, settings: PhaseSettings, choices: Choices, step = 1, steps = 1): Phase {
  const value = (values: readonly number[]) => values[Math.max(0, values.length - 1 - (steps - step))] as number;
  return {
    name: steps === 1 ? kind : `${kind}-${step}`,
    kind,
    choices,
    epochs: value(settings.epochs),
    warmUpEpochs: value(settings.warmUpEpochs),
    rate: value(settings.rates),
    subnetsPerStep: settings.subnetsPerStep,
    dropout: settings.dropout,
    only: null,
  };
}

/** A subnet with every gene drawn independently and uniformly from the choices; kernel and expand ratio only where they are alive. */
export function drawSubnet(choices: Choices, resolution: number, random: Random): Subnet {
  const block = (): Block => {
    const mask = choices.masks === undefined ? null : random.of(choices.masks);
    return blockOf(mask, random.of(choices.kernels), random.of(choices.expands));
  };
  const stages = Array.from({ length: random.of(choices.heights) }, () => Array.from({ length: random.of(choices.depths) }, block));
  return { resolution, stages };
}
