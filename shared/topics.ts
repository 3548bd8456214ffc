// Builds and parses topics: the only place where a `/` is typed. Always 7 levels: <root>/v1/<fleet>/<shard>/<device>/<dir>/<kind>.
import { ID_PATTERN } from './ids.ts';

const ROOT = 'ofa';
export const WIRE_MAJOR = 'v1';
/** Stands in the fleet's place while a claim enrols. */
export const ENROL_FLEET = '_enrol';
export const ENROL_SHARD = '00';
export const TOPIC_LEVELS = 7;

export type Direction = 'up' | 'down';

export interface Address {
  readonly fleet: string;
  /** `00`..`63`. */
  readonly shard: string;
  /** Device id; the claim id while enrolling. */
  readonly device: string;
}

export interface Topic extends Address {
  readonly dir: Direction;
  readonly kind: string;
}

export function buildTopic(address: Address, dir: Direction, kind: string): string {
  return [ROOT, WIRE_MAJOR, address.fleet, address.shard, address.device, dir, kind].join('/');
}

/** Null where the topic is not one of ours; the kind may still be unknown. */
export function parseTopic(topic: string): Topic | null {
  const levels = topic.split('/');
  if (levels.length !== TOPIC_LEVELS) return null;
  const [root, major, fleet, shard, device, dir, kind] = levels as [string, string, string, string, string, string, string];
  if (root !== ROOT || major !== WIRE_MAJOR || (dir !== 'up' && dir !== 'down')) return null;
  if (!ID_PATTERN.test(device) || !ID_PATTERN.test(kind) || !isShard(shard)) return null;
  if (fleet === ENROL_FLEET ? shard !== ENROL_SHARD : !ID_PATTERN.test(fleet)) return null;
  return { fleet, shard, device, dir, kind };
}

export function enrolAddress(claimId: string): Address {
  return { fleet: ENROL_FLEET, shard: ENROL_SHARD, device: claimId };
}

/** All that comes down to one device. */
export function deviceFilter(address: Address): string {
  return buildTopic(address, 'down', '+');
}

/** All that goes up, of every shard: for a controller that owns them all. */
export function controllerFilter(): string {
  return [ROOT, WIRE_MAJOR, '+', '+', '+', 'up', '+'].join('/');
}

/** What a viewer may follow: the presence and the reported model of every device. */
export function viewerFilters(): readonly string[] {
  return ['state', 'reported'].map((kind) => [ROOT, WIRE_MAJOR, '+', '+', '+', 'up', kind].join('/'));
}

function isShard(shard: string): boolean {
  return /^[0-5][0-9]$|^6[0-3]$/.test(shard);
}
