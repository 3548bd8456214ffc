// Identifiers on the wire: what may stand in a topic, and UUIDs of version 7 (RFC 9562), whose order is that of their making.

/** Fleets, devices, claims: no dots (one broker turns `/` into `.`), no leading underscore (reserved for `_enrol`). */
export const ID_PATTERN = /^[a-z0-9][a-z0-9_-]{0,63}$/;

/** Prefixes that tell the role of a client by its id; devices carry none of them. */
export const CLAIM_PREFIX = 'clm-';
export const CONTROLLER_PREFIX = 'ctl-';
export const VIEWER_PREFIX = 'vwr-';

export const UUID_PATTERN = /^[0-9a-f]{8}-[0-9a-f]{4}-[1-8][0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/;

export function isDeviceId(id: string): boolean {
  return ID_PATTERN.test(id) && ![CLAIM_PREFIX, CONTROLLER_PREFIX, VIEWER_PREFIX].some((prefix) => id.startsWith(prefix));
}

/** A UUID version 7: 48 bits of `wallMs`, the rest random. */
export function uuidV7(wallMs: number): string {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  const view = new DataView(bytes.buffer);
  view.setUint16(0, Math.floor(wallMs / 2 ** 32));
  view.setUint32(2, wallMs % 2 ** 32);
  view.setUint8(6, 0x70 | (view.getUint8(6) & 0x0f));
  view.setUint8(8, 0x80 | (view.getUint8(8) & 0x3f));
  const hex = hexOf(bytes);
  return [hex.slice(0, 8), hex.slice(8, 12), hex.slice(12, 16), hex.slice(16, 20), hex.slice(20)].join('-');
}

/** `prefix` and 16 random hex digits: matches ID_PATTERN. */
export function randomId(prefix: string): string {
  return prefix + hexOf(crypto.getRandomValues(new Uint8Array(8)));
}

/** 256 random bits as 64 hex digits: a secret that no dictionary holds. */
export function randomSecret(): string {
  return hexOf(crypto.getRandomValues(new Uint8Array(32)));
}

function hexOf(bytes: Uint8Array): string {
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, '0')).join('');
}
