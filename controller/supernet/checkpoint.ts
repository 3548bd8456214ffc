// A trained supernet as a value and as a file: its space, its tensors and how they came about, in one safetensors file.
import { createHash, randomBytes } from 'node:crypto';
import { closeSync, existsSync, fsyncSync, mkdirSync, openSync, readFileSync, renameSync, rmSync, statfsSync, writeSync } from 'node:fs';
import { dirname } from 'node:path';
import { z } from 'zod';
import { failed, ok, type Failure, type Outcome } from '@ofa-fleet/shared/outcome.ts';
import { parseSpace, type Space } from '../space.ts';
import { parametersOf } from './parameters.ts';
import { decodeSafetensors, encodeSafetensors, type PlainTensor } from './safetensors.ts';

const accuracySchema = z.object({
  /** 1 = the exit after the first stage. */
  exit: z.int(),
  resolution: z.int(),
  /** Top-1 on the untouched test images, with batch-norm statistics recomputed for this subnet. */
  accuracy: z.number(),
});

/** A net of uniform genes (null where it has no such gene) and its top-1 accuracies, batch norms recomputed for it. */
export const testedSettingSchema = z.object({
  resolution: z.int(),
  kernel: z.number().nullable(),
  /** Active branches of parallel blocks. */
  mask: z.number().nullable(),
  depth: z.int(),
  expand: z.number().nullable(),
  exit: z.int(),
  validation: z.number(),
  test: z.number(),
});

export type TestedSetting = Readonly<z.infer<typeof testedSettingSchema>>;

const uniformSchema = z.object({
  settings: z.int(),
  /** By test images: the highest is a maximum over them, hence optimistic. */
  highest: testedSettingSchema,
  lowest: testedSettingSchema,
  meanTest: z.number(),
  /** The one of the highest validation accuracy, whatever its test accuracy. */
  picked: testedSettingSchema,
});

const provenanceSchema = z.object({
  /** What was typed to make it. */
  command: z.string(),
  seed: z.int(),
  /** Fraction of the recipe's length that was run. */
  scale: z.number(),
  data: z.object({ name: z.string(), sha256: z.string(), trainingImages: z.int(), validationImages: z.int(), testImages: z.int() }),
  backend: z.string(),
  threads: z.int(),
  cpu: z.string(),
  node: z.string(),
  startedAt: z.string(),
  finishedAt: z.string(),
  /** Time spent training, interruptions left out. */
  trainingSeconds: z.number(),
  /** Nets of the largest and of the smallest genes, ended at each exit. */
  accuracy: z.object({ largest: z.array(accuracySchema), smallest: z.array(accuracySchema) }),
  /** Every machine that trained it: weights repeat bit for bit only on one of equal backend, threads and CPU. */
  machines: z.array(z.object({ backend: z.string(), threads: z.int(), cpu: z.string() })).default([]),
  /** How the teacher ran; empty where it is not known. */
  teacher: z.string().default(''),
  /** All uniform settings in a few numbers; null where they were not tested. */
  uniform: uniformSchema.nullable().default(null),
  /** The one subnet that these weights are for; null for a supernet, which has them all. */
  finetuned: z.object({ subnet: z.unknown(), from: z.string(), before: z.number(), after: z.number() }).nullable().default(null),
});

const importSchema = z.object({
  /** The file's name, without its folder. */
  file: z.string(),
  /** Of its bytes. */
  sha256: z.string(),
  /** Program and form of keys, e.g. `ofa-fleet import, keys of Once-For-All`. */
  importer: z.string(),
  /** How the space was found: read off the tensors' shapes, or given. */
  space: z.string(),
});

export type ImportRecord = Readonly<z.infer<typeof importSchema>>;
export type Provenance = Readonly<z.infer<typeof provenanceSchema>>;
export type UniformSummary = Readonly<z.infer<typeof uniformSchema>>;

export interface Checkpoint {
  readonly space: Space;
  /** By parameter name, in the layouts of `parametersOf`. */
  readonly tensors: ReadonlyMap<string, PlainTensor>;
  /** The recipe's settings as they were used; null for weights that no recipe made. */
  readonly recipe: unknown;
  /** null for weights that were not trained by this program. */
  readonly provenance: Provenance | null;
  /** Where the weights came from that another program trained; absent for all others. */
  readonly imported?: ImportRecord;
}

/** SHA-256 over names, shapes and bytes of all tensors, sorted by name: equal weights have equal hashes, whatever the file says around them. */
export function weightsHash(checkpoint: Pick<Checkpoint, 'tensors'>): string {
  const hash = createHash('sha256');
  for (const name of [...checkpoint.tensors.keys()].sort()) {
    const { shape, data } = checkpoint.tensors.get(name) as PlainTensor;
    hash.update(`${name} ${shape.join('x')}\n`).update(new Uint8Array(data.buffer, data.byteOffset, data.byteLength));
  }
  return hash.digest('hex');
}

export function encodeCheckpoint(checkpoint: Checkpoint): Uint8Array {
  const metadata = {
    format: 'ofa-fleet-supernet-1',
    space: JSON.stringify(checkpoint.space),
    recipe: JSON.stringify(checkpoint.recipe),
    provenance: JSON.stringify(checkpoint.provenance),
    ...(checkpoint.imported === undefined ? {} : { imported: JSON.stringify(checkpoint.imported) }),
  };
  return encodeSafetensors({ metadata, tensors: checkpoint.tensors });
}

