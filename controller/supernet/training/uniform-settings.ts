// The nets that a supernet is judged by: one value per axis for the whole net. Several of them differ in their exit only and share all the
// rest, so one pass through the deepest scores them together.
import type { Space } from '../../space.ts';
import { largestSubnet, smallestSubnet, subnetId, uniformSubnet, type Subnet } from '../../subnet.ts';
import { allChoices, type Choices, type Phase } from './phases.ts';
import type { Random } from './random.ts';

/** Nets that are one another's beginnings: `subnet` is the deepest, `heights` are the numbers of stages that are asked for, ascending. */
export interface Trunk {
  readonly subnet: Subnet;
  readonly heights: readonly number[];
}

/** Least, middle and most of the space's resolutions: where nets are tested. */
function testedResolutions({ resolutions }: Space): number[] {
  const at = (i: number) => resolutions[i] as number;
  return [...new Set([at(0), at(Math.floor((resolutions.length - 1) / 2)), at(resolutions.length - 1)])];
}

/**
 * Subnets to score a phase by: all combinations of least and most of each axis (all kernels in the kernel phase) at the least and most
 * resolution. Where there are more than `limit`, the extremes and a random choice of the others. The full phase has one net, scored at
 * every tested resolution.
 */
export function validationSubnets(space: Space, phase: Phase, limit: number, random: Random): Subnet[] {
  if (phase.only !== null) return [phase.only];
  if (phase.kind === 'full') return testedResolutions(space).map((resolution) => ({ ...largestSubnet(space), resolution }));
  const ends = <T>(values: readonly T[]) => (values.length < 2 ? values : [values[0] as T, values[values.length - 1] as T]);
  const { choices } = phase;
  const all = uniformSubnets(space, {
    resolutions: ends(space.resolutions),
    kernels: phase.kind === 'kernel' ? choices.kernels : ends(choices.kernels),
    ...(choices.masks === undefined ? {} : { masks: ends(choices.masks) }),
    heights: ends(choices.heights),
    depths: ends(choices.depths),
    expands: ends(choices.expands),
  });
  if (all.length <= limit) return all;
  const inner = random.shuffle(all.slice(1, -1)).slice(0, Math.max(0, limit - 2));
  return [all[0] as Subnet, ...inner, all[all.length - 1] as Subnet];
}

/**
 * Every uniform setting of the space at the tested resolutions, as trunks with all their exits. Where the settings are more than `limit`,
 * the largest and the smallest genes and a random choice of the other trunks.
 */
export function testTrunks(space: Space, limit: number, random: Random): Trunk[] {
  const all = allChoices(space);
  const { heights } = all;
  const deepest = uniformSubnets(space, { ...all, resolutions: testedResolutions(space), heights: heights.slice(-1) });
  const most = Math.max(2, Math.floor(limit / heights.length));
  if (deepest.length <= most) return deepest.map((subnet) => ({ subnet, heights }));
  const extremes = [smallestTrunk(space), largestSubnet(space)];
  const ids = new Set(extremes.map((subnet) => subnetId(space, subnet)));
  const others = random.shuffle(deepest.filter((subnet) => !ids.has(subnetId(space, subnet)))).slice(0, most - extremes.length);
  return [...extremes, ...others].map((subnet) => ({ subnet, heights }));
}

/** The net of the smallest genes, going on to the last stage. */
export function smallestTrunk(space: Space): Subnet {
  const { resolution, stages } = smallestSubnet(space);
  return { resolution, stages: space.stages.map(() => stages[0] as Subnet['stages'][number]) };
}

/** Groups uniform subnets into as few trunks as can be; order by first appearance. */
export function trunksOf(subnets: readonly Subnet[]): Trunk[] {
  const trunks = new Map<string, Trunk>();
  for (const subnet of subnets) {
    const key = JSON.stringify([subnet.resolution, subnet.stages[0]]);
    const { subnet: deepest, heights } = trunks.get(key) ?? { subnet, heights: [] };
    trunks.set(key, {
      subnet: subnet.stages.length > deepest.stages.length ? subnet : deepest,
      heights: [...new Set([...heights, subnet.stages.length])].sort((a, b) => a - b),
    });
  }
  return [...trunks.values()];
}

/** All combinations; those that are the same net (dead genes of blocks without MBConv) once. */
function uniformSubnets(space: Space, choices: Choices & { readonly resolutions: readonly number[] }): Subnet[] {
  const found = new Map<string, Subnet>();
  for (const resolution of choices.resolutions) {
    for (const mask of choices.masks ?? [undefined]) {
      for (const kernel of choices.kernels) {
        for (const stages of choices.heights) {
          for (const depth of choices.depths) {
            for (const expand of choices.expands) {
              const subnet = uniformSubnet(space, { resolution, kernel, expand, depth, stages, ...(mask === undefined ? {} : { mask }) });
              found.set(JSON.stringify(subnet), subnet);
            }
          }
        }
      }
    }
  }
  return [...found.values()];
}
