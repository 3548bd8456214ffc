// The two forms in which a user names a subnet, and what is dead in the flat one.
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { withArchitecture } from '../../../controller/architecture.ts';
import { subnetNamed } from '../../../controller/cli/subnet-file.ts';
import type { Space } from '../../../controller/space.ts';
import { largestSubnet } from '../../../controller/subnet.ts';
import { value } from '../../helpers/outcome.ts';
import { smallSpace } from '../../helpers/spaces.ts';

let dir: string;
beforeAll(() => {
  dir = mkdtempSync(join(tmpdir(), 'ofa-subnet-'));
});
afterAll(() => rmSync(dir, { recursive: true, force: true }));

function named(content: unknown, resolution: number | null = null, space: Space = smallSpace) {
  const file = join(dir, 'subnet.json');
  writeFileSync(file, JSON.stringify(content));
  return subnetNamed(space, file, resolution);
}
const parallel = value(withArchitecture(smallSpace, 'EE_P'));

describe('a subnet file', () => {
  it('of flat lists gives the blocks that are alive, and dead genes may be anything', () => {
    const [ks, e] = [
      [3, 5, 'x', 7, null, 99, 3, 3, 3],
      [3, 4, 0, 6, -1, 99, 4, 4, 4],
    ];
    const { subnet } = value(named({ ks, e, d: [2, 1, 77], height: 2 }, 16));
    expect(subnet).toEqual({ resolution: 16, stages: [[{ kernel: 3, expand: 3 }, { kernel: 5, expand: 4 }], [{ kernel: 7, expand: 6 }]] }); // prettier-ignore
  });

  it('may give one number for all, and takes the largest resolution where none is given', () => {
    expect(value(named({ ks: 7, e: 6, d: 3 })).subnet).toEqual(largestSubnet(smallSpace));
    expect(value(named({ ks: 7, e: 6, d: 3, r: 12 })).subnet.resolution).toBe(12);
  });

  it('of a parallel space says by level which branches are active; without the MBConv kernel and ratio are dead', () => {
    const level = [1, 4, 7, 7, 7, 7, 7, 7, 7];
    const { subnet } = value(named({ ks: [9, 5, 5, 5, 5, 5, 5, 5, 5], e: 4, d: 2, level, height: 1 }, 12, parallel));
    expect(subnet.stages).toEqual([[{ mask: 1 }, { kernel: 5, expand: 4, mask: 4 }]]);
    expect(value(named({ ks: 7, e: 6, d: 3 }, null, parallel)).subnet).toEqual(largestSubnet(parallel));
  });

  it('takes a resolution outside of the list where it is asked by name, and says so', () => {
    const { subnet, notes } = value(named({ ks: 3, e: 3, d: 1 }, 20));
    expect(subnet.resolution).toBe(20);
    expect(notes.join()).toMatch(/Resolution 20 is none of those that space small lists \(12 … 16\)/);
    expect(named({ ks: 3, e: 3, d: 1, r: 20 })).toMatchObject({
      ok: false,
      message: expect.stringMatching(/resolution 20 is none of 12, 16/) as string,
    });
    expect(value(subnetNamed(smallSpace, 'smallest', 20)).subnet.resolution).toBe(20);
  });

  it('in our own form is taken as it is, at the resolution asked', () => {
    const own = { resolution: 12, stages: [[{ kernel: 3, expand: 3 }]] };
    expect(value(named(own)).subnet).toEqual(own);
    expect(value(named(own, 16)).subnet).toEqual({ ...own, resolution: 16 });
  });

  it('names what it does not know, and takes the rest', () => {
    expect(value(named({ ks: 3, e: 3, d: 1, id: 4, params: 9 })).notes.join()).toMatch(/Ignored in .*: id, params\./);
  });

  it.each<[unknown, RegExp]>([
    [{ ks: [3], e: 3, d: [1, 1] }, /ks has 1 values, 9 are needed; d has 2 values, 3 are needed/],
    [{ ks: 9, e: 5, d: 1, height: 1 }, /kernel of stage 1 block 1 9 is none of 3, 5, 7.*expand of stage 1 block 1 5 is none of 3, 4, 6/],
    [{ ks: 3, e: 3, d: [1, 9, 1], height: 4 }, /height 4 is not within 1 and 3; d of stage 2, 9, is none of 1, 2, 3/],
    [{ ks: 3, e: 3, d: 1, level: 7 }, /level: the space has no parallel blocks/],
    [{ ks: 3, d: 1 }, /e: .*; write \{"ks"/],
    [[1], /is not a subnet/],
  ])('%j is refused with all its mistakes', (content, pattern) => {
    expect(named(content, 16)).toMatchObject({ ok: false, reason: 'INVALID_INPUT', message: expect.stringMatching(pattern) as string });
  });
});
