// A blob on its way: blocks arrive in any order, over days and restarts. `<sha256>.part` holds the bytes, `<sha256>.marks` one byte a block
// (1 = written). Marks are only hints: a marked block is hashed again on resume, so no write order between the two files matters.
import { createHash } from 'node:crypto';
import { mkdir, open, readFile, rename, rm, type FileHandle } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { BLOCK_BYTES, type BlobRef } from '../artifact.ts';
import { failed, ok, type Outcome } from '../outcome.ts';
import { diskFailure, syncDirectories } from './disk.ts';
import { DIGEST_BYTES, sha256Hex } from './hash.ts';

export interface PartialBlob {
  /** Indices of the blocks still to come, ascending. */
  missing(): readonly number[];
  /** Checks the block against its digest and keeps it. HASH_MISMATCH (ask for it again), LOW_DISK (stop). A block already held is ignored. */
  write(index: number, bytes: Uint8Array): Promise<Outcome<void>>;
  /** All blocks are there: the whole is hashed, synced and appears under its name. Closes. HASH_MISMATCH throws the parts away. */
  finish(): Promise<Outcome<void>>;
  /** Keeps what has arrived, for a later `openPartial`. */
  close(): Promise<void>;
}

/** `digests` holds 32 bytes a block; for a blob of one block, the blob's own hash. Use `BlobStore.openPartial`. */
export async function openPartialBlob(
  ref: BlobRef,
  digests: Uint8Array,
  incoming: string,
  destination: string,
): Promise<Outcome<PartialBlob>> {
  const blocks = Math.ceil(ref.bytes / BLOCK_BYTES);
  if (digests.length !== blocks * DIGEST_BYTES) {
    return failed(
      'HASH_MISMATCH',
      `Blob ${ref.sha256} of ${ref.bytes} bytes has ${blocks} blocks, its list ${digests.length / DIGEST_BYTES}.`,
    );
  }
  const partPath = join(incoming, `${ref.sha256}.part`);
  const marksPath = join(incoming, `${ref.sha256}.marks`);
  const lengthOf = (index: number) => Math.min(BLOCK_BYTES, ref.bytes - index * BLOCK_BYTES);
  const isBlock = (index: number, bytes: Uint8Array) =>
    sha256Hex(bytes) === Buffer.from(digests.subarray(index * DIGEST_BYTES, (index + 1) * DIGEST_BYTES)).toString('hex');

  const opened = await Promise.allSettled([openReadWrite(partPath), openReadWrite(marksPath)]);
  const [part, marks] = opened.flatMap((end) => (end.status === 'fulfilled' ? [end.value] : []));
  if (part === undefined || marks === undefined) {
    await part?.close();
    return diskFailure(opened.find((end) => end.status === 'rejected')?.reason, incoming, ref.bytes);
  }
  const missing = new Set(Array.from({ length: blocks }, (_, index) => index));
  const marked = await readFile(marksPath);
  for (let index = 0; index < Math.min(blocks, marked.length); index++) {
    if (marked[index] !== 1) continue;
    const { buffer, bytesRead } = await part.read(Buffer.alloc(lengthOf(index)), 0, lengthOf(index), index * BLOCK_BYTES);
    if (isBlock(index, buffer.subarray(0, bytesRead))) missing.delete(index);
  }

  const close = async (): Promise<void> => {
    await part.close();
    await marks.close();
  };

  const discard = async (): Promise<void> => {
    await rm(partPath, { force: true });
    await rm(marksPath, { force: true });
  };

  return ok({
    missing: () => [...missing],
    async write(index, bytes) {
      if (!Number.isInteger(index) || index < 0 || index >= blocks) {
        return failed('INVALID_INPUT', `Blob ${ref.sha256} has blocks 0 to ${blocks - 1}, not ${index}.`);
      }
      if (!missing.has(index)) return ok(undefined);
      if (bytes.length !== lengthOf(index) || !isBlock(index, bytes)) {
        return failed(
          'HASH_MISMATCH',
          `Block ${index} of blob ${ref.sha256} (${bytes.length} of ${lengthOf(index)} bytes) does not have its digest: ask for it again.`,
        );
      }
      try {
        for (let done = 0; done < bytes.length;) {
          done += (await part.write(bytes, done, bytes.length - done, index * BLOCK_BYTES + done)).bytesWritten;
        }
        await marks.write(new Uint8Array([1]), 0, 1, index);
      } catch (error) {
        return diskFailure(error, incoming, ref.bytes);
      }
      missing.delete(index);
      return ok(undefined);
    },
    async finish() {
      if (missing.size > 0) throw new Error(`blob ${ref.sha256} lacks ${missing.size} of ${blocks} blocks`);
      const found = await hashOf(part, ref.bytes);
      if (found !== ref.sha256) {
        await close();
        await discard();
        return failed(
          'HASH_MISMATCH',
          `Blob ${ref.sha256} arrived as ${found}, though each block has its digest: its block list is wrong.`,
        );
      }
      try {
        await part.truncate(ref.bytes);
        await part.sync();
        await close();
        await mkdir(dirname(destination), { recursive: true });
        await rename(partPath, destination);
        await syncDirectories([dirname(destination), dirname(dirname(destination))]);
        await discard();
      } catch (error) {
        await close();
        return diskFailure(error, incoming, ref.bytes);
      }
      return ok(undefined);
    },
    close,
  });
}

/** Opens for reading and writing without truncating; makes the file where there is none. */
async function openReadWrite(path: string): Promise<FileHandle> {
  try {
    return await open(path, 'r+');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error;
    return open(path, 'wx+');
  }
}

async function hashOf(file: FileHandle, bytes: number): Promise<string> {
  const hash = createHash('sha256');
  const buffer = Buffer.alloc(BLOCK_BYTES);
  for (let at = 0; at < bytes;) {
    const { bytesRead } = await file.read(buffer, 0, Math.min(BLOCK_BYTES, bytes - at), at);
    if (bytesRead === 0) break;
    hash.update(buffer.subarray(0, bytesRead));
    at += bytesRead;
  }
  return hash.digest('hex');
}
