// The blob store on a real file system; a full disk is the kernel's own /dev/full.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { open } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { BLOCK_BYTES, type BlobRef } from '../../../shared/artifact.ts';
import { openBlobStore, refOf, type BlobStore } from '../../../shared/node/blob-store.ts';
import { blockDigests, sha256Hex } from '../../../shared/node/hash.ts';
import { value } from '../../helpers/outcome.ts';

let dir: string;
let store: BlobStore;

beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), 'ofa-blobs-'));
  store = openBlobStore(dir);
});
afterEach(() => rmSync(dir, { recursive: true, force: true }));

/** Bytes without period, so that no two blocks are equal. */
function someBytes(length: number, seed = 1): Uint8Array {
  let state = seed;
  return Uint8Array.from({ length }, () => (state = (Math.imul(state, 1664525) + 1013904223) >>> 0) >>> 24);
}

const filesUnder = () =>
  readdirSync(dir, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => entry.name);

/** The long blob of these tests, with its block list already held, as a receiver has it. */
async function announce(): Promise<{ bytes: Uint8Array; ref: BlobRef; block: (index: number) => Uint8Array }> {
  const bytes = someBytes(3 * BLOCK_BYTES + 1000);
  await store.put(blockDigests(bytes));
  return { bytes, ref: refOf(bytes), block: (index) => bytes.subarray(index * BLOCK_BYTES, (index + 1) * BLOCK_BYTES) };
}

describe('a blob store', { timeout: 60_000 }, () => {
  it('names bytes by their SHA-256 and gives them back', async () => {
    const bytes = someBytes(100);
    const ref = value(await store.put(bytes));
    expect(ref).toEqual({ sha256: sha256Hex(bytes), bytes: 100, blocksSha256: null });
    expect(store.path(ref.sha256)).toBe(join(dir, ref.sha256.slice(0, 2), ref.sha256));
    expect(value(store.get(ref.sha256))).toEqual(Buffer.from(bytes));
    expect(store.has(sha256Hex('other'))).toBe(false);
  });

  it('keeps the list of block digests of a blob longer than one block as a blob', async () => {
    const bytes = someBytes(2 * BLOCK_BYTES + 5);
    const ref = value(await store.put(bytes));
    expect(ref).toEqual(refOf(bytes));
    const list = value(store.get(ref.blocksSha256 as string));
    expect(list.length).toBe(3 * 32);
    expect(list.subarray(64).toString()).toBe(Buffer.from(sha256Hex(bytes.subarray(2 * BLOCK_BYTES)), 'hex').toString());
    expect(value(await store.put(someBytes(BLOCK_BYTES))).blocksSha256).toBeNull();
  });

  it('keeps equal bytes once, within a batch and between batches, and leaves nothing half-written', async () => {
    const refs = value(await store.putAll([someBytes(10, 1), someBytes(10, 2), someBytes(10, 1)]));
    expect(refs[0]).toEqual(refs[2]);
    value(await store.putAll([someBytes(10, 2), someBytes(10, 3)]));
    expect(filesUnder().sort()).toEqual([1, 2, 3].map((seed) => sha256Hex(someBytes(10, seed))).sort());
  });

  it('removes a blob whose bytes have changed on the disk, so that it is made anew', async () => {
    const ref = value(await store.put(someBytes(50)));
    writeFileSync(store.path(ref.sha256), someBytes(50, 9));
    expect(store.get(ref.sha256)).toMatchObject({ ok: false, reason: 'HASH_MISMATCH' });
    expect(store.get(ref.sha256)).toMatchObject({ ok: false, reason: 'UNKNOWN_BLOB' });
    value(await store.put(someBytes(50)));
    expect(value(store.get(ref.sha256)).length).toBe(50);
  });

  it('answers a range as it is stored, shorter at the end', async () => {
    const bytes = someBytes(1000);
    const ref = value(await store.put(bytes));
    expect(value(await store.readRange(ref.sha256, 990, 100))).toEqual(Buffer.from(bytes.subarray(990)));
  });

  it('says LOW_DISK with what is needed and what is free, and shows no partial file under a hash', async () => {
    let created = 0;
    const full = openBlobStore(dir, { createFile: (path) => (created++ < 1 ? open(path, 'wx') : open('/dev/full', 'w')) });
    const outcome = await full.putAll([someBytes(300, 1), someBytes(400, 2), someBytes(500, 3)]);
    expect(outcome).toMatchObject({ ok: false, reason: 'LOW_DISK' });
    expect((outcome as { message: string }).message).toMatch(/1200 bytes to write, \d+ bytes free \(ENOSPC\)/);
    for (const name of filesUnder()) expect(sha256Hex(readFileSync(store.path(name)))).toBe(name);
  });

  it('clears what a writer that died left behind, and keeps what one that lives is writing', () => {
    const sha256 = sha256Hex('x');
    const dead = join(dir, 'incoming', `${sha256}.4194305.a.tmp`);
    const alive = join(dir, 'incoming', `${sha256}.${process.pid}.a.tmp`);
    writeFileSync(dead, 'half');
    writeFileSync(alive, 'half');
    openBlobStore(dir);
    expect(filesUnder()).toEqual([`${sha256}.${process.pid}.a.tmp`]);
    expect(store.has(sha256)).toBe(false);
  });
});

