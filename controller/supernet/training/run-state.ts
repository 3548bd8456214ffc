// What a training run must remember to go on after a kill at any moment: where it is, and (in the same file, so they cannot disagree)
// weights and momenta. Invariant: the state of step s was written whole before step s + 1 began to matter; everything drawn or computed
// later follows from it and the settings alone.
import { existsSync, readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { z } from 'zod';
import { failed, ok, type Outcome } from '@ofa-fleet/shared/outcome.ts';
import { writeAtomically } from '../checkpoint.ts';
import { decodeSafetensors, encodeSafetensors, type PlainTensor } from '../safetensors.ts';

const machineSchema = z.object({
  backend: z.string(),
  /** 0 = the library's own choice. */
  threads: z.int(),
  cpu: z.string(),
});

/** What computes: a run repeats bit for bit only where all three are equal. */
export type Machine = Readonly<z.infer<typeof machineSchema>>;

export function machineText({ backend, threads, cpu }: Machine): string {
  return `${backend}, ${threads === 0 ? 'all' : threads} thread(s), ${cpu}`;
}

const positionSchema = z.object({
  /** What the run was started with; a state of other settings is refused. */
  settings: z.string(),
  /** Index of the phase, and the step to do next in it. */
  phase: z.int(),
  step: z.int(),
  /** Highest mean validation accuracy of the phase so far; its weights are in the phase's file. null: none yet. */
  best: z.number().nullable(),
  /** The steps before `step` are done, but their weights have not been validated. */
  validationDue: z.boolean().default(false),
  startedAt: z.string(),
  trainingSeconds: z.number(),
  /** Where it has run so far, each once, the last one last. */
  machines: z.array(machineSchema).min(1),
});

export type Position = Readonly<z.infer<typeof positionSchema>>;

export interface RunState {
  readonly position: Position;
  readonly weights: ReadonlyMap<string, PlainTensor>;
  readonly momenta: ReadonlyMap<string, PlainTensor>;
}

const STATE_FILE = 'state.safetensors';
const PROBE_FILE = 'writable';
const MOMENTUM = 'momentum:';

/** Fails as `writeAtomically` does; so does `writeBest`. */
export function writeState(folder: string, { position, weights, momenta }: RunState): Outcome<null> {
  const tensors = new Map(weights);
  for (const [name, momentum] of momenta) tensors.set(MOMENTUM + name, momentum);
  return writeAtomically(join(folder, STATE_FILE), encodeSafetensors({ metadata: { position: JSON.stringify(position) }, tensors }));
}

/** Makes the folder and writes a file in it, so that a run does not learn after hours that it cannot keep its state. */
export function prepareFolder(folder: string): Outcome<null> {
  const probe = join(folder, PROBE_FILE);
  const written = writeAtomically(probe, new Uint8Array(1));
  if (written.ok) rmSync(probe);
  return written;
}

/** null where no run was begun in the folder. Fails with CORRUPT_FILE, or INVALID_INPUT where the run had other settings. */
export function readState(folder: string, settings: string): Outcome<RunState | null> {
  const file = join(folder, STATE_FILE);
  if (!existsSync(file)) return ok(null);
  const decoded = decodeSafetensors(readFileSync(file), file);
  if (!decoded.ok) return failed(decoded.reason, `${decoded.message} Remove ${folder} to train from the start.`);
  let position: Position;
  try {
    position = positionSchema.parse(JSON.parse(decoded.value.metadata['position'] ?? ''));
  } catch {
    return failed('CORRUPT_FILE', `${file} does not say where its run was; remove ${folder} to train from the start.`);
  }
  if (position.settings !== settings) {
    return failed(
      'INVALID_INPUT',
      `${folder} holds a run with other settings: ${differences(position.settings, settings)}. Name another folder, or remove it to train from the start.`,
    );
  }
  const weights = new Map<string, PlainTensor>();
  const momenta = new Map<string, PlainTensor>();
  for (const [name, tensor] of decoded.value.tensors) {
    if (name.startsWith(MOMENTUM)) momenta.set(name.slice(MOMENTUM.length), tensor);
    else weights.set(name, tensor);
  }
  return ok({ position, weights, momenta });
}

/** What differs between two settings, each value cut to what a reader takes in. */
function differences(before: string, asked: string): string {
  const old = JSON.parse(before) as Readonly<Record<string, unknown>>;
  const now = JSON.parse(asked) as Readonly<Record<string, unknown>>;
  const short = (value: unknown) => (JSON.stringify(value) ?? 'none').slice(0, 80);
  return Object.keys(now)
    .filter((key) => JSON.stringify(old[key]) !== JSON.stringify(now[key]))
    .map((key) => `${key} was ${short(old[key])}, now ${short(now[key])}`)
    .join('; ');
}

/** The best weights of a finished or running phase. */
export function writeBest(folder: string, phase: number, name: string, weights: ReadonlyMap<string, PlainTensor>): Outcome<null> {
  return writeAtomically(bestFile(folder, phase, name), encodeSafetensors({ metadata: {}, tensors: weights }));
}

export function readBest(folder: string, phase: number, name: string): Outcome<ReadonlyMap<string, PlainTensor>> {
  const file = bestFile(folder, phase, name);
  if (!existsSync(file))
    return failed('NOT_FOUND', `${file} is missing, so the run cannot go on; remove ${folder} to train from the start.`);
  const decoded = decodeSafetensors(readFileSync(file), file);
  if (!decoded.ok) return failed(decoded.reason, `${decoded.message} Remove ${folder} to train from the start.`);
  return ok(decoded.value.tensors);
}

function bestFile(folder: string, phase: number, name: string): string {
  return join(folder, `best-${phase}-${name}.safetensors`);
}
