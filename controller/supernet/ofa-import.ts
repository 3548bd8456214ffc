// A supernet that Once-For-All's or OFAv2's PyTorch code trained, as one of ours: keys renamed, layouts turned, every shape checked.
import { createHash } from 'node:crypto';
import { basename } from 'node:path';
import { failed, ok, type Outcome } from '@ofa-fleet/shared/outcome.ts';
import type { Space } from '../space.ts';
import type { Checkpoint } from './checkpoint.ts';
import { BATCHES_TRACKED, ofaEntries, plainKey, styleOf, type KeyStyle, type OfaEntry } from './ofa-names.ts';
import { inferSpace, type InferredSpace, type SpaceWishes } from './ofa-space.ts';
import { initialValue } from './parameters.ts';
import type { PlainTensor } from './safetensors.ts';
import { withFile, type ByteSource } from './torch/byte-source.ts';
import { readTorch, stateDictOf, type TorchFile } from './torch/read-torch.ts';
import type { StoredTensor } from './torch/values.ts';

/** What DataParallel, DistributedDataParallel and torch.compile put before every key, one before the other. */
const WRAPPERS = ['module.', '_orig_mod.'];
/** Of each kind of mistake; their numbers come first. */
const MAX_LISTED = 10;
/** 2^28 numbers of 4 bytes each; the published supernets have fewer than 2^24. */
const MAX_PARAMETERS = 2 ** 28;
/** Read at a time. */
const HASHED_BYTES = 1024 * 1024;
const STYLE_NAMES: Readonly<Record<KeyStyle, string>> = { ofa: 'Once-For-All', ofav2: 'OFAv2' };

export interface Imported {
  readonly checkpoint: Checkpoint;
  /** Sentences for the user about what was supposed. */
  readonly notes: readonly string[];
}

/**
 * Reads `file`; `space` null: read off the shapes. Fails with NOT_FOUND, with CORRUPT_FILE as `readTorch` does, or with INVALID_INPUT where
 * keys or shapes are not the space's: all of them are listed.
 */
export function importOfa(file: string, space: Space | null, wishes: SpaceWishes): Outcome<Imported> {
  return withFile(file, (source) => {
    const torch = readTorch(source, file);
    if (!torch.ok) return torch;
    const stateDict = stateDictOf(torch.value, file);
    if (!stateDict.ok) return stateDict;
    const tensors = unwrapped(stateDict.value);
    const shapes = new Map([...tensors].map(([key, { shape }]) => [key, shape]));
    const found: Outcome<InferredSpace> =
      space === null
        ? inferSpace(shapes, wishes, file)
        : ok({ space, style: tensors.has('head_stage.first_conv.conv.weight') ? 'ofav2' : styleOf(space) });
    if (!found.ok) return found;
    const converted = convert(torch.value, tensors, found.value.space, found.value.style, file);
    if (!converted.ok) return converted;
    const imported = {
      file: basename(file),
      sha256: sha256Of(source),
      importer: `ofa-fleet import, keys of ${STYLE_NAMES[found.value.style]}`,
      space: space === null ? "read off the tensors' shapes" : 'given',
    };
    return ok({ ...converted.value, checkpoint: { ...converted.value.checkpoint, imported } });
  });
}

function sha256Of(source: ByteSource): string {
  const hash = createHash('sha256');
  for (let at = 0; at < source.size; at += HASHED_BYTES) hash.update(source.read(at, Math.min(HASHED_BYTES, source.size - at)));
  return hash.digest('hex');
}

function unwrapped(tensors: ReadonlyMap<string, StoredTensor>): ReadonlyMap<string, StoredTensor> {
  const wrapper = WRAPPERS.find((prefix) => [...tensors.keys()].every((key) => key.startsWith(prefix)));
  if (wrapper === undefined || tensors.size === 0) return tensors;
  return unwrapped(new Map([...tensors].map(([key, tensor]) => [key.slice(wrapper.length), tensor])));
}

