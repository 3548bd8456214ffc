import { describe, expect, it } from 'vitest';
import { ARCHITECTURES, withArchitecture } from '../../../controller/architecture.ts';
import { PRESETS, type Space } from '../../../controller/space.ts';
import { largestSubnet, parseSubnet, smallestSubnet, subnetId, type Subnet } from '../../../controller/subnet.ts';
import { allChoices, drawSubnet, phasesOf, type Phase } from '../../../controller/supernet/training/phases.ts';
import { randomStream } from '../../../controller/supernet/training/random.ts';
import type { Recipe } from '../../../controller/supernet/training/recipe.ts';
import { RECIPES } from '../../../controller/supernet/training/recipes.ts';
import { learningRate, lengthOf, validationInterval } from '../../../controller/supernet/training/schedule.ts';
import { testTrunks, trunksOf, validationSubnets } from '../../../controller/supernet/training/uniform-settings.ts';
import { value } from '../../helpers/outcome.ts';
import { TINY } from './tiny.ts';

const PUBLISHED = RECIPES['ofav2'] as Recipe;
const MBV3 = PRESETS['ofa-mbv3-w1.0'] as Space;
const of = (name: string, space = MBV3) => value(withArchitecture(space, name));

describe('the phases of progressive shrinking', () => {
  it.each([
    ['SE_B', 605],
    ['SE_D', 605],
    ['SE_P', 755],
    ['SE_DP', 755],
    ['EE_B', 915],
    ['EE_D', 915],
    ['EE_P', 1065],
    ['EE_DP', 1065],
  ])('of %s take %i epochs, as published', (name, epochs) => {
    const phases = phasesOf(of(name), PUBLISHED);
    expect(phases.reduce((sum, phase) => sum + phase.epochs + phase.warmUpEpochs, 0)).toBe(epochs);
  });

  it('of EE_P are the published table, to the last number', () => {
    const popcounts = ({ masks = [] }: Phase['choices']) =>
      [...new Set(masks.map((mask) => [1, 2, 4].filter((bit) => mask & bit).length))].sort();
    const rows = phasesOf(of('EE_P'), PUBLISHED).map((phase) => [
      phase.name, phase.subnetsPerStep, phase.epochs, phase.warmUpEpochs, phase.rate,
      phase.choices.kernels.join(), popcounts(phase.choices).join(), phase.choices.heights.join(), phase.choices.depths.join(), phase.choices.expands.join(),
      phase.dropout,
    ]); // prettier-ignore
    expect(rows).toEqual([
      ['full', 1, 180, 0, 0.08, '7', '3', '5', '4', '6', 0.2],
      ['kernel', 1, 120, 5, 0.03, '3,5,7', '3', '5', '4', '6', 0.1],
      ['level-1', 2, 25, 0, 0.0025, '3,5,7', '2,3', '5', '4', '6', 0.1],
      ['level-2', 2, 120, 5, 0.0075, '3,5,7', '1,2,3', '5', '4', '6', 0.1],
      ['height-1', 2, 25, 0, 0.001875, '3,5,7', '1,2,3', '4,5', '4', '6', 0.1],
      ['height-2', 2, 60, 5, 0.00375, '3,5,7', '1,2,3', '3,4,5', '4', '6', 0.1],
      ['height-3', 2, 90, 5, 0.0075, '3,5,7', '1,2,3', '2,3,4,5', '4', '6', 0.1],
      ['height-4', 2, 120, 5, 0.015, '3,5,7', '1,2,3', '1,2,3,4,5', '4', '6', 0.1],
      ['depth-1', 2, 25, 0, 0.0025, '3,5,7', '1,2,3', '1,2,3,4,5', '3,4', '6', 0.1],
      ['depth-2', 2, 120, 5, 0.0075, '3,5,7', '1,2,3', '1,2,3,4,5', '2,3,4', '6', 0.1],
      ['width-1', 4, 25, 0, 0.0025, '3,5,7', '1,2,3', '1,2,3,4,5', '2,3,4', '4,6', 0.1],
      ['width-2', 4, 120, 5, 0.0075, '3,5,7', '1,2,3', '1,2,3,4,5', '2,3,4', '3,4,6', 0.1],
    ]);
  });

  it("of Once-For-All's recipe are its own five steps after the full net", () => {
    const rows = phasesOf(MBV3, RECIPES['ofa'] as Recipe).map(({ name, epochs, warmUpEpochs, rate }) => [name, epochs, warmUpEpochs, rate]);
    expect(rows).toEqual([
      ['full', 180, 0, 0.08125],
      ['kernel', 120, 5, 0.03],
      ['depth-1', 25, 0, 0.0025],
      ['depth-2', 120, 5, 0.0075],
      ['width-1', 25, 0, 0.0025],
      ['width-2', 120, 5, 0.0075],
    ]);
  });

  it('unlock one value at a time and end with the whole space', () => {
    const phases = phasesOf(TINY, PUBLISHED);
    expect(phases.map(({ name }) => name)).toEqual(['full', 'kernel', 'height', 'depth-1', 'depth-2', 'width-1', 'width-2']);
    expect(phases[0]?.choices).toEqual({ kernels: [7], heights: [2], depths: [3], expands: [4] });
    expect(phases.find(({ name }) => name === 'depth-1')?.choices).toEqual({
      kernels: [3, 5, 7],
      heights: [1, 2],
      depths: [2, 3],
      expands: [4],
    });
    expect(phases.at(-1)?.choices).toEqual(allChoices(TINY));
  });

  it('are derived from any space: an axis with one value has none, one with two has one, and the last published settings count', () => {
    const rigid: Space = { ...TINY, kernels: [5], depths: [2], exits: 'single' };
    expect(phasesOf(rigid, PUBLISHED).map(({ name }) => name)).toEqual(['full', 'width-1', 'width-2']);
    const stages = [...TINY.stages, ...TINY.stages, ...TINY.stages, ...TINY.stages] as Space['stages'];
    const long: Space = { ...TINY, kernels: [3, 7], depths: [1, 2], stages };
    const phases = phasesOf(long, PUBLISHED);
    expect(phases.map(({ name, epochs }) => `${name} ${epochs}`)).toEqual([
      'full 180', 'kernel 120',
      'height-1 25', 'height-2 25', 'height-3 25', 'height-4 25', 'height-5 60', 'height-6 90', 'height-7 120',
      'depth 120', 'width-1 25', 'width-2 120',
    ]); // prettier-ignore
    expect(phases[1]?.choices.kernels).toEqual([3, 7]);
  });

  it('are one phase over the whole space in the sandwich recipe', () => {
    const phases = phasesOf(of('EE_DP', TINY), RECIPES['sandwich'] as Recipe);
    expect(phases.map(({ name, choices }) => [name, choices])).toEqual([['sandwich', allChoices(of('EE_DP', TINY))]]);
  });

  it.each(ARCHITECTURES)('draw only subnets of %s, the same for the same stream', (name) => {
    const space = of(name, TINY);
    for (const { choices } of phasesOf(space, PUBLISHED)) {
      const draw = () => {
        const random = randomStream(1, 'subnets');
        return Array.from({ length: 50 }, () => drawSubnet(choices, 9, random));
      };
      const drawn = draw();
      for (const subnet of drawn) expect(parseSubnet(space, subnet, 'drawn')).toEqual({ ok: true, value: subnet });
      expect(draw()).toEqual(drawn);
    }
  });
});

