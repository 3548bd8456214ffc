// Binary messages: a 16-byte prefix and raw bytes, never base64. Big-endian u32 each: handle, index, length, CRC-32C. The checksum rejects
// early; what decides over a block is its SHA-256.
import { failed, ok, type Outcome } from './outcome.ts';

export const PREFIX_BYTES = 16;

export interface Frame {
  /** Chosen by whoever asked; ties the bytes to the request. */
  readonly handle: number;
  /** Index of the block in its blob; 0 for an inference. */
  readonly index: number;
  readonly bytes: Uint8Array;
}

export function encodeFrame(frame: Frame): Uint8Array {
  const out = new Uint8Array(PREFIX_BYTES + frame.bytes.length);
  const view = new DataView(out.buffer);
  view.setUint32(0, frame.handle);
  view.setUint32(4, frame.index);
  view.setUint32(8, frame.bytes.length);
  view.setUint32(12, crc32c(frame.bytes));
  out.set(frame.bytes, PREFIX_BYTES);
  return out;
}

/** `bytes` of the answer is a view of `packet`. */
export function decodeFrame(packet: Uint8Array): Outcome<Frame> {
  if (packet.length < PREFIX_BYTES) {
    return failed('INVALID_INPUT', `a binary message has a prefix of ${PREFIX_BYTES} bytes; this one has ${packet.length} in all`);
  }
  const view = new DataView(packet.buffer, packet.byteOffset, packet.byteLength);
  const bytes = packet.subarray(PREFIX_BYTES);
  const length = view.getUint32(8);
  if (length !== bytes.length) {
    return failed('INVALID_INPUT', `the prefix of a binary message announces ${length} bytes and ${bytes.length} follow`);
  }
  const checksum = crc32c(bytes);
  if (checksum !== view.getUint32(12)) {
    return failed('HASH_MISMATCH', `the CRC-32C of ${bytes.length} bytes is ${checksum}, announced was ${view.getUint32(12)}`);
  }
  return ok({ handle: view.getUint32(0), index: view.getUint32(4), bytes });
}

/** Castagnoli's polynomial, reflected (RFC 3720, appendix B.4). */
const TABLE = Uint32Array.from({ length: 256 }, (_, byte) => {
  let crc = byte;
  for (let bit = 0; bit < 8; bit++) crc = crc & 1 ? (crc >>> 1) ^ 0x82f63b78 : crc >>> 1;
  return crc;
});

export function crc32c(bytes: Uint8Array): number {
  let crc = 0xffffffff;
  for (const byte of bytes) crc = (crc >>> 8) ^ (TABLE[(crc ^ byte) & 0xff] as number);
  return ~crc >>> 0;
}
