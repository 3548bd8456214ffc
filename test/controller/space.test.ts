// The spaces as data: what ships, what is refused, the eight architectures by name, and how many subnets there are.
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { ARCHITECTURES, architectureOf, withArchitecture } from '../../controller/architecture.ts';
import { countSubnets } from '../../controller/supernet/count-subnets.ts';
import { randomSubnet } from '../../controller/search/operators.ts';
import { stream } from '../../controller/search/rng.ts';
import { parseSpace, PRESETS, spaceId, type Space } from '../../controller/space.ts';
import { largestSubnet, parseSubnet, smallestSubnet, subnetId, type Subnet } from '../../controller/subnet.ts';
import { headWidths, mapSides } from '../../controller/supernet/widths.ts';
import { value } from '../helpers/outcome.ts';
import { allArchitectures, TINY, withAttention } from '../helpers/spaces.ts';

const preset = (name: string) => PRESETS[name] as Space;
const message = (outcome: { ok: boolean; message?: string }) => (outcome.ok ? '' : (outcome.message ?? ''));

describe('the spaces that ship', () => {
  it.each(Object.entries(PRESETS))('are valid: %s', (name, space) => {
    expect(value(parseSpace(JSON.parse(JSON.stringify(space)), name))).toEqual(space);
    expect(space.name).toBe(name);
  });

  it('keep the id that the shipped supernet was trained under', () => {
    expect(spaceId(preset('fashion-tiny'))).toBe('ddab5afb98ca65d2');
    expect(spaceId({ ...preset('fashion-tiny'), parallel: undefined })).toBe('ddab5afb98ca65d2');
  });

  it.each([
    [48, [24, 12, 6, 3, 3, 2]],
    [52, [26, 13, 7, 4, 4, 2]],
    [56, [28, 14, 7, 4, 4, 2]],
    [60, [30, 15, 8, 4, 4, 2]],
    [64, [32, 16, 8, 4, 4, 2]],
    [128, [64, 32, 16, 8, 8, 4]],
    [160, [80, 40, 20, 10, 10, 5]],
    [192, [96, 48, 24, 12, 12, 6]],
    [224, [112, 56, 28, 14, 14, 7]],
  ])('have at %i pixels the map sides of the published net', (resolution, sides) => {
    expect(mapSides(preset('ofav2-64-w1.0'), resolution)).toEqual(sides);
    expect(mapSides(preset('ofa-mbv3-w1.2'), resolution)).toEqual(sides);
  });

  it('see on small images, at half the pixels, what the published net sees on Tiny ImageNet', () => {
    for (const name of ['cifar', 'fashion']) expect(mapSides(preset(name), 32)).toEqual(mapSides(preset('ofav2-64-w1.0'), 64));
  });

  it('have exits six and eight times as wide as their stages, at width 1.2 too', () => {
    const widths = (name: string) => preset(name).stages.map((_, s) => headWidths(preset(name), s).join());
    expect(widths('ofav2-64-w1.0')).toEqual(['144,192', '240,320', '480,640', '672,896', '960,1280']);
    expect(widths('ofav2-64-w1.2')).toEqual(['192,256', '288,384', '576,768', '816,1088', '1152,1536']);
  });

  it('train at the published resolutions', () => {
    expect(preset('ofav2-64-w1.2').resolutions).toEqual([48, 52, 56, 60, 64]);
    const imageNet = preset('ofa-mbv3-w1.0').resolutions;
    expect([imageNet.length, imageNet[0], imageNet.at(-1)]).toEqual([25, 128, 224]);
  });
});

