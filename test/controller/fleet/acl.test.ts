// The whole table of who may publish and subscribe what.
import { describe, expect, it } from 'vitest';
import { mayPublish, maySubscribe, type Role } from '../../../controller/fleet/acl.ts';
import { DOWN, UP } from '../../../shared/protocol.ts';
import { buildTopic, type Address } from '../../../shared/topics.ts';

const own: Address = { fleet: 'main', shard: '07', device: 'dev-a' };
const others: readonly Address[] = [
  { ...own, device: 'dev-b' },
  { ...own, shard: '08' },
  { ...own, fleet: 'other' },
  { fleet: '_enrol', shard: '00', device: 'clm-a' },
  { fleet: '_enrol', shard: '00', device: 'clm-b' },
];
const roles: Readonly<Record<string, Role>> = {
  device: { kind: 'device', address: own },
  claim: { kind: 'claim', claimId: 'clm-a' },
  controller: { kind: 'controller' },
  viewer: { kind: 'viewer' },
};
const kinds = { up: [...Object.keys(UP), 'unknown'], down: [...Object.keys(DOWN), 'unknown'] };
const topics = [own, ...others].flatMap((address) =>
  (['up', 'down'] as const).flatMap((dir) => kinds[dir].map((kind) => ({ address, dir, kind, topic: buildTopic(address, dir, kind) }))),
);

describe('publishing', () => {
  it('is allowed to a device for its own address upwards, and for every kind but enrol', () => {
    const allowed = topics.filter(({ topic }) => mayPublish(roles.device as Role, { topic, qos: 1, retain: false }));
    expect(allowed.map(({ topic }) => topic)).toEqual(Object.keys(UP).filter((kind) => kind !== 'enrol').map((kind) => buildTopic(own, 'up', kind))); // prettier-ignore
  });

  it('is allowed to a claim for its own enrolment and nothing else', () => {
    const allowed = topics.filter(({ topic }) => mayPublish(roles.claim as Role, { topic, qos: 1, retain: false }));
    expect(allowed.map(({ topic }) => topic)).toEqual(['ofa/v1/_enrol/00/clm-a/up/enrol']);
  });

  it('is allowed to the controller downwards, and to a viewer never', () => {
    for (const { topic, dir } of topics) {
      expect(mayPublish(roles.controller as Role, { topic, qos: 1, retain: true })).toBe(dir === 'down');
      expect(mayPublish(roles.viewer as Role, { topic, qos: 0, retain: false })).toBe(false);
    }
  });

  it('retains only what is kept as a cache, and knows no QoS 2', () => {
    const retained = topics.filter(({ topic }) => mayPublish(roles.device as Role, { topic, qos: 1, retain: true }));
    expect(retained.map(({ kind }) => kind)).toEqual(['state', 'reported']);
    for (const role of Object.values(roles))
      for (const { topic } of topics) expect(mayPublish(role, { topic, qos: 2, retain: false })).toBe(false);
  });

  it.each(['$SYS/x', 'ofa', '', 'ofa/v1/main/07/dev-a/up/hb/x', 'ofa/v1/main/07/dev-a/up/', '/ofa/v1/main/07/dev-a/up/hb'])(
    'of %j is allowed to nobody',
    (topic) => {
      for (const role of Object.values(roles)) expect(mayPublish(role, { topic, qos: 1, retain: false })).toBe(false);
    },
  );
});

describe('subscribing', () => {
  const filters = [
    '#', '+', '$SYS/#', 'ofa/#', 'ofa/v1/+/+/+/up/+', 'ofa/v1/+/+/+/down/+', 'ofa/v1/main/07/dev-a/down/+', 'ofa/v1/main/07/dev-b/down/+',
    'ofa/v1/main/07/+/down/+', 'ofa/v1/main/07/dev-a/#', 'ofa/v1/main/07/dev-a/up/state', 'ofa/v1/main/07/dev-b/up/state',
    'ofa/v1/_enrol/00/clm-a/down/enrol', 'ofa/v1/_enrol/00/+/down/enrol', 'ofa/v1/_enrol/00/clm-a/up/enrol', 'ofa/v1/+/+/+/up/state', 'ofa/v1/+/+/+/up/reported',
  ]; // prettier-ignore
  it.each([
    ['device', ['ofa/v1/main/07/dev-a/down/+', 'ofa/v1/main/07/dev-a/up/state']],
    ['claim', ['ofa/v1/_enrol/00/clm-a/down/enrol']],
    ['controller', ['ofa/v1/+/+/+/up/+']],
    ['viewer', ['ofa/v1/+/+/+/up/state', 'ofa/v1/+/+/+/up/reported']],
  ])('is allowed to a %s for these filters alone', (role, allowed) => {
    expect(filters.filter((filter) => maySubscribe(roles[role] as Role, filter))).toEqual(allowed);
  });
});
