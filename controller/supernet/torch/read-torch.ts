// Files of torch.save, both kinds: the zip archive of PyTorch 1.6 and later, and the pickles in a row that came before it. Nothing in
// the file is executed, and the numbers of a tensor are read when they are asked for.
import { failed, ok, type Outcome } from '@ofa-fleet/shared/outcome.ts';
import type { ByteSource } from './byte-source.ts';
import { floatsOf } from './floats.ts';
import { Refusal, refuse } from './refusal.ts';
import { refuseName, storageKey, unpickle } from './unpickle.ts';
import { ELEMENT_BYTES, Storage, StoredTensor, type PickleValue } from './values.ts';
import { isZip, openZip } from './zip.ts';

/** torch's mark at the start of a file in the old format, and the version of that format. */
const LEGACY_MAGIC = 0x1950a86a20f9469cfc6cn;
const LEGACY_VERSION = 1001;
/** A training checkpoint of a supernet has a pickle of about a megabyte at most. */
const MAX_PICKLE_BYTES = 32 * 1024 * 1024;
/** 2^28 numbers of 4 bytes: hundreds of times the published supernets. */
const MAX_STORAGE_BYTES = 1024 * 1024 * 1024;

export interface TorchFile {
  readonly value: PickleValue;
  /**
   * The tensor's numbers as float32, row-major in its axes taken in `order` (e.g. [2, 3, 1, 0]). Fails with CORRUPT_FILE where the file does
   * not hold them; asking for a tensor of another file is a bug.
   */
  load(tensor: StoredTensor, order: readonly number[]): Outcome<Float32Array>;
}

/** `origin` names the file in messages. Fails with CORRUPT_FILE: cut short, damaged, of another kind, or asking for what is never loaded. */
export function readTorch(source: ByteSource, origin: string): Outcome<TorchFile> {
  return guarded(origin, () => {
    const opened = isZip(source) ? readArchive(source) : readLegacy(source);
    // Tensors may be views of one large storage: the last one read is kept.
    let last: { readonly key: string; readonly bytes: Uint8Array } | null = null;
    return {
      value: opened.value,
      load: (tensor, order) =>
        guarded(origin, () => {
          const { storage } = tensor;
          if (last?.key !== storage.key) last = { key: storage.key, bytes: opened.bytesOf(storage) };
          return floatsOf(tensor, last.bytes, order);
        }),
    };
  });
}

/**
 * The state dict inside: the value's `state_dict`, the value itself, or the one dictionary of tensors in it, under whatever name (`model`,
 * `model_state_dict`). Names that are no text and values that are no tensors are not in it.
 */
export function stateDictOf(file: TorchFile, origin: string): Outcome<ReadonlyMap<string, StoredTensor>> {
  const advice = "save it as torch.save({'state_dict': net.state_dict()}, FILE)";
  const { value } = file;
  if (!(value instanceof Map)) return failed('CORRUPT_FILE', `${origin} holds no dictionary of tensors: ${advice}.`);
  const named = tensorsIn(value.get('state_dict') ?? null);
  if (named.size > 0) return ok(named);
  const inner = [...value]
    .map(([key, entry]) => ({ key: typeof key === 'string' ? key : 'one without a name', tensors: tensorsIn(entry) }))
    .filter(({ tensors }) => tensors.size > 0);
  const [only, ...others] = inner;
  if (only !== undefined && others.length === 0) return ok(only.tensors);
  if (only !== undefined) {
    const keys = inner.map(({ key }) => key).join(', ');
    return failed(
      'CORRUPT_FILE',
      `${origin} holds ${inner.length} dictionaries of tensors, ${keys}, and none is called state_dict: ${advice}.`,
    );
  }
  const own = tensorsIn(value);
  if (own.size > 0) return ok(own);
  const names = [...value.keys()].slice(0, 10).map(String).join(', ');
  return failed('CORRUPT_FILE', `${origin} holds no state dict, its keys are ${names || 'none'}: ${advice}.`);
}

function tensorsIn(value: PickleValue): ReadonlyMap<string, StoredTensor> {
  const tensors = new Map<string, StoredTensor>();
  if (!(value instanceof Map)) return tensors;
  for (const [name, tensor] of value) if (typeof name === 'string' && tensor instanceof StoredTensor) tensors.set(name, tensor);
  return tensors;
}

function guarded<T>(origin: string, read: () => T): Outcome<T> {
  try {
    return ok(read());
  } catch (error) {
    if (error instanceof Refusal) return failed('CORRUPT_FILE', `${origin} ${error.message}.`);
    throw error;
  }
}

interface Opened {
  readonly value: PickleValue;
  /** The whole stored run that a storage is or is part of. */
  bytesOf(storage: Storage): Uint8Array;
}

