// Hands out blobs block by block to devices that ask: only what a live manifest of that device names, and never more than its window.
import { BLOCK_BYTES, blobsOf, manifestSchema } from '@ofa-fleet/shared/artifact.ts';
import type { Frame } from '@ofa-fleet/shared/blocks.ts';
import type { BlobStore } from '@ofa-fleet/shared/node/blob-store.ts';
import { failed, ok, type Outcome } from '@ofa-fleet/shared/outcome.ts';
import { MAX_BLOCK_WINDOW, type DownPayload, type UpPayload } from '@ofa-fleet/shared/protocol.ts';
import type { Db } from '../store/database.ts';
import { findManifestRef, liveManifests } from '../store/manifests.ts';

/** Devices served at once: the rest ask again a little later. 50 × window 8 × 64 KiB = 25 MiB on the way at most. */
const MAX_TRANSFERS = 50;
const BUSY_RETRY_MS = 1000;
/** What manifests name is kept for so many of them. */
const MAX_KNOWN = 512;

interface BlockRequest extends UpPayload<'art-req'> {
  readonly deviceId: string;
}

export interface BlockServer {
  /** Sends the blocks through `send`; answers what to say on art-ctl where it does not. */
  serve(request: BlockRequest, send: (frame: Frame) => Promise<boolean>): Promise<DownPayload<'art-ctl'> | null>;
  /** What is live for this device has changed. */
  forget(deviceId: string): void;
}

export function createBlockServer(db: Db, blobs: BlobStore): BlockServer {
  /** Manifest -> every blob it opens: itself, its blobs, their block lists. */
  const named = new Map<string, ReadonlySet<string>>();
  /** Device -> blobs open to it; dropped when a grant or a deployment changes, even while they are looked up. */
  const open = new Map<string, Promise<ReadonlySet<string>>>();
  /** Blocks on the way, by device. */
  const underWay = new Map<string, number>();

  async function namedBy(manifestSha256: string): Promise<ReadonlySet<string>> {
    const known = named.get(manifestSha256);
    if (known !== undefined) return known;
    const ref = await findManifestRef(db, manifestSha256);
    const bytes = blobs.get(manifestSha256);
    if (ref === null || !bytes.ok) return new Set();
    const manifest = manifestSchema.parse(JSON.parse(new TextDecoder().decode(bytes.value)));
    const names = new Set(
      [ref, ...blobsOf(manifest)].flatMap(({ sha256, blocksSha256 }) => (blocksSha256 === null ? [sha256] : [sha256, blocksSha256])),
    );
    if (named.size >= MAX_KNOWN) named.delete(named.keys().next().value as string);
    named.set(manifestSha256, names);
    return names;
  }

  async function lookUp(deviceId: string): Promise<ReadonlySet<string>> {
    const sets = await Promise.all((await liveManifests(db, deviceId)).map(namedBy));
    return new Set(sets.flatMap((set) => [...set]));
  }

  async function openTo(deviceId: string): Promise<ReadonlySet<string>> {
    const lookedUp = open.get(deviceId) ?? lookUp(deviceId);
    open.set(deviceId, lookedUp);
    try {
      return await lookedUp;
    } catch (error) {
      open.delete(deviceId);
      throw error;
    }
  }

  async function readBlocks({ sha256, first, count }: BlockRequest): Promise<Outcome<readonly Uint8Array[]>> {
    const bytes = await blobs.readRange(sha256, first * BLOCK_BYTES, count * BLOCK_BYTES);
    if (!bytes.ok) return bytes;
    if (bytes.value.length === 0) return failed('UNKNOWN_BLOB', `blob ${sha256} has no block ${first}`);
    return ok(
      Array.from({ length: Math.ceil(bytes.value.length / BLOCK_BYTES) }, (_, i) =>
        bytes.value.subarray(i * BLOCK_BYTES, (i + 1) * BLOCK_BYTES),
      ),
    );
  }

  return {
    async serve(request, send) {
      const { deviceId, handle, sha256, first, count } = request;
      const refuse = (reason: 'UNKNOWN_BLOB' | 'NOT_AUTHORISED' | 'BUSY', message: string, retryAfterMs: number | null = null) => ({
        handle,
        reason,
        message,
        retryAfterMs,
      });
      if (!(await openTo(deviceId)).has(sha256)) {
        return refuse('NOT_AUTHORISED', `no job or deployment of ${deviceId} names the blob ${sha256}`);
      }
      const mine = underWay.get(deviceId) ?? 0;
      if (mine + count > 2 * MAX_BLOCK_WINDOW || (mine === 0 && underWay.size >= MAX_TRANSFERS)) {
        return refuse(
          'BUSY',
          `${underWay.size} transfers are under way, ${mine} blocks to this device; the limits are ${MAX_TRANSFERS} and ${2 * MAX_BLOCK_WINDOW}`,
          BUSY_RETRY_MS,
        );
      }
      underWay.set(deviceId, mine + count);
      try {
        const blocks = await readBlocks(request);
        if (!blocks.ok) return refuse('UNKNOWN_BLOB', blocks.message);
        await Promise.all(blocks.value.map((bytes, i) => send({ handle, index: first + i, bytes })));
        return null;
      } finally {
        const left = (underWay.get(deviceId) ?? 0) - count;
        if (left > 0) underWay.set(deviceId, left);
        else underWay.delete(deviceId);
      }
    },
    forget: (deviceId) => void open.delete(deviceId),
  };
}