describe('schedules in steps', () => {
  it('keep their proportions when scaled, and at least one step', () => {
    const phase = { epochs: 120, warmUpEpochs: 5 };
    expect(lengthOf(phase, 1328, 1)).toEqual({ steps: 166_000, warmUpSteps: 6640 });
    expect(lengthOf(phase, 1328, 0.02)).toEqual({ steps: 3187 + 133, warmUpSteps: 133 });
    expect(lengthOf(phase, 10, 1e-9)).toEqual({ steps: 1, warmUpSteps: 0 });
  });

  it('hold the rate during the warm-up, then let it fall as half a cosine', () => {
    const length = { steps: 110, warmUpSteps: 10 };
    expect([0, 5, 9, 10].map((step) => learningRate(0.03, step, length))).toEqual([0.03, 0.03, 0.03, 0.03]);
    expect(learningRate(0.03, 60, length)).toBeCloseTo(0.015, 12);
    expect(learningRate(0.03, 109, length)).toBeCloseTo(0.015 * (1 + Math.cos(0.99 * Math.PI)), 12);
  });

  it('validate after each epoch, unless that would be too often', () => {
    expect(validationInterval(300, 100, 10)).toBe(100);
    expect(validationInterval(18_000, 100, 10)).toBe(1800);
  });
});

