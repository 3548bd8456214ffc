// Reads a pickle without executing anything: its opcodes (https://github.com/python/cpython/blob/main/Lib/pickletools.py) are interpreted
// by a table that knows plain values and PyTorch's tensors alone; every other name is refused, so a hostile file can only be refused.
import { refuse } from './refusal.ts';
import { AllowedName, Storage, StoredTensor, type ElementKind, type PickleValue } from './values.ts';

const STORAGES: ReadonlyMap<string, ElementKind> = new Map([
  ['torch.FloatStorage', 'float32'],
  ['torch.DoubleStorage', 'float64'],
  ['torch.HalfStorage', 'float16'],
  ['torch.BFloat16Storage', 'bfloat16'],
  ['torch.LongStorage', 'int64'],
  ['torch.IntStorage', 'int32'],
  ['torch.ShortStorage', 'int16'],
  ['torch.CharStorage', 'int8'],
  ['torch.ByteStorage', 'uint8'],
  ['torch.BoolStorage', 'bool'],
]);
const ORDERED_DICT = 'collections.OrderedDict';
const TENSOR = 'torch._utils._rebuild_tensor_v2';
const PARAMETER = 'torch._utils._rebuild_parameter';
const ALLOWED: ReadonlyMap<string, AllowedName> = new Map(
  [ORDERED_DICT, TENSOR, PARAMETER, ...STORAGES.keys()].map((name) => [name, new AllowedName(name)]),
);

const MAX_RANK = 8;
/** A number of more bytes than this is in no checkpoint; torch's own magic number has ten. */
const MAX_LONG_BYTES = 16;

const ascii = (text: string): number => text.charCodeAt(0);
/** Opcodes by their letter in the format's own table, the unprintable ones by number. */
const OP = {
  mark: ascii('('), stop: ascii('.'), pop: ascii('0'), popMark: ascii('1'), dup: ascii('2'),
  none: ascii('N'), int: ascii('I'), binInt: ascii('J'), binInt1: ascii('K'), binInt2: ascii('M'), float: ascii('F'), binFloat: ascii('G'), long: ascii('L'),
  unicode: ascii('V'), binUnicode: ascii('X'), binString: ascii('T'), shortBinString: ascii('U'), string: ascii('S'),
  emptyDict: ascii('}'), dict: ascii('d'), setItem: ascii('s'), setItems: ascii('u'), emptyList: ascii(']'), list: ascii('l'), append: ascii('a'), appends: ascii('e'),
  emptyTuple: ascii(')'), tuple: ascii('t'), global: ascii('c'), instance: ascii('i'), reduce: ascii('R'), build: ascii('b'), binPersistent: ascii('Q'),
  get: ascii('g'), binGet: ascii('h'), longBinGet: ascii('j'), put: ascii('p'), binPut: ascii('q'), longBinPut: ascii('r'),
  proto: 0x80, tuple1: 0x85, tuple2: 0x86, tuple3: 0x87, newTrue: 0x88, newFalse: 0x89, long1: 0x8a, long4: 0x8b,
  shortBinUnicode: 0x8c, binUnicode8: 0x8d, stackGlobal: 0x93, memoize: 0x94, frame: 0x95,
} as const; // prettier-ignore

/** What opcodes that make objects or bytes are called, for the message. */
const REFUSED_OPCODES: ReadonlyMap<number, string> = new Map([
  [ascii('o'), 'OBJ'], [0x81, 'NEWOBJ'], [0x92, 'NEWOBJ_EX'], [0x82, 'EXT1'], [0x83, 'EXT2'], [0x84, 'EXT4'], [ascii('P'), 'PERSID'],
  [ascii('B'), 'BINBYTES'], [ascii('C'), 'SHORT_BINBYTES'], [0x8e, 'BINBYTES8'], [0x8f, 'EMPTY_SET'], [0x90, 'ADDITEMS'], [0x91, 'FROZENSET'],
  [0x96, 'BYTEARRAY8'], [0x97, 'NEXT_BUFFER'], [0x98, 'READONLY_BUFFER'],
]); // prettier-ignore

