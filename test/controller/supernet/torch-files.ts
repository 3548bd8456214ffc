// Assembles files as torch.save writes them, and as nobody should: pickles opcode by opcode, zip archives member by member.
import { crc32, deflateRawSync } from 'node:zlib';
import type { ByteSource } from '../../../controller/supernet/torch/byte-source.ts';

export function bytesSource(bytes: Uint8Array): ByteSource {
  return { size: bytes.length, read: (offset, length) => new Uint8Array(bytes.subarray(offset, offset + length)) };
}

type Piece = Buffer | string;

/** Opcodes as text, arguments as buffers, one after the other. */
export const pickle = (...pieces: readonly Piece[]): Buffer =>
  Buffer.concat(pieces.map((piece) => (typeof piece === 'string' ? Buffer.from(piece, 'latin1') : piece)));

export const PROTOCOL_2 = '\x80\x02';

export function text(value: string): Buffer {
  const length = Buffer.alloc(4);
  length.writeUInt32LE(Buffer.byteLength(value));
  return pickle('X', length, Buffer.from(value));
}

export function shortText(value: string): Buffer {
  return pickle('\x8c', Buffer.from([Buffer.byteLength(value)]), Buffer.from(value));
}

export function int(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeInt32LE(value);
  return pickle('J', bytes);
}

const ints = (...values: readonly number[]): Buffer => pickle('(', ...values.map(int), 't');

interface TensorPieces {
  readonly storage?: string;
  readonly key?: string;
  readonly device?: string;
  readonly elements: number;
  readonly offset?: number;
  readonly shape: readonly number[];
  readonly strides: readonly number[];
  /** Before PyTorch 1.6 a view, mostly None, followed the number of elements. */
  readonly view?: Buffer | string;
}

export function tensor(pieces: TensorPieces): Buffer {
  const { storage = 'FloatStorage', key = '0', device = 'cpu', elements, offset = 0, shape, strides, view = '' } = pieces;
  return pickle(
    'ctorch._utils\n_rebuild_tensor_v2\n((', text('storage'), `ctorch\n${storage}\n`, text(key), text(device), int(elements), view, 'tQ',
    int(offset), ints(...shape), ints(...strides), '\x89ccollections\nOrderedDict\n)RtR',
  ); // prettier-ignore
}

/** {name: value, …} with the values as pickled. */
export const dict = (...entries: readonly (readonly [string, Piece])[]): Buffer =>
  pickle('}(', ...entries.flatMap(([name, value]) => [text(name), value]), 'u');

interface ZipOptions {
  readonly deflate?: boolean;
  readonly crc?: (bytes: Buffer) => number;
  /** Sizes and place stand in the 64-bit extra field of the directory. */
  readonly wide?: boolean;
}

/** Members in order; an archive of torch has `x/data.pkl` and `x/data/<key>`. */
export function zip(
  members: readonly (readonly [string, Buffer])[],
  { deflate = false, crc = crc32, wide = false }: ZipOptions = {},
): Buffer {
  const parts: Buffer[] = [];
  const directory: Buffer[] = [];
  let offset = 0;
  for (const [path, bytes] of members) {
    const name = Buffer.from(path);
    const packed = deflate ? deflateRawSync(bytes) : bytes;
    const common = Buffer.alloc(26);
    common.writeUInt16LE(deflate ? 8 : 0, 4);
    common.writeUInt32LE(crc(bytes), 10);
    common.writeUInt32LE(packed.length, 14);
    common.writeUInt32LE(bytes.length, 18);
    common.writeUInt16LE(name.length, 22);
    const tail = Buffer.alloc(14);
    tail.writeUInt32LE(offset, 10);
    const central = Buffer.from(common);
    const extra = Buffer.alloc(wide ? 28 : 0);
    if (wide) {
      for (const at of [14, 18]) central.writeUInt32LE(0xffffffff, at);
      tail.writeUInt32LE(0xffffffff, 10);
      central.writeUInt16LE(extra.length, 24);
      extra.writeUInt16LE(1, 0);
      extra.writeUInt16LE(24, 2);
      [bytes.length, packed.length, offset].forEach((value, i) => extra.writeBigUInt64LE(BigInt(value), 4 + 8 * i));
    }
    directory.push(pickle('PK\x01\x02', Buffer.alloc(2), central, tail, name, extra));
    const local = pickle('PK\x03\x04', common, name, packed);
    parts.push(local);
    offset += local.length;
  }
  const listed = Buffer.concat(directory);
  const end = Buffer.alloc(22);
  end.write('PK\x05\x06', 'latin1');
  end.writeUInt16LE(members.length, 10);
  end.writeUInt32LE(listed.length, 12);
  end.writeUInt32LE(offset, 16);
  return Buffer.concat([...parts, listed, end]);
}

export const archive = (value: Buffer, storages: Readonly<Record<string, Buffer>>, options?: ZipOptions): Buffer =>
  zip(
    [['x/data.pkl', pickle(PROTOCOL_2, value, '.')], ...Object.entries(storages).map(([key, bytes]) => [`x/data/${key}`, bytes] as const)],
    options,
  );

/** The pickles in a row of PyTorch before 1.6; a storage is its number of elements and their bytes. */
export function legacy(value: Buffer, storages: readonly (readonly [string, number, Buffer])[], system: Buffer = pickle('}')): Buffer {
  const one = (inner: Piece) => pickle(PROTOCOL_2, inner, '.');
  const counted = storages.map(([, elements, bytes]) => {
    const count = Buffer.alloc(8);
    count.writeBigInt64LE(BigInt(elements));
    return pickle(count, bytes);
  });
  const magic = pickle('\x8a\x0a', Buffer.from('6cfc9c46f9206aa85019', 'hex'));
  return pickle(
    one(magic),
    one('M\xe9\x03'),
    one(system),
    one(value),
    one(pickle('](', ...storages.map(([key]) => text(key)), 'e')),
    ...counted,
  );
}

export const floats = (...values: readonly number[]): Buffer => Buffer.from(Float32Array.from(values).buffer);
