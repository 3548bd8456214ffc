// The published sizes of Once-For-All's networks, and a subnet counted by hand.
import { describe, expect, it } from 'vitest';
import { countMacs, countParameters, macsOfSubnet } from '../../../controller/materialise/macs.ts';
import { withArchitecture } from '../../../controller/architecture.ts';
import { PRESETS, type Space } from '../../../controller/space.ts';
import { largestSubnet, smallestSubnet, uniformSubnet } from '../../../controller/subnet.ts';
import { randomSubnet } from '../../../controller/search/operators.ts';
import { stream } from '../../../controller/search/rng.ts';
import { isTrained, parametersOf } from '../../../controller/supernet/parameters.ts';
import { value } from '../../helpers/outcome.ts';
import { allArchitectures, withAttention } from '../../helpers/spaces.ts';
import { randomNet, smallSpace } from './random-net.ts';

const preset = (name: string) => PRESETS[name] as Space;
const as = (space: Space, architecture: string) => value(withArchitecture(space, architecture));

describe('multiply-accumulates and parameters', { timeout: 60_000 }, () => {
  it.each([
    { width: 'w1.0', net: 'largest', parameters: 7.665e6, macs: 566.2e6 },
    { width: 'w1.0', net: 'smallest', parameters: 3.411e6, macs: 121.3e6 },
    { width: 'w1.2', net: 'largest', parameters: 10.702e6, macs: 843.1e6 },
    { width: 'w1.2', net: 'smallest', parameters: 4.602e6, macs: 193.1e6 },
  ])('of the $net ImageNet net at $width are as published', ({ width, net, parameters, macs }) => {
    const space = preset(`ofa-mbv3-${width}`);
    const subnet = { ...(net === 'largest' ? largestSubnet(space) : smallestSubnet(space)), resolution: 224 };
    const made = randomNet(space, subnet, 1);
    expect(countParameters(made) / 1e6).toBeCloseTo(parameters / 1e6, 3);
    expect(countMacs(made) / 1e6).toBeCloseTo(macs / 1e6, 1);
  });

  it.each([...allArchitectures(smallSpace), ['attention', withAttention(smallSpace)] as const])(
    'are counted from the shapes alone as they are on the extracted net: %s',
    (_, space) => {
      const rng = stream(3, 1);
      for (let draw = 0; draw < 20; draw++) {
        const subnet = { ...randomSubnet(space, rng), resolution: 13 + draw };
        expect(macsOfSubnet(space, subnet)).toBe(countMacs(randomNet(space, subnet, 1)));
      }
    },
  );

  // parameters, then MACs of one image of 64 x 64 pixels, 200 classes; kernel matrices are in no net
  it.each([
    { width: 'w1.0', exit: 1, max: [123_672, 15_897_088], min: [77_952, 4_045_312], parallel: [126_576, 16_536_064] },
    { width: 'w1.0', exit: 2, max: [422_464, 23_454_464], min: [187_288, 5_212_544], parallel: [432_768, 24_523_520] },
    { width: 'w1.0', exit: 3, max: [1_095_024, 29_673_984], min: [568_768, 6_633_984], parallel: [1_132_288, 31_152_640] },
    { width: 'w1.0', exit: 4, max: [2_951_008, 42_059_264], min: [1_171_992, 9_684_224], parallel: [3_045_728, 44_426_752] },
    { width: 'w1.0', exit: 5, max: [6_639_960, 49_798_016], min: [2_385_992, 11_433_152], parallel: [6_850_040, 52_616_064] },
    // the exits' widths are multiples of the stages' channels; the width multiplier is in those already and must not count twice
    { width: 'w1.2', exit: 1, max: [192_008, 26_335_232], min: [121_152, 7_467_008], parallel: [197_160, 27_514_880] },
    { width: 'w1.2', exit: 5, max: [9_472_032, 73_990_080], min: [3_372_856, 17_929_440], parallel: [9_776_472, 78_355_392] },
  ])('at exit $exit of the Tiny ImageNet space at $width are those of its check table', ({ width, exit, max, min, parallel }) => {
    const plain = preset(`ofav2-64-${width}`);
    const count = (space: Space, genes: { kernel: number; expand: number; depth: number }) => {
      const net = randomNet(space, uniformSubnet(space, { resolution: 64, stages: exit, ...genes }), 1);
      return [countParameters(net), countMacs(net)];
    };
    const largest = { kernel: 7, expand: 6, depth: 4 };
    // dense skips cost nothing; a single-exit net is the one that ends at exit 5
    for (const form of exit === 5 ? ['EE_B', 'EE_D', 'SE_B', 'SE_D'] : ['EE_B', 'EE_D']) {
      expect(count(as(plain, form), largest)).toEqual(max);
      expect(count(as(plain, form), { kernel: 3, expand: 3, depth: 2 })).toEqual(min);
    }
    for (const form of exit === 5 ? ['EE_P', 'EE_DP', 'SE_P', 'SE_DP'] : ['EE_P', 'EE_DP']) {
      expect(count(as(plain, form), largest)).toEqual(parallel);
    }
  });

  it.each([
    ['EE_B', 8_208_032],
    ['EE_D', 8_208_032],
    ['EE_P', 8_418_112],
    ['EE_DP', 8_418_112],
    ['SE_B', 6_654_080],
    ['SE_D', 6_654_080],
    ['SE_P', 6_864_160],
    ['SE_DP', 6_864_160],
  ])('of a whole supernet, kernel matrices included, are as published: %s', (architecture, expected) => {
    const trained = parametersOf(as(preset('ofav2-64-w1.0'), architecture)).filter(isTrained);
    expect(trained.reduce((sum, { shape }) => sum + shape.reduce((product, side) => product * side, 1), 0)).toBe(expected);
  });

  it('count only what a subnet has: a branch, block or stage that is not active costs nothing', () => {
    const space = as(preset('ofav2-64-w1.0'), 'EE_P');
    const of = (mask: number) => {
      const net = randomNet(space, uniformSubnet(space, { resolution: 64, kernel: 5, expand: 4, depth: 2, stages: 2, mask }), 1);
      return [countParameters(net), countMacs(net)];
    };
    const [one, two, four, seven] = [of(1), of(2), of(4), of(7)];
    const base = [0, 1].map((i) => ((one[i] as number) + (two[i] as number) + (four[i] as number) - (seven[i] as number)) / 2);
    // masks are sums of branches over one and the same rest
    for (const [mask, parts] of [[3, [one, two]], [5, [one, four]], [6, [two, four]]] as const) {
      const sum = [0, 1].map((i) => parts.reduce((total, part) => total + (part[i] as number), 0) - (base[i] as number));
      expect(of(mask)).toEqual(sum);
    } // prettier-ignore
  });
});