export interface Unpickled {
  readonly value: PickleValue;
  /** Where the next byte after the pickle is. */
  readonly end: number;
}

/** Reads one pickle of `bytes` from `start`. Throws a Refusal. */
export function unpickle(bytes: Uint8Array, start = 0): Unpickled {
  const fields = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  let at = start;
  /** Position of the next `length` bytes, which are then behind us. */
  const skip = (length: number): number => {
    if (at + length > bytes.length) refuse('is cut short in the middle of its pickle; copy the file again');
    at += length;
    return at - length;
  };
  const byte = (): number => bytes[skip(1)] as number;
  const uint16 = (): number => fields.getUint16(skip(2), true);
  const uint32 = (): number => fields.getUint32(skip(4), true);
  const uint64 = (): number => {
    const value = fields.getBigUint64(skip(8), true);
    return value > BigInt(bytes.length) ? refuse('is cut short in the middle of its pickle; copy the file again') : Number(value);
  };
  const text = (length: number, encoding: 'utf-8' | 'latin1' = 'utf-8'): string => {
    const from = skip(length);
    return new TextDecoder(encoding).decode(bytes.subarray(from, from + length));
  };
  const line = (): string => {
    const end = bytes.indexOf(ascii('\n'), at);
    if (end < 0) refuse('is cut short in the middle of its pickle; copy the file again');
    const value = text(end - at);
    at = end + 1;
    return value;
  };
  const wholeNumber = (digits: string): number | bigint => {
    if (!/^[+-]?\d{1,40}L?$/.test(digits)) refuse(`has the number "${digits.slice(0, 50)}" in its pickle, which is none`);
    return narrowed(BigInt(digits.replace('L', '')));
  };
  const long = (length: number): number | bigint => {
    if (length > MAX_LONG_BYTES) refuse(`has a whole number of ${length} bytes in its pickle, ${MAX_LONG_BYTES} at most are read`);
    const from = skip(length);
    let value = 0n;
    for (let i = length - 1; i >= 0; i--) value = (value << 8n) | BigInt(bytes[from + i] as number);
    return narrowed(BigInt.asIntN(8 * length, value));
  };

  let stack: PickleValue[] = [];
  const below: PickleValue[][] = []; // the stacks under each open mark
  const memo = new Map<number, PickleValue>();
  const pop = (): PickleValue => (stack.length === 0 ? malformed('takes a value from an empty stack') : (stack.pop() as PickleValue));
  const top = (): PickleValue => (stack.length === 0 ? malformed('looks at an empty stack') : (stack[stack.length - 1] as PickleValue));
  const popMark = (): PickleValue[] => {
    const items = stack;
    stack = below.pop() ?? malformed('closes a mark that it never set');
    return items;
  };
  const recall = (index: number): PickleValue => {
    const value = memo.get(index);
    return value === undefined ? malformed(`uses value ${index}, which it never kept`) : value;
  };
  const setItems = (items: readonly PickleValue[]): void => {
    const target = top();
    if (!(target instanceof Map) || items.length % 2 !== 0) malformed('puts keys and values into what is no dictionary');
    for (let i = 0; i < items.length; i += 2) target.set(items[i] as PickleValue, items[i + 1] as PickleValue);
  };
  const append = (items: readonly PickleValue[]): void => {
    const target = top();
    if (!Array.isArray(target)) malformed('appends to what is no list');
    for (const item of items) target.push(item);
  };
  const tuple = (length: number): PickleValue[] =>
    stack.length < length ? malformed('takes a value from an empty stack') : stack.splice(-length);

  for (;;) {
    const opcode = byte();
    switch (opcode) {
      case OP.proto: {
        const protocol = byte();
        if (protocol > 5) refuse(`has a pickle of protocol ${protocol}, 5 is the last that is read`);
        break;
      }
      case OP.frame: skip(8); break;
      case OP.stop: {
        const value = pop();
        if (stack.length > 0 || below.length > 0) malformed('ends with values left over');
        return { value, end: at };
      }
      case OP.mark: below.push(stack); stack = []; break;
      case OP.pop: pop(); break;
      case OP.popMark: popMark(); break;
      case OP.dup: stack.push(top()); break;
      case OP.none: stack.push(null); break;
      case OP.newTrue: stack.push(true); break;
      case OP.newFalse: stack.push(false); break;
      case OP.int: {
        const digits = line(); // 00 and 01 are how protocol 0 writes False and True
        stack.push(digits === '00' ? false : digits === '01' ? true : wholeNumber(digits));
        break;
      }
      case OP.long: stack.push(wholeNumber(line())); break;
      case OP.binInt: stack.push(fields.getInt32(skip(4), true)); break;
      case OP.binInt1: stack.push(byte()); break;
      case OP.binInt2: stack.push(uint16()); break;
      case OP.long1: stack.push(long(byte())); break;
      case OP.long4: stack.push(long(uint32())); break;
      case OP.float: stack.push(Number(line())); break;
      case OP.binFloat: stack.push(fields.getFloat64(skip(8), false)); break;
      case OP.unicode: stack.push(line()); break;
      case OP.string: stack.push(line().replace(/^(['"])(.*)\1$/, '$2')); break;
      case OP.binUnicode: stack.push(text(uint32())); break;
      case OP.shortBinUnicode: stack.push(text(byte())); break;
      case OP.binUnicode8: stack.push(text(uint64())); break;
      case OP.binString: stack.push(text(uint32(), 'latin1')); break;
      case OP.shortBinString: stack.push(text(byte(), 'latin1')); break;
      case OP.emptyDict: stack.push(new Map()); break;
      case OP.dict: { const items = popMark(); stack.push(new Map()); setItems(items); break; }
      case OP.setItem: setItems(tuple(2)); break;
      case OP.setItems: setItems(popMark()); break;
      case OP.emptyList: case OP.emptyTuple: stack.push([]); break;
      case OP.list: case OP.tuple: { const items = popMark(); stack.push(items); break; }
      case OP.append: append(tuple(1)); break;
      case OP.appends: append(popMark()); break;
      case OP.tuple1: stack.push(tuple(1)); break;
      case OP.tuple2: stack.push(tuple(2)); break;
      case OP.tuple3: stack.push(tuple(3)); break;
      case OP.global: { const module = line(); stack.push(allowedName(module, line())); break; }
      case OP.instance: { const module = line(); const name = line(); refuseName(`${module}.${name}`); break; }
      case OP.stackGlobal: { const [module, name] = tuple(2); stack.push(allowedName(module as PickleValue, name as PickleValue)); break; }
      case OP.reduce: { const [callee, args] = tuple(2); stack.push(make(callee as PickleValue, args as PickleValue)); break; }
      // The only attribute that a state dict carries is its _metadata, versions of layers, which nothing here asks for.
      case OP.build: { pop(); if (!(top() instanceof Map)) malformed('sets attributes of what is no dictionary'); break; }
      case OP.binPersistent: stack.push(storageOf(pop())); break;
      case OP.get: stack.push(recall(Number(line()))); break;
      case OP.binGet: stack.push(recall(byte())); break;
      case OP.longBinGet: stack.push(recall(uint32())); break;
      case OP.put: memo.set(Number(line()), top()); break;
      case OP.binPut: memo.set(byte(), top()); break;
      case OP.longBinPut: memo.set(uint32(), top()); break;
      case OP.memoize: memo.set(memo.size, top()); break;
      default: {
        const name = REFUSED_OPCODES.get(opcode);
        if (name === undefined) refuse(`is damaged: byte ${at - 1} of its pickle, ${opcode}, is no opcode; copy the file again`);
        refuse(`holds what is no tensor, dictionary, list, number or text (opcode ${name}), and such is never loaded`);
      }
    } // prettier-ignore
  }
}

function malformed(what: string): never {
  return refuse(`is damaged: its pickle ${what}; copy the file again`);
}

function narrowed(value: bigint): number | bigint {
  return value >= BigInt(Number.MIN_SAFE_INTEGER) && value <= BigInt(Number.MAX_SAFE_INTEGER) ? Number(value) : value;
}

function allowedName(module: PickleValue, name: PickleValue): AllowedName {
  if (typeof module !== 'string' || typeof name !== 'string') return malformed('asks for a name that is no text');
  return ALLOWED.get(`${module}.${name}`) ?? refuseName(`${module}.${name}`);
}

export function refuseName(name: string): never {
  return refuse(
    `asks to load "${name.slice(0, 200)}": only tensors, dictionaries, lists, numbers and text are read, and nothing of it was executed. If the file is ` +
      "yours, write its weights alone: torch.save({'state_dict': net.state_dict()}, FILE)",
  );
}

/** What calling an allowed name gives. */
function make(callee: PickleValue, args: PickleValue): PickleValue {
  if (!(callee instanceof AllowedName) || !Array.isArray(args)) return malformed('calls what cannot be called');
  if (callee.name === ORDERED_DICT) return dictOf(args[0] ?? []);
  if (callee.name === TENSOR) return tensorOf(args);
  if (callee.name === PARAMETER && args[0] instanceof StoredTensor) return args[0];
  return malformed(`calls ${callee.name} with what it does not take`);
}

function dictOf(pairs: PickleValue): Map<PickleValue, PickleValue> {
  if (!Array.isArray(pairs) || !pairs.every((pair) => Array.isArray(pair) && pair.length === 2))
    return malformed('makes a dictionary of what are no pairs');
  const made = new Map(pairs as [PickleValue, PickleValue][]);
  pairs.length = 0; // so that a hostile file that makes a million dictionaries of one long list gets one
  return made;
}

function tensorOf([storage, offset, shape, strides]: readonly PickleValue[]): StoredTensor {
  const isCount = (value: PickleValue | undefined): value is number => Number.isSafeInteger(value) && (value as number) >= 0;
  const areCounts = (value: PickleValue | undefined): value is number[] =>
    Array.isArray(value) && value.length <= MAX_RANK && value.every(isCount);
  if (!(storage instanceof Storage) || !isCount(offset) || !areCounts(shape) || !areCounts(strides) || shape.length !== strides.length) {
    return malformed('describes a tensor without storage, shape or strides');
  }
  const last = shape.reduce((end, side, axis) => end + (side - 1) * (strides[axis] as number), offset);
  if (!shape.includes(0) && last >= storage.elements) {
    return malformed(`describes a tensor of shape ${shape.join('x')} that reaches element ${last} of a storage of ${storage.elements}`);
  }
  return new StoredTensor(storage, offset, shape, strides);
}

export function storageKey(key: PickleValue | undefined): string {
  return typeof key === 'string' || typeof key === 'number' ? String(key) : malformed('names a storage by what is no text');
}

/** ('storage', its kind, key, device, elements[, view]); the device does not matter here. */
function storageOf(id: PickleValue): Storage {
  if (!Array.isArray(id)) return malformed('refers to what is no storage');
  const [tag, kind, key, , elements, view = null] = id;
  const elementKind = kind instanceof AllowedName ? STORAGES.get(kind.name) : undefined;
  const count = Number(elements);
  if (tag !== 'storage' || elementKind === undefined || !Number.isSafeInteger(count) || count < 0)
    return malformed('refers to what is no storage of numbers');
  if (view === null) return new Storage(storageKey(key), elementKind, count, 0);
  const [base, length] = Array.isArray(view) ? [Number(view[1]), Number(view[2])] : [NaN, NaN];
  if (!(base >= 0 && length >= 0 && base + length <= count)) return malformed('has a view that is not inside its storage');
  return new Storage(storageKey(key), elementKind, length, base);
}
