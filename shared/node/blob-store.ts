// Content-addressed files: `<dir>/<2 hex>/<sha256>`. A blob exists under its name only when all its bytes are on the disk, in the order
// fsync file -> rename -> fsync directory, so a power cut leaves either the whole blob or none. Both programs keep their models in one.
import { randomUUID } from 'node:crypto';
import { existsSync, mkdirSync, readFileSync, readdirSync, rmSync } from 'node:fs';
import { mkdir, open, rename, rm, type FileHandle } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { BLOCK_BYTES, MAX_BLOB_BYTES, type BlobRef } from '../artifact.ts';
import { failed, ok, type Failure, type Outcome } from '../outcome.ts';
import { diskFailure, syncDirectories } from './disk.ts';
import { blockDigests, sha256Hex } from './hash.ts';
import { openPartialBlob, type PartialBlob } from './partial-blob.ts';
import { isAlive } from './process-identity.ts';

/** Files written at once: enough for the file system to join their syncs into few journal commits. */
const WRITES_AT_ONCE = 8;

export interface BlobStore {
  readonly dir: string;
  /** Where the blob lies or would lie. */
  path(sha256: string): string;
  has(sha256: string): boolean;
  /** The bytes, hashed again. A blob that no longer has its hash is removed, so that it is fetched anew, and answered HASH_MISMATCH. */
  get(sha256: string): Outcome<Uint8Array>;
  /** `length` bytes from `offset` on (fewer at the end), not hashed: for sending blocks, which the receiver checks. */
  readRange(sha256: string, offset: number, length: number): Promise<Outcome<Uint8Array>>;
  /** Keeps the bytes and, above BLOCK_BYTES, their list of block digests as a blob of its own. LOW_DISK where they do not fit. */
  put(bytes: Uint8Array): Promise<Outcome<BlobRef>>;
  /** `put` for many: files are synced side by side and each directory once. Blobs already held cost one look. */
  putAll(blobs: readonly Uint8Array[]): Promise<Outcome<readonly BlobRef[]>>;
  /** Begins or resumes the arrival of a blob block by block. Above one block its digest list (`blocksSha256`) must be held: UNKNOWN_BLOB else. */
  openPartial(ref: BlobRef): Promise<Outcome<PartialBlob>>;
}

export interface BlobStoreEffects {
  /** Opens a new file for writing; tests give one whose disk is full. */
  readonly createFile: (path: string) => Promise<FileHandle>;
}

const realEffects: BlobStoreEffects = { createFile: (path) => open(path, 'wx') };

/** Where a blob lies in the store's folder `dir`. */
export function blobPath(dir: string, sha256: string): string {
  return join(dir, sha256.slice(0, 2), sha256);
}

/** The reference of `bytes`, without keeping them. */
export function refOf(bytes: Uint8Array): BlobRef {
  const long = bytes.length > BLOCK_BYTES;
  return { sha256: sha256Hex(bytes), bytes: bytes.length, blocksSha256: long ? sha256Hex(blockDigests(bytes)) : null };
}

