import { mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import {
  decodeCheckpoint,
  encodeCheckpoint,
  readCheckpoint,
  weightsHash,
  writeCheckpoint,
  type Checkpoint,
} from '../../../controller/supernet/checkpoint.ts';
import { decodeSafetensors, encodeSafetensors } from '../../../controller/supernet/safetensors.ts';
import { randomTensors, TINY } from './tiny.ts';

const CHECKPOINT: Checkpoint = { space: TINY, tensors: randomTensors(TINY, 1), recipe: { name: 'none' }, provenance: null };

describe('a supernet file', () => {
  let folder: string;
  beforeAll(() => {
    folder = mkdtempSync(join(tmpdir(), 'checkpoint-'));
  });
  afterAll(() => rmSync(folder, { recursive: true }));

  it('gives back what was written, and leaves no draft behind', () => {
    const file = join(folder, 'a', 'net.safetensors');
    writeCheckpoint(file, CHECKPOINT);
    expect(readdirSync(join(folder, 'a'))).toEqual(['net.safetensors']);
    expect(readCheckpoint(file)).toEqual({ ok: true, value: CHECKPOINT });
  });

  it('that cannot be written is an answer with the place, the cause and the next step, and leaves no draft', () => {
    const blocker = join(folder, 'file');
    writeFileSync(blocker, '');
    const inFile = writeCheckpoint(join(blocker, 'net.safetensors'), CHECKPOINT);
    expect(inFile).toMatchObject({ ok: false, reason: 'INVALID_INPUT' });
    if (!inFile.ok) expect(inFile.message).toMatch(/Cannot write .*file.net\.safetensors \(E.*: choose a folder that you may write to\.$/);
    const taken = join(folder, 'taken');
    mkdirSync(join(taken, 'net.safetensors'), { recursive: true });
    expect(writeCheckpoint(join(taken, 'net.safetensors'), CHECKPOINT)).toMatchObject({ ok: false, reason: 'INVALID_INPUT' });
    expect(readdirSync(taken)).toEqual(['net.safetensors']);
  });

  it('is read by offsets that the safetensors format defines', () => {
    const bytes = encodeSafetensors({
      metadata: { made: 'here' },
      tensors: new Map([['t', { shape: [2], data: Float32Array.of(1.5, -2) }]]),
    });
    const view = new DataView(bytes.buffer);
    const headerLength = Number(view.getBigUint64(0, true));
    const header = JSON.parse(new TextDecoder().decode(bytes.subarray(8, 8 + headerLength))) as unknown;
    expect(header).toEqual({ __metadata__: { made: 'here' }, t: { dtype: 'F32', shape: [2], data_offsets: [0, 8] } });
    expect([view.getFloat32(8 + headerLength, true), view.getFloat32(12 + headerLength, true)]).toEqual([1.5, -2]);
    expect((8 + headerLength) % 8).toBe(0);
  });

  it('survives any names, shapes and values', () => {
    const tensor = fc
      .array(fc.float({ noNaN: true }), { maxLength: 9 })
      .map((values) => ({ shape: [values.length], data: Float32Array.from(values) }));
    const name = fc.string({ minLength: 1 }).filter((text) => text !== '__metadata__' && text !== '__proto__');
    fc.assert(
      fc.property(fc.uniqueArray(fc.tuple(name, tensor), { selector: ([key]) => key }), (entries) => {
        const file = { metadata: { a: 'b' }, tensors: new Map(entries) };
        const decoded = decodeSafetensors(encodeSafetensors(file), 'x');
        if (!decoded.ok) throw new Error(decoded.message);
        expect(new Map([...decoded.value.tensors].sort())).toEqual(new Map(entries.toSorted()));
      }),
    );
  });

  it('cut short anywhere is a corrupt file, never a wrong net', () => {
    const bytes = encodeCheckpoint(CHECKPOINT);
    fc.assert(
      fc.property(fc.integer({ min: 0, max: bytes.length - 1 }), (length) => {
        const cut = decodeCheckpoint(bytes.subarray(0, length), 'cut.safetensors');
        expect(cut).toMatchObject({ ok: false, reason: 'CORRUPT_FILE' });
      }),
      { numRuns: 60 },
    );
  });

  it('says in one sentence what is wrong with it', () => {
    const encoded = encodeCheckpoint(CHECKPOINT);
    const file = join(folder, 'net.safetensors');
    const messageOf = (bytes: Uint8Array) => {
      writeFileSync(file, bytes);
      const outcome = readCheckpoint(file);
      return outcome.ok ? 'read' : outcome.message;
    };
    expect(messageOf(encoded.subarray(0, -4))).toMatch(
      /net\.safetensors .* ends at byte \d+, the file at \d+; it was cut short\. Copy the file again, or make it anew with `ofa-fleet train`\.$/,
    );
    expect(messageOf(Buffer.concat([encoded, Buffer.alloc(2)]))).toMatch(/2 bytes follow the last tensor/);
    expect(messageOf(new TextEncoder().encode('not a net at all'))).toMatch(/its header should have \d+ bytes, the whole file has 16/);
    expect(messageOf(encodeSafetensors({ metadata: {}, tensors: CHECKPOINT.tensors }))).toMatch(/names no search space/);
    expect(messageOf(encodeCheckpoint({ ...CHECKPOINT, space: { ...TINY, kernels: [3, 5] } }))).toMatch(
      /has shape 7x7x32x1, space tiny needs 5x5x32x1/,
    );
    expect(messageOf(encodeCheckpoint({ ...CHECKPOINT, space: { ...TINY, depths: [1, 4] } }))).toMatch(
      /lacks the tensor "stages.0.3.expand.weight"/,
    );
    const withNaN = new Map(CHECKPOINT.tensors).set('stem.norm.beta', { shape: [8], data: new Float32Array(8).fill(NaN) });
    expect(messageOf(encodeCheckpoint({ ...CHECKPOINT, tensors: withNaN }))).toMatch(/"stem.norm.beta" holds values that are not finite/);
    expect(readCheckpoint(join(folder, 'none'))).toMatchObject({ ok: false, reason: 'NOT_FOUND' });
  });

  it('has a hash of its weights alone', () => {
    const hash = weightsHash(CHECKPOINT);
    expect(weightsHash({ tensors: new Map([...CHECKPOINT.tensors].reverse()) })).toBe(hash);
    const other = new Map(CHECKPOINT.tensors).set('stem.norm.beta', { shape: [8], data: new Float32Array(8).fill(1e-7) });
    expect(weightsHash({ tensors: other })).not.toBe(hash);
  });
});
