// Who may publish and subscribe what, by role: pure, so that the whole table can be tested. What is not allowed here is refused.
import { UP, isUpKind } from '@ofa-fleet/shared/protocol.ts';
import {
  buildTopic,
  controllerFilter,
  deviceFilter,
  enrolAddress,
  parseTopic,
  viewerFilters,
  type Address,
} from '@ofa-fleet/shared/topics.ts';

export type Role =
  | { readonly kind: 'device'; readonly address: Address }
  | { readonly kind: 'claim'; readonly claimId: string }
  | { readonly kind: 'controller' }
  | { readonly kind: 'viewer' };

export interface Publication {
  readonly topic: string;
  readonly qos: number;
  readonly retain: boolean;
}

/** Rules are written out for each device in full: fleet and shard too, not the id alone. */
export function mayPublish(role: Role, { topic, qos, retain }: Publication): boolean {
  const parsed = parseTopic(topic);
  if (parsed === null || qos > 1) return false;
  switch (role.kind) {
    case 'device': {
      if (!isUpKind(parsed.kind) || parsed.kind === 'enrol' || topic !== buildTopic(role.address, 'up', parsed.kind)) return false;
      return !retain || UP[parsed.kind].retain;
    }
    case 'claim':
      return !retain && topic === buildTopic(enrolAddress(role.claimId), 'up', 'enrol');
    case 'controller':
      return parsed.dir === 'down';
    case 'viewer':
      return false;
  }
}

/** Exact filters only: no client needs another one, and what is listed can be checked. */
export function maySubscribe(role: Role, filter: string): boolean {
  return filtersOf(role).includes(filter);
}

function filtersOf(role: Role): readonly string[] {
  switch (role.kind) {
    case 'device':
      return [deviceFilter(role.address), buildTopic(role.address, 'up', 'state')];
    case 'claim':
      return [buildTopic(enrolAddress(role.claimId), 'down', 'enrol')];
    case 'controller':
      return [controllerFilter()];
    case 'viewer':
      return viewerFilters();
  }
}
