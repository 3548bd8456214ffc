// SHA-256 in the forms that blobs need: the name of some bytes, and the digests of their blocks.
import { createHash } from 'node:crypto';
import { BLOCK_BYTES } from '../artifact.ts';

export const DIGEST_BYTES = 32;

/** 64 hex digits. */
export function sha256Hex(bytes: Uint8Array | string): string {
  return createHash('sha256').update(bytes).digest('hex');
}

/** The 32-byte digests of the blocks of `bytes`, concatenated: ceil(bytes / BLOCK_BYTES) · 32 bytes. Its SHA-256 is a blob's `blocksSha256`. */
export function blockDigests(bytes: Uint8Array): Uint8Array {
  const count = Math.ceil(bytes.length / BLOCK_BYTES);
  const digests = new Uint8Array(count * DIGEST_BYTES);
  for (let block = 0; block < count; block++) {
    const part = bytes.subarray(block * BLOCK_BYTES, (block + 1) * BLOCK_BYTES);
    digests.set(createHash('sha256').update(part).digest(), block * DIGEST_BYTES);
  }
  return digests;
}