function readArchive(source: ByteSource): Opened {
  const archive = openZip(source);
  const pickles = archive.names.filter((name) => /^[^/]+\/data\.pkl$/.test(name));
  const [pickle] = pickles;
  if (pickle === undefined || pickles.length > 1) {
    return refuse(`is a zip archive with ${pickles.length} members NAME/data.pkl, a file of torch.save has one`);
  }
  const folder = pickle.slice(0, -'data.pkl'.length);
  const order = archive.read(`${folder}byteorder`, 16);
  if (order !== null && new TextDecoder().decode(order).trim() !== 'little') {
    refuse('holds big-endian numbers: save it on a little-endian machine');
  }
  return {
    value: unpickle(archive.read(pickle, MAX_PICKLE_BYTES) as Uint8Array).value,
    bytesOf({ key, kind, elements, base }) {
      const name = `${folder}data/${key}`;
      const bytes = archive.read(name, MAX_STORAGE_BYTES);
      const needed = (base + elements) * ELEMENT_BYTES[kind];
      if (bytes === null) return refuse(`is cut short or damaged: it lacks "${name}"; copy the file again`);
      return bytes.length >= needed ? bytes : refuse(`is damaged: "${name}" has ${bytes.length} bytes of ${needed}; copy the file again`);
    },
  };
}

function readLegacy(source: ByteSource): Opened {
  const head = source.read(0, Math.min(source.size, MAX_PICKLE_BYTES));
  if (head.length === 0) refuse('is empty; copy the file again');
  const called = /^c([\w.]+)\n([\w.]+)\n/.exec(Buffer.from(head.subarray(0, 200)).toString('latin1')); // as pickles of protocol 0 begin
  if (called !== null) refuseName(`${called[1]}.${called[2]}`);
  if (head[0] !== 0x80) refuse('is no file of torch.save: it is neither a zip archive nor a pickle; give the .pth file itself');
  const magic = unpickle(head);
  if (magic.value !== LEGACY_MAGIC) refuse('is a pickle without the mark of torch.save; give the .pth file itself');
  const version = unpickle(head, magic.end);
  if (version.value !== LEGACY_VERSION)
    refuse(`is of another version of torch's old format than ${LEGACY_VERSION}, the only one that is read`);
  const system = unpickle(head, version.end);
  if (system.value instanceof Map && system.value.get('little_endian') === false) {
    refuse('holds big-endian numbers: save it on a little-endian machine');
  }
  const main = unpickle(head, system.end);
  const keys = unpickle(head, main.end);
  const kinds = storagesIn(main.value);
  const places = new Map<string, { readonly offset: number; readonly bytes: number }>();
  if (!Array.isArray(keys.value)) return refuse('is damaged: it lists no storages; copy the file again');
  let at = keys.end;
  for (const key of keys.value.map(storageKey)) {
    const storage = kinds.get(key);
    if (storage === undefined) return refuse(`is damaged: storage ${key} belongs to no tensor; copy the file again`);
    const cut = `is cut short: storage ${key} lies beyond its end; copy the file again`;
    if (at + 8 > source.size) refuse(cut);
    const elements = new DataView(source.read(at, 8).buffer).getBigInt64(0, true);
    const bytes = Number(elements) * ELEMENT_BYTES[storage.kind];
    if (!(bytes >= 0 && at + 8 + bytes <= source.size)) refuse(cut);
    if (bytes > MAX_STORAGE_BYTES) refuse(`has a storage of ${bytes} bytes, ${MAX_STORAGE_BYTES} at most are read`);
    places.set(key, { offset: at + 8, bytes });
    at += 8 + bytes;
  }
  return {
    value: main.value,
    bytesOf({ key, kind, elements, base }) {
      const place = places.get(key);
      const needed = (base + elements) * ELEMENT_BYTES[kind];
      if (place === undefined) return refuse(`is damaged: it lacks storage ${key}; copy the file again`);
      if (place.bytes < needed) return refuse(`is damaged: storage ${key} has ${place.bytes} bytes of ${needed}; copy the file again`);
      return source.read(place.offset, place.bytes);
    },
  };
}

/** Every storage that tensors anywhere inside `value` use, by key. */
function storagesIn(value: PickleValue): ReadonlyMap<string, Storage> {
  const found = new Map<string, Storage>();
  const seen = new Set<PickleValue>();
  const open: PickleValue[] = [value];
  for (let next = open.pop(); next !== undefined; next = open.pop()) {
    if (next instanceof StoredTensor) open.push(next.storage);
    else if (next instanceof Storage) found.set(next.key, next);
    else if ((Array.isArray(next) || next instanceof Map) && !seen.has(next)) {
      seen.add(next);
      for (const inner of Array.isArray(next) ? next : next.values()) open.push(inner);
    }
  }
  return found;
}