describe('a writer killed in the middle', { timeout: 60_000 }, () => {
  it('leaves only whole blobs under their hashes, and the next opener clears the rest', async () => {
    const script = `
      import { randomBytes } from 'node:crypto';
      const { openBlobStore } = await import(${JSON.stringify(new URL('../../../shared/node/blob-store.ts', import.meta.url).href)});
      const store = openBlobStore(${JSON.stringify(dir)});
      for (;;) {
        await store.putAll(Array.from({ length: 8 }, () => randomBytes(100_000)));
        console.log('batch');
      }`;
    for (let round = 0; round < 3; round++) {
      const writer = spawn(process.execPath, ['--input-type=module', '-e', script], { stdio: ['ignore', 'pipe', 'inherit'] });
      const ended = once(writer, 'exit');
      for (let batch = 0; batch <= round; batch++) await once(writer.stdout, 'data');
      writer.kill('SIGKILL');
      await ended;
    }
    openBlobStore(dir);
    const names = filesUnder();
    expect(names.length).toBeGreaterThan(3 * 8);
    for (const name of names) expect(sha256Hex(readFileSync(store.path(name)))).toBe(name);
  });
});

describe('a blob that arrives block by block', { timeout: 60_000 }, () => {
  it('appears under its name only when finished, and then alone', async () => {
    const { bytes, ref, block } = await announce();
    const partial = value(await store.openPartial(ref));
    expect(partial.missing()).toEqual([0, 1, 2, 3]);
    for (const index of [3, 0, 2, 1]) {
      expect(store.has(ref.sha256)).toBe(false);
      value(await partial.write(index, block(index)));
    }
    expect(store.has(ref.sha256)).toBe(false);
    value(await partial.finish());
    expect(value(store.get(ref.sha256))).toEqual(Buffer.from(bytes));
    expect(filesUnder().sort()).toEqual([ref.sha256, ref.blocksSha256 as string].sort());
  });

  it('of one block needs no list', async () => {
    const bytes = someBytes(77);
    const ref = refOf(bytes);
    const partial = value(await store.openPartial(ref));
    expect(await partial.write(0, someBytes(77, 5))).toMatchObject({ ok: false, reason: 'HASH_MISMATCH' });
    value(await partial.write(0, bytes));
    value(await partial.finish());
    expect(value(store.get(ref.sha256))).toEqual(Buffer.from(bytes));
  });

  it('refuses a corrupt block, one cut short, and one that is not of the blob, and still lacks it', async () => {
    const { ref, block } = await announce();
    const partial = value(await store.openPartial(ref));
    const corrupt = Uint8Array.from(block(1));
    corrupt[17] = (corrupt[17] as number) ^ 1;
    expect(await partial.write(1, corrupt)).toMatchObject({ ok: false, reason: 'HASH_MISMATCH' });
    expect(await partial.write(1, block(1).subarray(1))).toMatchObject({ ok: false, reason: 'HASH_MISMATCH' });
    expect(await partial.write(4, block(1))).toMatchObject({ ok: false, reason: 'INVALID_INPUT' });
    expect(partial.missing()).toEqual([0, 1, 2, 3]);
    await partial.close();
  });

  it('resumes with the blocks it has, and does not trust a mark whose bytes were lost', async () => {
    const { ref, block } = await announce();
    const before = value(await store.openPartial(ref));
    for (const index of [0, 2, 3]) value(await before.write(index, block(index)));
    await before.close();
    const part = join(dir, 'incoming', `${ref.sha256}.part`);
    const torn = await open(part, 'r+');
    await torn.write(new Uint8Array(64), 0, 64, 2 * BLOCK_BYTES);
    await torn.close();
    const after = value(await openBlobStore(dir).openPartial(ref));
    expect(after.missing()).toEqual([1, 2]);
    for (const index of after.missing()) value(await after.write(index, block(index)));
    value(await after.finish());
    expect(store.get(ref.sha256).ok).toBe(true);
  });

  it('asks for the block list first, and refuses a list of another length', async () => {
    const { bytes, ref } = await announce();
    const unlisted = refOf(someBytes(BLOCK_BYTES + 1, 8));
    expect(await store.openPartial(unlisted)).toMatchObject({ ok: false, reason: 'UNKNOWN_BLOB' });
    expect(await store.openPartial({ ...ref, bytes: bytes.length + BLOCK_BYTES })).toMatchObject({ ok: false, reason: 'HASH_MISMATCH' });
  });

  it('throws its parts away when the list was made for other bytes', async () => {
    const { bytes, ref, block } = await announce();
    const lie = { ...ref, sha256: sha256Hex('another blob') };
    const partial = value(await store.openPartial(lie));
    for (const index of partial.missing()) value(await partial.write(index, block(index)));
    expect(await partial.finish()).toMatchObject({ ok: false, reason: 'HASH_MISMATCH' });
    expect(store.has(lie.sha256)).toBe(false);
    expect(value(await store.openPartial(lie)).missing()).toHaveLength(Math.ceil(bytes.length / BLOCK_BYTES));
  });
});