function convert(
  torch: TorchFile,
  stored: ReadonlyMap<string, StoredTensor>,
  space: Space,
  style: KeyStyle,
  file: string,
): Outcome<Imported> {
  const entries = ofaEntries(space, style);
  const numbers = entries.reduce((sum, { shape }) => sum + shape.reduce((product, side) => product * side, 1), 0);
  if (numbers > MAX_PARAMETERS)
    return failed('INVALID_INPUT', `${file} describes a supernet of ${numbers} numbers, ${MAX_PARAMETERS} at most are imported.`);
  const byPlainKey = new Map([...stored.keys()].map((key) => [plainKey(key), key]));
  const keys = new Map(entries.map((entry) => [entry, stored.has(entry.key) ? entry.key : byPlainKey.get(plainKey(entry.key))]));
  // A net of fixed kernels and widths, as the first phase of training gives, has no kernel matrices; there they begin as the identity.
  const matrices = entries.filter(({ parameter }) => parameter.kind === 'kernel-matrix');
  const isStatic = matrices.length > 0 && matrices.every((entry) => keys.get(entry) === undefined);
  const isFilled = (entry: OfaEntry) => isStatic && entry.parameter.kind === 'kernel-matrix';

  const mistakes = mistakesIn(
    entries.filter((entry) => !isFilled(entry)),
    keys,
    stored,
  );
  if (mistakes !== null) return failed('INVALID_INPUT', `${file} is not a supernet of space ${space.name}: ${mistakes}`);

  const tensors = new Map<string, PlainTensor>();
  for (const entry of entries) {
    const { parameter, order } = entry;
    let data: Float32Array;
    if (isFilled(entry)) data = initialValue(parameter, () => 0);
    else {
      const key = keys.get(entry) as string;
      const loaded = torch.load(stored.get(key) as StoredTensor, order);
      if (!loaded.ok) return loaded;
      data = loaded.value;
      if (!data.every(Number.isFinite))
        return failed(
          'INVALID_INPUT',
          `${file}: "${key}" holds numbers that are not finite: its training diverged; take an earlier checkpoint.`,
        );
    }
    tensors.set(parameter.name, { shape: parameter.shape, data });
  }
  const notes = isStatic
    ? [
        `${file} is a net of fixed kernels and widths without kernel matrices: they begin as the identity, and its elastic training is still to come.`,
      ]
    : [];
  return ok({ checkpoint: { space, tensors, recipe: null, provenance: null }, notes });
}

/** One sentence with every key that is missing, surplus, or of a wrong shape or kind; null where all fit. */
function mistakesIn(
  entries: readonly OfaEntry[],
  keys: ReadonlyMap<OfaEntry, string | undefined>,
  stored: ReadonlyMap<string, StoredTensor>,
): string | null {
  const used = new Set(keys.values());
  const missing = entries.filter((entry) => keys.get(entry) === undefined).map(({ key }) => key);
  const surplus = [...stored.keys()].filter((key) => !used.has(key) && !key.endsWith(`.${BATCHES_TRACKED}`));
  const wrong = entries.flatMap((entry) => {
    const key = keys.get(entry);
    const tensor = key === undefined ? undefined : stored.get(key);
    if (key === undefined || tensor === undefined) return [];
    if (tensor.shape.join() !== entry.shape.join()) return [`${key} (${tensor.shape.join('x')} instead of ${entry.shape.join('x')})`];
    return tensor.storage.kind.includes('float') ? [] : [`${key} (of ${tensor.storage.kind} instead of a float kind)`];
  });
  const parts = [
    [missing, 'missing'],
    [surplus, 'surplus'],
    [wrong, 'of another shape or kind'],
  ] as const;
  const some = parts.filter(([list]) => list.length > 0);
  if (some.length === 0) return null;
  const counts = some.map(([list, what]) => `${list.length} ${what}`).join(', ');
  return `of its tensors are ${counts}. ${some.map(([list, what]) => `${what}: ${listed(list)}`).join('; ')}.`;
}

function listed(keys: readonly string[]): string {
  const rest = keys.length - MAX_LISTED;
  return keys.slice(0, MAX_LISTED).join(', ') + (rest > 0 ? ` and ${rest} more` : '');
}