describe('the nets that a phase is scored by', () => {
  const last = (space: Space) => phasesOf(space, PUBLISHED).at(-1) as Phase;
  const ids = (space: Space, subnets: readonly Subnet[]) => new Set(subnets.map((subnet) => subnetId(space, subnet)));

  it('are the combinations of least and most, at most 32 of them, extremes included', () => {
    const all = validationSubnets(TINY, last(TINY), 100, randomStream(0));
    expect(ids(TINY, all).size).toBe(32);
    const some = validationSubnets(TINY, last(TINY), 4, randomStream(0));
    expect(some.length).toBe(4);
    expect([some[0], some[3]]).toEqual([all[0], all[31]]);
    const space = of('EE_DP');
    expect(validationSubnets(space, last(space), 32, randomStream(0)).length).toBeLessThanOrEqual(32);
  });

  it('are all kernels in the kernel phase, and the one net at three resolutions in the full phase', () => {
    const [full, kernel] = phasesOf(MBV3, PUBLISHED) as [Phase, Phase];
    const genes = (phase: Phase) =>
      validationSubnets(MBV3, phase, 32, randomStream(0)).map(({ resolution, stages }) => `${resolution} ${stages[0]?.[0]?.kernel ?? 0}`);
    const { resolutions } = MBV3;
    const [least, most] = [resolutions[0] ?? 0, resolutions.at(-1) ?? 0];
    expect(genes(full).length).toBe(3);
    expect([genes(full)[0], genes(full)[2]]).toEqual([`${least} 7`, `${most} 7`]);
    expect(genes(kernel)).toEqual([`${least} 3`, `${least} 5`, `${least} 7`, `${most} 3`, `${most} 5`, `${most} 7`]);
  });

  it.each([
    ['SE_D', 81, 1],
    ['EE_D', 405, 5],
    ['SE_DP', 351, 1], // 567 as counted in genes; without MBConv kernel and expand ratio are dead, so 216 of them are repeats
    ['EE_DP', 405, 5],
  ])('of %s are %i uniform settings at the end, tested by trunks of %i exits', (name, settings, exits) => {
    const space = of(name);
    const trunks = testTrunks(space, 405, randomStream(0));
    expect(trunks.reduce((sum, { heights }) => sum + heights.length, 0)).toBe(settings);
    expect(trunks.every(({ heights }) => heights.length === exits)).toBe(true);
    const trunkIds = ids(
      space,
      trunks.map(({ subnet }) => subnet),
    );
    expect(trunkIds.size).toBe(settings / exits);
    expect(trunkIds).toContain(subnetId(space, largestSubnet(space)));
    const smallest = smallestSubnet(space);
    const whole = { ...smallest, stages: space.stages.map(() => smallest.stages[0] as Subnet['stages'][number]) };
    expect(trunkIds).toContain(subnetId(space, whole));
  });

  it('share their trunks: one pass scores nets that differ in their exit only', () => {
    const all = validationSubnets(TINY, last(TINY), 100, randomStream(0));
    const trunks = trunksOf(all);
    expect(trunks.length).toBe(16);
    const back = trunks.flatMap(({ subnet, heights }) => heights.map((height) => ({ ...subnet, stages: subnet.stages.slice(0, height) })));
    expect(ids(TINY, back)).toEqual(ids(TINY, all));
  });
});
