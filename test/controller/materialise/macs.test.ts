// The published sizes of Once-For-All's networks, and a subnet counted by hand.
import { describe, expect, it } from 'vitest';
import { countMacs, countParameters, macsOfSubnet } from '../../../controller/materialise/macs.ts';
import { PRESETS, type Space } from '../../../controller/space.ts';
import { largestSubnet, smallestSubnet, uniformSubnet } from '../../../controller/subnet.ts';
import { randomSubnet } from '../../../controller/search/operators.ts';
import { stream } from '../../../controller/search/rng.ts';
import { randomNet, smallSpace } from './random-net.ts';

const imageNet = PRESETS['ofa-mbv3-w1.0'] as Space;
/** OFAv2's spaces on 64 x 64 Tiny ImageNet: OFA's with 200 classes, ended by one of five exits. */
const tinyImageNet: Space = { ...imageNet, classes: 200, resolutions: [64], exits: 'early' };

describe('multiply-accumulates and parameters', { timeout: 60_000 }, () => {
  it.each([
    { net: 'largest', subnet: largestSubnet(imageNet), parameters: 7.665e6, macs: 566.2e6 },
    { net: 'smallest, at 224', subnet: { ...smallestSubnet(imageNet), resolution: 224 }, parameters: 3.411e6, macs: 121.3e6 },
  ])('of the $net ImageNet net are as published', ({ subnet, parameters, macs }) => {
    const net = randomNet(imageNet, subnet, 1);
    expect(countParameters(net) / 1e6).toBeCloseTo(parameters / 1e6, 3);
    expect(countMacs(net) / 1e6).toBeCloseTo(macs / 1e6, 1);
  });

  it('are counted from the shapes alone as they are on the extracted net', () => {
    for (const space of [smallSpace, PRESETS['fashion-tiny'] as Space]) {
      const rng = stream(3, 1);
      for (let draw = 0; draw < 20; draw++) {
        const subnet = randomSubnet(space, rng);
        expect(macsOfSubnet(space, subnet)).toBe(countMacs(randomNet(space, subnet, 1)));
      }
    }
    expect(macsOfSubnet(imageNet, largestSubnet(imageNet))).toBe(countMacs(randomNet(imageNet, largestSubnet(imageNet), 1)));
  });

  it.each([
    { stages: 1, largest: [123_672, 15_897_088], smallest: [77_952, 4_045_312] },
    { stages: 2, largest: [422_464, 23_454_464], smallest: [187_288, 5_212_544] },
    { stages: 3, largest: [1_095_024, 29_673_984], smallest: [568_768, 6_633_984] },
    { stages: 4, largest: [2_951_008, 42_059_264], smallest: [1_171_992, 9_684_224] },
    { stages: 5, largest: [6_639_960, 49_798_016], smallest: [2_385_992, 11_433_152] },
  ])('at exit $stages of the 64 x 64 space are those of its check table', ({ stages, largest, smallest }) => {
    const count = (genes: { kernel: number; expand: number; depth: number }) => {
      const net = randomNet(tinyImageNet, uniformSubnet(tinyImageNet, { resolution: 64, stages, ...genes }), 1);
      return [countParameters(net), countMacs(net)];
    };
    expect(count({ kernel: 7, expand: 6, depth: 4 })).toEqual(largest);
    expect(count({ kernel: 3, expand: 3, depth: 2 })).toEqual(smallest);
  });
});