/** Opens the store, making its folder, and clears what writers that are gone have left half-written. */
export function openBlobStore(dir: string, effects: BlobStoreEffects = realEffects): BlobStore {
  const incoming = join(dir, 'incoming');
  mkdirSync(incoming, { recursive: true });
  removeOrphans(incoming);
  const path = (sha256: string) => blobPath(dir, sha256);
  const has = (sha256: string) => existsSync(path(sha256));

  async function write(sha256: string, bytes: Uint8Array): Promise<void> {
    const temporary = join(incoming, `${sha256}.${process.pid}.${randomUUID()}.tmp`);
    try {
      const file = await effects.createFile(temporary);
      try {
        await file.writeFile(bytes);
        await file.sync();
      } finally {
        await file.close();
      }
      await mkdir(dirname(path(sha256)), { recursive: true });
      await rename(temporary, path(sha256));
    } catch (error) {
      await rm(temporary, { force: true });
      throw error;
    }
  }

  async function putAll(blobs: readonly Uint8Array[]): Promise<Outcome<readonly BlobRef[]>> {
    const lacking = new Map<string, Uint8Array>();
    const refs = blobs.map((bytes): BlobRef => {
      if (bytes.length === 0 || bytes.length > MAX_BLOB_BYTES) {
        throw new RangeError(`a blob has 1 to ${MAX_BLOB_BYTES} bytes, not ${bytes.length}`);
      }
      const sha256 = sha256Hex(bytes);
      if (!has(sha256)) lacking.set(sha256, bytes);
      if (bytes.length <= BLOCK_BYTES) return { sha256, bytes: bytes.length, blocksSha256: null };
      const list = blockDigests(bytes);
      const blocksSha256 = sha256Hex(list);
      if (!has(blocksSha256)) lacking.set(blocksSha256, list);
      return { sha256, bytes: bytes.length, blocksSha256 };
    });
    const entries = [...lacking];
    try {
      for (let i = 0; i < entries.length; i += WRITES_AT_ONCE) {
        // allSettled: no write may still be running when a failure is answered
        const ends = await Promise.allSettled(entries.slice(i, i + WRITES_AT_ONCE).map(([sha256, bytes]) => write(sha256, bytes)));
        const broken = ends.find((end) => end.status === 'rejected');
        if (broken !== undefined) throw broken.reason;
      }
      if (entries.length > 0) await syncDirectories(new Set([...entries.map(([sha256]) => dirname(path(sha256))), dir]));
    } catch (error) {
      return diskFailure(error, dir, sumBytes(lacking.values()));
    }
    return ok(refs);
  }

  return {
    dir,
    path,
    has,
    putAll,
    get(sha256) {
      if (!has(sha256)) return unknownBlob(sha256, dir);
      const bytes = readFileSync(path(sha256));
      const found = sha256Hex(bytes);
      if (found === sha256) return ok(bytes);
      rmSync(path(sha256), { force: true });
      return failed('HASH_MISMATCH', `Blob ${sha256} in ${dir} held bytes with hash ${found}; it was removed: fetch or make it again.`);
    },
    async readRange(sha256, offset, length) {
      if (!has(sha256)) return unknownBlob(sha256, dir);
      const file = await open(path(sha256), 'r');
      try {
        const { buffer, bytesRead } = await file.read(Buffer.alloc(length), 0, length, offset);
        return ok(buffer.subarray(0, bytesRead));
      } finally {
        await file.close();
      }
    },
    async put(bytes) {
      const kept = await putAll([bytes]);
      return kept.ok ? ok(kept.value[0] as BlobRef) : kept;
    },
    async openPartial(ref) {
      if (ref.blocksSha256 === null) return openPartialBlob(ref, Buffer.from(ref.sha256, 'hex'), incoming, path(ref.sha256));
      const list = this.get(ref.blocksSha256);
      return list.ok ? openPartialBlob(ref, list.value, incoming, path(ref.sha256)) : list;
    },
  };
}

function unknownBlob(sha256: string, dir: string): Failure {
  return failed('UNKNOWN_BLOB', `Blob ${sha256} is not in ${dir}: fetch or make it first.`);
}

function sumBytes(blobs: Iterable<Uint8Array>): number {
  return [...blobs].reduce((sum, bytes) => sum + bytes.length, 0);
}

/** Half-written files carry their writer's process id; `.part` files stay, as they can be resumed. */
function removeOrphans(incoming: string): void {
  for (const name of readdirSync(incoming)) {
    const pid = /^[0-9a-f]{64}\.(\d+)\..*\.tmp$/.exec(name)?.[1];
    if (pid !== undefined && !isAlive(Number(pid), null)) rmSync(join(incoming, name), { force: true });
  }
}
