// `ofa-fleet import` and `ofa-fleet export-ofa`: supernets from and to Once-For-All's PyTorch code, for training on GPUs.
import { basename, extname } from 'node:path';
import { ok, type Outcome } from '@ofa-fleet/shared/outcome.ts';
import { architectureOf } from '../architecture.ts';
import { millions } from '../report/format.ts';
import { loadSpace, PRESETS, type Space } from '../space.ts';
import { readCheckpoint, writeAtomically, writeCheckpoint } from '../supernet/checkpoint.ts';
import { encodeOfa } from '../supernet/ofa-export.ts';
import { importOfa } from '../supernet/ofa-import.ts';
import { EXIT, fail, type Context } from './context.ts';
import { importLine } from './machine.ts';

export interface ImportOptions {
  readonly out: string;
  readonly name?: string;
  readonly resolutions?: readonly number[];
  readonly mean?: readonly number[];
  readonly std?: readonly number[];
  readonly arch?: string;
  /** A preset or a JSON file, instead of what the shapes say. */
  readonly space?: string;
}

const IMAGENET = PRESETS['ofa-mbv3-w1.0'] as Space;

export function importSupernet(file: string, options: ImportOptions, context: Context): number {
  const space: Outcome<Space | null> = options.space === undefined ? ok(null) : loadSpace(options.space);
  if (!space.ok) return fail(context, space);
  const imported = importOfa(file, space.value, {
    name: options.name ?? spaceName(file),
    resolutions: options.resolutions ?? IMAGENET.resolutions,
    mean: options.mean ?? IMAGENET.mean,
    std: options.std ?? IMAGENET.std,
    architecture: options.arch ?? null,
  });
  if (!imported.ok) return fail(context, imported);
  const { checkpoint, notes } = imported.value;
  for (const note of notes) context.print(note);
  const written = writeCheckpoint(options.out, checkpoint);
  if (!written.ok) return fail(context, written);
  const { space: found } = checkpoint;
  const numbers = [...checkpoint.tensors.values()].reduce((sum, { data }) => sum + data.length, 0);
  context.print(
    `Space ${found.name}: ${architectureOf(found)}, stages of ${found.stages.map(({ channels }) => channels).join(', ')} channels, ${found.classes} ` +
      `classes, kernels ${found.kernels.join(', ')}, expand ratios ${found.expands.join(', ')}, depths ${found.depths.join(', ')}, ` +
      `resolutions ${rangeOf(found.resolutions)}; ${millions(numbers)} numbers.`,
  );
  const { imported: record } = checkpoint;
  if (record !== undefined) context.print(importLine(record));
  context.print(
    `${options.out} is written; next: ofa-fleet export ${options.out} --subnet largest --calibration IMAGES.npy --out ${found.name}-largest`,
  );
  return EXIT.done;
}

function rangeOf(values: readonly number[]): string {
  return values.length > 4 ? `${values[0]} to ${values[values.length - 1]}` : values.join(', ');
}

/** The file's name as a name of a space. */
function spaceName(file: string): string {
  const name = basename(file, extname(file))
    .toLowerCase()
    .replace(/[^a-z0-9_.-]/g, '-')
    .replace(/^[^a-z0-9]+/, '');
  return name.slice(0, 64) || 'imported';
}

export function exportOfa(checkpointPath: string, options: { readonly out: string }, context: Context): number {
  const checkpoint = readCheckpoint(checkpointPath);
  if (!checkpoint.ok) return fail(context, checkpoint);
  const written = writeAtomically(options.out, encodeOfa(checkpoint.value));
  if (!written.ok) return fail(context, written);
  context.print(
    `${options.out} is written with the keys of ${architectureOf(checkpoint.value.space)}; in Python: net.load_state_dict(torch.load("${basename(options.out)}", weights_only=True)["state_dict"]).`,
  );
  return EXIT.done;
}