/** Fails with CORRUPT_FILE where bytes, metadata or tensors are not those of a supernet of the space that it names. */
export function decodeCheckpoint(bytes: Uint8Array, origin: string): Outcome<Checkpoint> {
  const decoded = decodeWhole(bytes, origin);
  return decoded.ok ? decoded : failed(decoded.reason, `${decoded.message} Copy the file again, or make it anew with \`ofa-fleet train\`.`);
}

function decodeWhole(bytes: Uint8Array, origin: string): Outcome<Checkpoint> {
  const file = decodeSafetensors(bytes, origin);
  if (!file.ok) return file;
  const { metadata, tensors } = file.value;
  let raw: { space: unknown; recipe: unknown; provenance: unknown; imported: unknown };
  try {
    const read = (key: string): unknown => JSON.parse(metadata[key] ?? 'null');
    raw = { space: read('space'), recipe: read('recipe'), provenance: read('provenance'), imported: read('imported') };
  } catch {
    return failed('CORRUPT_FILE', `${origin} has metadata that is not JSON; it was not written by \`ofa-fleet train\`.`);
  }
  if (raw.space === null) return failed('CORRUPT_FILE', `${origin} names no search space; it was not written by \`ofa-fleet train\`.`);
  const space = parseSpace(raw.space, `The space inside ${origin}`);
  if (!space.ok) return failed('CORRUPT_FILE', space.message);
  const provenance = provenanceSchema.nullable().safeParse(raw.provenance);
  if (!provenance.success) return failed('CORRUPT_FILE', `${origin} has a provenance that does not say how it was trained.`);
  const imported = importSchema.nullable().safeParse(raw.imported);
  if (!imported.success) return failed('CORRUPT_FILE', `${origin} does not say what file it was imported from, though it was.`);

  const parameters = parametersOf(space.value);
  for (const { name, shape } of parameters) {
    const tensor = tensors.get(name);
    if (tensor === undefined)
      return failed('CORRUPT_FILE', `${origin} lacks the tensor "${name}" of a supernet of space ${space.value.name}.`);
    if (tensor.shape.join() !== shape.join()) {
      return failed(
        'CORRUPT_FILE',
        `${origin}: tensor "${name}" has shape ${tensor.shape.join('x')}, space ${space.value.name} needs ${shape.join('x')}.`,
      );
    }
    if (!tensor.data.every(Number.isFinite)) return failed('CORRUPT_FILE', `${origin}: tensor "${name}" holds values that are not finite.`);
  }
  if (tensors.size !== parameters.length) {
    return failed(
      'CORRUPT_FILE',
      `${origin} has ${tensors.size} tensors, a supernet of space ${space.value.name} has ${parameters.length}.`,
    );
  }
  return ok({
    space: space.value,
    tensors,
    recipe: raw.recipe,
    provenance: provenance.data,
    ...(imported.data === null ? {} : { imported: imported.data }),
  });
}

/** Fails with NOT_FOUND or CORRUPT_FILE. */
export function readCheckpoint(file: string): Outcome<Checkpoint> {
  let bytes: Uint8Array;
  try {
    bytes = readFileSync(file);
  } catch (error) {
    return failed('NOT_FOUND', `Cannot read the supernet ${file} (${String(error)}); \`ofa-fleet train\` makes one.`);
  }
  return decodeCheckpoint(bytes, file);
}

/** Fails as `writeAtomically` does. */
export function writeCheckpoint(file: string, checkpoint: Checkpoint): Outcome<null> {
  return writeAtomically(file, encodeCheckpoint(checkpoint));
}

/**
 * After a crash at any moment the file is the old one or the new one, whole. Fails with LOW_DISK, or with INVALID_INPUT where no file can
 * be written at that place; then no draft is left.
 */
export function writeAtomically(file: string, bytes: Uint8Array): Outcome<null> {
  const draft = `${file}.${randomBytes(4).toString('hex')}.tmp`;
  try {
    mkdirSync(dirname(file), { recursive: true });
    const descriptor = openSync(draft, 'w');
    try {
      let written = 0;
      while (written < bytes.length) written += writeSync(descriptor, bytes, written);
      fsyncSync(descriptor);
    } finally {
      closeSync(descriptor);
    }
    renameSync(draft, file);
    return ok(null);
  } catch (error) {
    removeDraft(draft);
    return writeFailure(error, file, bytes.length);
  }
}

function removeDraft(draft: string): void {
  try {
    rmSync(draft, { force: true });
  } catch {
    // There is none where its folder could not be made.
  }
}

const PLACE_ERRORS = ['EACCES', 'EPERM', 'EROFS', 'ENOTDIR', 'EISDIR', 'EEXIST', 'ENOENT', 'ENAMETOOLONG'];

/** What the disk refused, as a sentence; any other error is thrown on. */
export function writeFailure(error: unknown, file: string, bytes: number): Failure {
  const { code = '', message } = error as NodeJS.ErrnoException;
  if (code === 'ENOSPC' || code === 'EDQUOT') {
    let folder = dirname(file);
    while (!existsSync(folder)) folder = dirname(folder);
    const disk = statfsSync(folder);
    return failed(
      'LOW_DISK',
      `No room for the ${bytes} bytes of ${file}, ${disk.bavail * disk.bsize} bytes are free (${code}): free space there and start the same command again, or choose another folder.`,
    );
  }
  if (PLACE_ERRORS.includes(code)) {
    return failed('INVALID_INPUT', `Cannot write ${file} (${message}): choose a folder that you may write to.`);
  }
  throw error;
}