describe('a space from a file', () => {
  it('is refused with every mistake at once, also those between two fields', () => {
    const stages = TINY.stages.map((stage) => ({ ...stage, channels: stage.channels + 1 }));
    const wrong = { ...TINY, classes: 0, depths: [2, 2], mean: [1, 2], stages, parallel: { masks: [1, 2, 4], third: 'attention' } };
    const text = message(parseSpace(wrong, 'mine.json'));
    for (const part of [
      'classes:',
      'depths: must ascend without repeats',
      'mean: needs 1 values, has 2',
      'parallel.masks: 1, 2, 4 must hold their union with the MBConv, 7',
      'stages: attention needs even channels, one has 9',
    ]) {
      expect(text).toContain(part);
    }
    expect(message(parseSpace({ ...TINY, parallel: { masks: [1, 2, 3], third: 'none' } }, 'mine.json'))).toContain('parallel.third');
    expect(message(parseSpace({ ...TINY, parallel: { masks: [1, 2, 3], third: 'transformation' } }, 'mine.json'))).toContain('MBConv, 7');
  });

  it('has heads relative to its stages or of given widths, one pair for each exit, never both', () => {
    const of = (head: unknown, exits: Space['exits'] = 'early') => message(parseSpace({ ...TINY, exits, head }, 'mine.json'));
    const pairs = TINY.stages.map((): [number, number] => [20, 30]);
    expect(of({ widths: pairs })).toBe('');
    expect(of({ widths: pairs.slice(0, 1) }, 'single')).toBe('');
    expect(of({ widths: pairs }, 'single')).toContain(`head.widths: needs 1 pairs, one for each exit, has ${pairs.length}`);
    for (const head of [{}, { expand: 2 }, { mix: 2 }, { expand: 2, mix: 2, widths: pairs }]) {
      expect(of(head)).toContain('head: needs expand and mix, or widths instead of them');
    }
    const space = value(
      parseSpace(
        {
          ...TINY,
          exits: 'early',
          head: {
            widths: [
              [20, 30],
              [40, 50],
            ],
          },
        },
        'mine.json',
      ),
    );
    expect([headWidths(space, 0), headWidths(space, 1)]).toEqual([
      [20, 30],
      [40, 50],
    ]);
    const { expand = 0, mix = 0 } = TINY.head;
    expect(headWidths(TINY, 1)).toEqual([expand, mix].map((ratio) => ratio * (TINY.stages[1]?.channels ?? 0)));
  });

  it('may be parallel with some masks only', () => {
    const space = value(parseSpace({ ...TINY, parallel: { masks: [2, 4, 6], third: 'transformation' } }, 'mine.json'));
    expect(
      largestSubnet(space)
        .stages.flat()
        .every(({ mask }) => mask === 6),
    ).toBe(true);
    expect(smallestSubnet(space).stages).toEqual([[{ mask: 2 }]]);
  });
});

describe('the eight architectures', () => {
  it('are made of any space by name, each with a name and an id of its own', () => {
    for (const space of Object.values(PRESETS)) {
      const made = ARCHITECTURES.map((name) => value(withArchitecture(space, name)));
      expect(made.map(architectureOf)).toEqual(ARCHITECTURES);
      expect(new Set(made.map(spaceId)).size).toBe(8);
      expect(new Set(made.map(({ name }) => name)).size).toBe(8);
      for (const each of made) expect(parseSpace(each, 'it').ok).toBe(true);
    }
  });

  it('leave a space as it is where it has that architecture, and go from any to any', () => {
    expect(value(withArchitecture(TINY, 'ee_d'))).toBe(TINY);
    for (const [, from] of allArchitectures(TINY)) {
      for (const [to, direct] of allArchitectures(TINY)) {
        if (to !== 'EE_D') expect(value(withArchitecture(from, to))).toEqual(direct);
      }
    }
    expect(value(withArchitecture(TINY, 'SE_DP')).name).toBe('tiny-se_dp');
    expect(value(withArchitecture(withAttention(TINY), 'SE_P')).parallel?.third).toBe('attention');
    expect(message(withArchitecture(TINY, 'EE_X'))).toContain('SE_B, SE_D, SE_P, SE_DP, EE_B, EE_D, EE_P, EE_DP');
  });
});

