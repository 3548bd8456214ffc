// The part of the ZIP format that torch.save writes, and that somebody who packs such a file again may write: stored and deflated members,
// sizes of 64 bits (APPNOTE.TXT of PKWARE). No encryption, no archives in several parts.
import { crc32, inflateRawSync } from 'node:zlib';
import type { ByteSource } from './byte-source.ts';
import { refuse } from './refusal.ts';

const END_SIGNATURE = 0x06054b50;
const END_BYTES = 22;
const END64_SIGNATURE = 0x06064b50;
const END64_BYTES = 56;
const LOCATOR_SIGNATURE = 0x07064b50;
const LOCATOR_BYTES = 20;
const CENTRAL_SIGNATURE = 0x02014b50;
const CENTRAL_BYTES = 46;
const LOCAL_SIGNATURE = 0x04034b50;
const LOCAL_BYTES = 30;
const MAX_COMMENT_BYTES = 0xffff;
const SIXTY_FOUR_BIT_EXTRA = 1;
/** A 32-bit field that holds this points to its 64-bit form. */
const ELSEWHERE = 0xffffffff;
/** A supernet has about a thousand members. */
const MAX_MEMBERS = 100_000;
const MAX_DIRECTORY_BYTES = 32 * 1024 * 1024;

interface Member {
  readonly name: string;
  readonly method: number;
  readonly packedBytes: number;
  readonly bytes: number;
  /** Over the unpacked bytes; 0 where the writer left it out, as torch can be told to. */
  readonly crc: number;
  readonly headerOffset: number;
}

export interface ZipArchive {
  readonly names: readonly string[];
  /** Unpacked length, or null where there is no such member. */
  bytesOf(name: string): number | null;
  /** Unpacked and compared with its checksum; null where there is no such member. Longer than `limit` bytes is refused before unpacking. */
  read(name: string, limit: number): Uint8Array | null;
}

export function isZip(source: ByteSource): boolean {
  return source.size >= 4 && view(source.read(0, 4)).getUint32(0, true) === LOCAL_SIGNATURE;
}

/** Reads the directory at the end of the file. */
export function openZip(source: ByteSource): ZipArchive {
  const members = new Map<string, Member>();
  for (const member of directoryOf(source)) {
    if (members.has(member.name)) refuse(`holds "${member.name}" twice`);
    members.set(member.name, member);
  }
  return {
    names: [...members.keys()],
    bytesOf: (name) => members.get(name)?.bytes ?? null,
    read(name, limit) {
      const member = members.get(name);
      if (member === undefined) return null;
      if (member.bytes > limit) refuse(`holds "${name}" of ${member.bytes} bytes, ${limit} at most are read`);
      const bytes = unpack(source, member);
      if (member.crc !== 0 && crc32(bytes) !== member.crc) refuse(`is damaged: "${name}" does not match its checksum; copy the file again`);
      return bytes;
    },
  };
}

function directoryOf(source: ByteSource): Member[] {
  const { offset, bytes, count } = findDirectory(source);
  if (count > MAX_MEMBERS || bytes > MAX_DIRECTORY_BYTES) refuse(`lists ${count} members in ${bytes} bytes, far more than a supernet has`);
  if (offset + bytes > source.size) refuse('is cut short: its directory lies beyond its end; copy the file again');
  const data = source.read(offset, bytes);
  const fields = view(data);
  const members: Member[] = [];
  let at = 0;
  for (let i = 0; i < count; i++) {
    if (at + CENTRAL_BYTES > bytes || fields.getUint32(at, true) !== CENTRAL_SIGNATURE)
      refuse(`has a directory that breaks off at entry ${i + 1} of ${count}`);
    const [nameBytes, extraBytes, commentBytes] = [28, 30, 32].map((field) => fields.getUint16(at + field, true)) as [
      number,
      number,
      number,
    ];
    const end = at + CENTRAL_BYTES + nameBytes + extraBytes + commentBytes;
    if (end > bytes) refuse(`has a directory that breaks off at entry ${i + 1} of ${count}`);
    const nameEnd = at + CENTRAL_BYTES + nameBytes;
    const name = new TextDecoder().decode(data.subarray(at + CENTRAL_BYTES, nameEnd));
    if ((fields.getUint16(at + 8, true) & 1) !== 0) refuse(`holds "${name}" encrypted`);
    const [packedBytes, unpackedBytes, headerOffset] = wideFields(fields, at, nameEnd, extraBytes, name);
    members.push({
      name,
      method: fields.getUint16(at + 10, true),
      crc: fields.getUint32(at + 16, true),
      packedBytes,
      bytes: unpackedBytes,
      headerOffset,
    });
    at = end;
  }
  return members;
}

