// Topics and ids: what may stand in them, and that building and parsing agree.
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { ID_PATTERN, isDeviceId, randomId, UUID_PATTERN, uuidV7 } from '../../shared/ids.ts';
import { buildTopic, controllerFilter, deviceFilter, enrolAddress, parseTopic } from '../../shared/topics.ts';

const id = fc.stringMatching(/^[a-z0-9][a-z0-9_-]{0,63}$/);
const shard = fc.integer({ min: 0, max: 63 }).map((n) => String(n).padStart(2, '0'));

describe('topics', () => {
  it('parse to what they were built from', () => {
    fc.assert(
      fc.property(id, shard, id, fc.constantFrom('up' as const, 'down' as const), id, (fleet, at, device, dir, kind) => {
        const address = { fleet, shard: at, device };
        expect(parseTopic(buildTopic(address, dir, kind))).toEqual({ ...address, dir, kind });
      }),
    );
  });

  it('have seven levels, filters too', () => {
    const address = enrolAddress('clm-0');
    for (const topic of [buildTopic(address, 'up', 'enrol'), deviceFilter(address), controllerFilter()])
      expect(topic.split('/')).toHaveLength(7);
  });

  it.each([
    ['another root', 'foo/v1/main/00/dev/up/hb'],
    ['another major', 'ofa/v2/main/00/dev/up/hb'],
    ['a shard that is none', 'ofa/v1/main/64/dev/up/hb'],
    ['a level too many', 'ofa/v1/main/00/dev/up/hb/x'],
    ['a level too few', 'ofa/v1/main/00/dev/up'],
    ['a dot in an id', 'ofa/v1/main/00/d.ev/up/hb'],
    ['a wildcard', 'ofa/v1/main/00/+/up/hb'],
    ['a reserved fleet that is not for enrolment', 'ofa/v1/_enrol/01/clm-0/up/enrol'],
    ['an empty level', 'ofa/v1/main/00//up/hb'],
  ])('are refused with %s', (_what, topic) => {
    expect(parseTopic(topic)).toBeNull();
  });
});

describe('ids', () => {
  it('made at random fit the pattern, and a device never takes a prefix that tells another role', () => {
    for (let i = 0; i < 100; i++) expect(randomId('dev-')).toMatch(ID_PATTERN);
    expect([isDeviceId('dev-1'), isDeviceId('clm-1'), isDeviceId('ctl-1'), isDeviceId('vwr-1'), isDeviceId('_x')]).toEqual([true, false, false, false, false]); // prettier-ignore
  });

  it('of version 7 sort by the time of their making', () => {
    const times = [0, 1, 255, 2 ** 32 - 1, 2 ** 32, 1_764_000_000_000, 1_764_000_000_001];
    const made = times.map(uuidV7);
    for (const uuid of made) expect(uuid).toMatch(UUID_PATTERN);
    expect([...made].sort()).toEqual(made);
    expect(Number.parseInt((made[5] as string).replaceAll('-', '').slice(0, 12), 16)).toBe(times[5]);
  });
});