describe('a subnet of a parallel space', () => {
  const space = value(withArchitecture(TINY, 'EE_DP'));
  const net = (...blocks: Subnet['stages'][number]): unknown => ({ resolution: 9, stages: [blocks] });

  it('has no way to write a dead gene, so that equal nets have one id', () => {
    expect(value(parseSubnet(space, net({ mask: 3 }), 'it'))).toEqual(net({ mask: 3 }));
    expect(message(parseSubnet(space, { resolution: 9, stages: [[{ mask: 3, kernel: 3, expand: 2 }]] }, 'it'))).toMatch(
      /kernel of stage 1 block 1 3 must be left out: mask 3 has no MBConv; expand .* 2 must be left out/,
    );
    const written = [
      '{"stages":[[{"expand":2,"mask":6,"kernel":3}]],"resolution":9}',
      JSON.stringify(net({ kernel: 3, expand: 2, mask: 6 })),
    ];
    const ids = written.map((text) => subnetId(space, value(parseSubnet(space, JSON.parse(text), 'it'))));
    expect(ids[0]).toBe(ids[1]);
  });

  it('is refused with every mistake at once', () => {
    const wrong = { resolution: 9, stages: [[{ kernel: 3, expand: 2 }, { mask: 8 }, { mask: 7, kernel: 4 }]] };
    const text = message(parseSubnet(space, wrong, 'it'));
    for (const part of ['mask of stage 1 block 1 is missing', 'mask of stage 1 block 2 8 is none of', 'kernel of stage 1 block 3 4 is none of', 'expand of stage 1 block 3 is missing']) expect(text).toContain(part); // prettier-ignore
    expect(message(parseSubnet(TINY, net({ kernel: 3, expand: 2, mask: 7 }), 'it'))).toContain('the space has no parallel blocks');
    expect(message(parseSubnet(TINY, net({ mask: 1 }), 'it'))).toMatch(/must be left out.*kernel .* is missing/);
  });

  it('survives its way through JSON', () => {
    fc.assert(
      fc.property(fc.integer({ min: 0 }), (seed) => {
        const subnet = randomSubnet(space, stream(seed, 0));
        const again = value(parseSubnet(space, JSON.parse(JSON.stringify(subnet)), 'it'));
        expect(again).toEqual(subnet);
        expect(subnetId(space, again)).toBe(subnetId(space, subnet));
      }),
    );
  });

  it('is largest with all branches and smallest with the cheapest: a transformation, or a 1x1 convolution beside attention', () => {
    expect(
      largestSubnet(space)
        .stages.flat()
        .map(({ mask }) => mask),
    ).toEqual([7, 7, 7, 7, 7, 7]);
    expect(smallestSubnet(space).stages).toEqual([[{ mask: 1 }]]);
    expect(smallestSubnet(withAttention(TINY)).stages).toEqual([[{ mask: 2 }]]);
  });
});

describe('the number of subnets', () => {
  const of = (architecture: string) => countSubnets(value(withArchitecture(preset('ofav2-64-w1.0'), architecture)));

  it('is exact for the published space', () => {
    const stage = 9n ** 2n + 9n ** 3n + 9n ** 4n;
    expect(stage).toBe(7371n);
    expect(of('SE_B')).toEqual({ encoded: 7371n ** 5n, distinct: 7371n ** 5n });
    expect(of('SE_D')).toEqual(of('SE_B'));
    expect(of('EE_D').distinct).toBe(7371n + 7371n ** 2n + 7371n ** 3n + 7371n ** 4n + 7371n ** 5n);
    expect(Number(of('EE_B').distinct)).toBeCloseTo(2.1762e19, -15);
    expect(of('SE_P')).toEqual({ encoded: 16_006_977n ** 5n, distinct: 2_374_281n ** 5n });
    expect(Number(of('SE_DP').encoded) / 1.05e36).toBeCloseTo(1, 2);
    expect(Number(of('EE_DP').distinct) / 7.5e31).toBeCloseTo(1, 1);
  });

  it('is that of the ids found by writing down every net of a small parallel space', () => {
    const space: Space = { ...TINY, resolutions: [9], kernels: [3, 5], expands: [2], depths: [1, 2], parallel: { masks: [1, 2, 3, 4, 5, 6, 7], third: 'transformation' } }; // prettier-ignore
    const single: Space = { ...space, stages: space.stages.slice(0, 1) };
    const blocks = [1, 2, 3, 4, 5, 6, 7].flatMap((mask) => (mask < 4 ? [{ mask }] : [3, 5].map((kernel) => ({ kernel, expand: 2, mask }))));
    const stages = [...blocks.map((a) => [a]), ...blocks.flatMap((a) => blocks.map((b) => [a, b]))];
    const ids = new Set(stages.map((stage) => subnetId(single, value(parseSubnet(single, { resolution: 9, stages: [stage] }, 'it')))));
    expect(BigInt(ids.size)).toBe(countSubnets(single).distinct);
    expect(countSubnets(space).distinct).toBe(BigInt(ids.size) + BigInt(ids.size) ** 2n);
    const drawn = new Set(Array.from({ length: 4000 }, (_, i) => subnetId(single, randomSubnet(single, stream(1, i)))));
    expect(drawn).toEqual(ids); // draws reach every net and nothing else
  });
});