function findDirectory(source: ByteSource): { readonly offset: number; readonly bytes: number; readonly count: number } {
  const tailBytes = Math.min(source.size, END_BYTES + MAX_COMMENT_BYTES);
  const tailOffset = source.size - tailBytes;
  const tail = view(source.read(tailOffset, tailBytes));
  let at = tailBytes - END_BYTES;
  while (at >= 0 && tail.getUint32(at, true) !== END_SIGNATURE) at--;
  if (at < 0) refuse('is cut short: it begins as a zip archive and has no directory at its end; copy the file again');
  const locatorAt = tailOffset + at - LOCATOR_BYTES;
  if (locatorAt >= 0) {
    const locator = view(source.read(locatorAt, LOCATOR_BYTES));
    if (locator.getUint32(0, true) === LOCATOR_SIGNATURE) {
      const wideAt = number64(locator, 8);
      if (wideAt + END64_BYTES > source.size) refuse('is damaged: its directory lies beyond its end; copy the file again');
      const wide = view(source.read(wideAt, END64_BYTES));
      if (wide.getUint32(0, true) !== END64_SIGNATURE) refuse('is damaged: it has no 64-bit directory where it says; copy the file again');
      return { count: number64(wide, 32), bytes: number64(wide, 40), offset: number64(wide, 48) };
    }
  }
  return { count: tail.getUint16(at + 10, true), bytes: tail.getUint32(at + 12, true), offset: tail.getUint32(at + 16, true) };
}

/** Packed bytes, unpacked bytes and place of the entry at `at`, taken from its 64-bit extra field where the 32-bit ones say so. */
function wideFields(fields: DataView, at: number, extraAt: number, extraBytes: number, name: string): [number, number, number] {
  const narrow = {
    bytes: fields.getUint32(at + 24, true),
    packed: fields.getUint32(at + 20, true),
    offset: fields.getUint32(at + 42, true),
  };
  let wideAt = extraAt;
  while (wideAt + 4 <= extraAt + extraBytes && fields.getUint16(wideAt, true) !== SIXTY_FOUR_BIT_EXTRA)
    wideAt += 4 + fields.getUint16(wideAt + 2, true);
  let next = wideAt + 4;
  const take = (value: number): number => {
    if (value !== ELSEWHERE) return value;
    if (next + 8 > extraAt + extraBytes) refuse(`says no size of "${name}"`);
    const wide = number64(fields, next);
    next += 8;
    return wide;
  };
  const bytes = take(narrow.bytes);
  const packed = take(narrow.packed);
  return [packed, bytes, take(narrow.offset)];
}

function unpack(source: ByteSource, { name, method, packedBytes, bytes, headerOffset }: Member): Uint8Array {
  const cut = `is cut short: "${name}" lies beyond its end; copy the file again`;
  if (headerOffset + LOCAL_BYTES > source.size) refuse(cut);
  const header = view(source.read(headerOffset, LOCAL_BYTES));
  if (header.getUint32(0, true) !== LOCAL_SIGNATURE) refuse(`is damaged: "${name}" is not where the directory says; copy the file again`);
  const offset = headerOffset + LOCAL_BYTES + header.getUint16(26, true) + header.getUint16(28, true);
  if (offset + packedBytes > source.size) refuse(cut);
  const packed = source.read(offset, packedBytes);
  if (method === 0) {
    if (packedBytes !== bytes) refuse(`is damaged: "${name}" has two lengths, ${packedBytes} and ${bytes} bytes; copy the file again`);
    return packed;
  }
  if (method !== 8) refuse(`holds "${name}" compressed by method ${method}, only stored (0) and deflated (8) are read`);
  let unpacked: Uint8Array;
  try {
    unpacked = inflateRawSync(packed, { maxOutputLength: Math.max(bytes, 1) });
  } catch (error) {
    return refuse(
      `is damaged: "${name}" cannot be unpacked (${error instanceof Error ? error.message : String(error)}); copy the file again`,
    );
  }
  if (unpacked.length !== bytes) refuse(`is damaged: "${name}" unpacks to ${unpacked.length} bytes, not ${bytes}; copy the file again`);
  return unpacked;
}

function number64(fields: DataView, at: number): number {
  const value = fields.getBigUint64(at, true);
  return value > BigInt(Number.MAX_SAFE_INTEGER) ? refuse(`is damaged: it has a length of ${value}; copy the file again`) : Number(value);
}

function view(bytes: Uint8Array): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}
