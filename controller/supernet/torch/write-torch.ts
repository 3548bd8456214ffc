// Writes a state dict as torch.save does since PyTorch 1.6: a zip archive of stored members, one pickle of protocol 2, one file of numbers
// for each tensor. torch.load(FILE, weights_only=True) reads it.
import { crc32 } from 'node:zlib';
import { ELEMENT_BYTES } from './values.ts';

export interface TensorToSave {
  readonly kind: 'float32' | 'int64';
  /** Row-major. */
  readonly shape: readonly number[];
  /** Little-endian numbers of that kind, made when their turn comes. */
  readonly bytes: () => Uint8Array;
}

interface Member {
  readonly path: string;
  readonly size: number;
  readonly bytes: () => Uint8Array;
}

const FOLDER = 'supernet';
/** torch maps files into memory, and numbers must begin where vector instructions like them. */
const ALIGNMENT = 64;
const LOCAL_BYTES = 30;
const EXTRA_HEAD_BYTES = 4;
const CENTRAL_BYTES = 46;
const END_BYTES = 22;
const STORAGE = { float32: 'FloatStorage', int64: 'LongStorage' } as const;

/** The file's bytes: {'state_dict': OrderedDict of `tensors`}. */
export function encodeTorch(tensors: ReadonlyMap<string, TensorToSave>): Uint8Array {
  const member = (path: string, content: Uint8Array): Member => ({ path, size: content.length, bytes: () => content });
  return zip([
    member('data.pkl', pickleOf(tensors)),
    member('byteorder', Buffer.from('little')),
    ...[...tensors.values()].map(({ kind, shape, bytes }, i) => ({
      path: `data/${i}`,
      size: elementsOf(shape) * ELEMENT_BYTES[kind],
      bytes,
    })),
    member('version', Buffer.from('3\n')),
  ]);
}

/** Opcodes in the order that Python's own pickler gives them, without memo: nothing is referred to twice. */
function pickleOf(tensors: ReadonlyMap<string, TensorToSave>): Uint8Array {
  const parts: Buffer[] = [];
  const raw = (...bytes: readonly number[]) => parts.push(Buffer.from(bytes));
  const op = (letter: string) => parts.push(Buffer.from(letter, 'latin1'));
  const text = (value: string) => {
    const bytes = Buffer.from(value);
    const head = Buffer.alloc(5);
    head.write('X', 'latin1');
    head.writeUInt32LE(bytes.length, 1);
    parts.push(head, bytes);
  };
  const number = (value: number) => {
    const bytes = Buffer.alloc(5);
    bytes.write('J', 'latin1');
    bytes.writeInt32LE(value, 1);
    parts.push(bytes);
  };
  const tuple = (values: readonly number[]) => {
    op('(');
    values.forEach(number);
    op('t');
  };
  const global = (module: string, name: string) => op(`c${module}\n${name}\n`);
  const emptyOrderedDict = () => {
    global('collections', 'OrderedDict');
    op(')R');
  };

  raw(0x80, 2);
  op('}');
  text('state_dict');
  emptyOrderedDict();
  op('(');
  [...tensors].forEach(([key, { kind, shape }], i) => {
    text(key);
    global('torch._utils', '_rebuild_tensor_v2');
    op('((');
    text('storage');
    global('torch', STORAGE[kind]);
    text(String(i));
    text('cpu');
    number(elementsOf(shape));
    op('tQ');
    number(0);
    tuple(shape);
    tuple(shape.map((_, axis) => elementsOf(shape.slice(axis + 1))));
    raw(0x89); // needs no gradient
    emptyOrderedDict(); // no hooks
    op('tR');
  });
  op('us.');
  return Buffer.concat(parts);
}

function zip(members: readonly Member[]): Uint8Array {
  let offset = 0;
  const placed = members.map(({ path, size, bytes }) => {
    const name = Buffer.from(`${FOLDER}/${path}`);
    const unpadded = offset + LOCAL_BYTES + name.length + EXTRA_HEAD_BYTES;
    const padding = (ALIGNMENT - (unpadded % ALIGNMENT)) % ALIGNMENT;
    const place = { name, size, bytes, offset, padding };
    offset = unpadded + padding + size;
    return place;
  });
  const directoryBytes = placed.reduce((sum, { name }) => sum + CENTRAL_BYTES + name.length, 0);
  const file = Buffer.alloc(offset + directoryBytes + END_BYTES);
  let at = offset;
  for (const { name, size, bytes, offset: start, padding } of placed) {
    const data = start + LOCAL_BYTES + name.length + EXTRA_HEAD_BYTES + padding;
    file.set(bytes(), data);
    const common = Buffer.alloc(26); // version needed .. length of the extra field, alike in both headers
    common.writeUInt16LE(20, 0);
    common.writeUInt16LE(0x21, 8); // 1980-01-01, so that equal supernets give equal files
    common.writeUInt32LE(crc32(file.subarray(data, data + size)), 10);
    common.writeUInt32LE(size, 14);
    common.writeUInt32LE(size, 18);
    common.writeUInt16LE(name.length, 22);

    file.write('PK\x03\x04', start, 'latin1');
    file.set(common, start + 4);
    file.writeUInt16LE(EXTRA_HEAD_BYTES + padding, start + 28);
    file.set(name, start + LOCAL_BYTES);
    file.write('FB', start + LOCAL_BYTES + name.length, 'latin1'); // the extra field by which torch pads
    file.writeUInt16LE(padding, start + LOCAL_BYTES + name.length + 2);

    file.write('PK\x01\x02', at, 'latin1');
    file.writeUInt16LE(20, at + 4);
    file.set(common, at + 6);
    file.writeUInt32LE(start, at + 42);
    file.set(name, at + CENTRAL_BYTES);
    at += CENTRAL_BYTES + name.length;
  }
  file.write('PK\x05\x06', at, 'latin1');
  file.writeUInt16LE(members.length, at + 8);
  file.writeUInt16LE(members.length, at + 10);
  file.writeUInt32LE(directoryBytes, at + 12);
  file.writeUInt32LE(offset, at + 16);
  return file;
}

function elementsOf(shape: readonly number[]): number {
  return shape.reduce((product, side) => product * side, 1);
}
