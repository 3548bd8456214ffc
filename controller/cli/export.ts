// `ofa-fleet export`: one subnet of a supernet as a folder that any ONNX Runtime loads.
import { mkdtempSync, rmSync } from 'node:fs';
import { availableParallelism, tmpdir } from 'node:os';
import { join } from 'node:path';
import { openBlobStore } from '@ofa-fleet/shared/node/blob-store.ts';
import { acquireHostLock, defaultHostLockPath, type HostLock } from '@ofa-fleet/shared/node/host-lock.ts';
import { failed, ok, type Outcome } from '@ofa-fleet/shared/outcome.ts';
import { fitToSpace, loadImages } from '../main.ts';
import type { Statistics } from '../materialise/artifact.ts';
import { exportModel } from '../materialise/export.ts';
import { prepareImages, type PreparedImages } from '../materialise/images.ts';
import { materialise } from '../materialise/materialise.ts';
import { noiseImages } from '../materialise/noise.ts';
import { readNpyImages, type ByteScale } from '../materialise/npy.ts';
import { supernetWeights } from '../materialise/supernet-logits.ts';
import { millions } from '../report/format.ts';
import { selectBackend } from '../supernet/backend.ts';
import { readCheckpoint, weightsHash, type Checkpoint } from '../supernet/checkpoint.ts';
import { evaluationOf } from '../supernet/data/augmentation.ts';
import { sortChannels } from '../supernet/sorting.ts';
import { refuseUntuned } from '../supernet/tuned-for.ts';
import { EXIT, fail, type Context } from './context.ts';
import { subnetNamed } from './subnet-file.ts';

const TELL_AFTER_MS = 1000;
const CHECKED_NOISE_IMAGES = 4;
/** Batch of calibration images that came as a .npy file. */
const NPY_BATCH = 32;

export interface ExportOptions {
  /** `largest`, `smallest`, or a JSON file. */
  readonly subnet: string;
  readonly out: string;
  /** Input side; default: the subnet file's, or else the largest of the space. */
  readonly resolution?: number;
  readonly data?: string;
  /** A .npy file of training images; instead of `data`. */
  readonly calibration?: string;
  readonly calibrationScale?: ByteScale;
  readonly calibrationBatch?: number;
  readonly statistics: Statistics;
  /** Sort channels by importance first, as training does before widths shrink. */
  readonly sort: boolean;
}

export async function exportSubnet(checkpointPath: string, options: ExportOptions, context: Context): Promise<number> {
  const read = readCheckpoint(checkpointPath);
  if (!read.ok) return fail(context, read);
  const { space } = read.value;
  const named = subnetNamed(space, options.subnet, options.resolution ?? null);
  if (!named.ok) return fail(context, named);
  const { subnet, notes } = named.value;
  const tuned = refuseUntuned(read.value, subnet);
  if (!tuned.ok) return fail(context, tuned);
  for (const note of notes) context.print(note);
  const images = await imagesFor(read.value, subnet.resolution, options);
  if (!images.ok) return fail(context, images);
  const turn = await takeTurn(context);
  if (!turn.ok) return fail(context, turn);
  const scratch = mkdtempSync(join(tmpdir(), 'ofa-export-'));
  try {
    const threads = availableParallelism();
    await selectBackend({ purpose: 'inference', threads });
    const checkpoint = options.sort ? sorted(read.value) : read.value;
    const supernet = { checkpoint, weightsHash: weightsHash(checkpoint), weights: supernetWeights(checkpoint) };
    const blobs = openBlobStore(scratch);
    const { statistics } = options;
    const batch = options.calibrationBatch ?? (options.calibration === undefined ? undefined : NPY_BATCH);
    const settings = { blobs, images: images.value, statistics, threads, ...(batch === undefined ? {} : { calibrationBatch: batch }) };
    const artifact = await materialise(supernet, subnet, settings);
    if (!artifact.ok) return fail(context, artifact);
    if (context.signal.aborted) return fail(context, failed('CANCELED', 'Stopped before the model was written; nothing was exported.'));
    const written = await exportModel(artifact.value, blobs, options.out);
    if (!written.ok) return fail(context, written);
    const { subnetId, macs, parameters, manifest } = artifact.value;
    context.print(
      `Subnet ${subnetId}: ${millions(macs)} MACs, ${millions(parameters)} parameters, input ${manifest.input.shape.join(' x ')}.`,
    );
    if (statistics === 'stored')
      context.print("Its batch norms hold the supernet's stored statistics, with which accuracy is near chance.");
    context.print(
      `${join(options.out, 'model.onnx')} is checked against TensorFlow.js; next: ofa-agent measure ${join(options.out, 'model.onnx')}`,
    );
    return EXIT.done;
  } finally {
    rmSync(scratch, { recursive: true, force: true });
    turn.value.release();
  }
}

function sorted(checkpoint: Checkpoint): Checkpoint {
  return { ...checkpoint, tensors: sortChannels(checkpoint.space, checkpoint.tensors, []) };
}

/** Images to calibrate and to check with; noise to check with where nothing is calibrated and none fit. */
async function imagesFor({ space, recipe }: Checkpoint, resolution: number, options: ExportOptions): Promise<Outcome<PreparedImages>> {
  const { calibration, calibrationScale = null, data, statistics } = options;
  if (calibration !== undefined && data !== undefined) {
    return failed('INVALID_INPUT', 'Both --calibration and --data were given: give one, they are two ways to name the calibration images.');
  }
  if (calibration !== undefined) return readNpyImages(calibration, space, resolution, calibrationScale);
  const loaded = await loadImages(data ?? null, space);
  const fitting = loaded.ok ? fitToSpace(space, loaded.value) : loaded;
  if (fitting.ok) return ok(prepareImages(fitting.value.calibration, space, evaluationOf(recipe)));
  if (data !== undefined) return fitting;
  if (statistics === 'stored') return ok(noiseImages(space, CHECKED_NOISE_IMAGES));
  return failed(
    fitting.reason,
    `The images that ship do not fit space ${space.name} (${space.inputChannels} channels, ${space.classes} classes): give training images with --calibration IMAGES.npy or --data DIR.`,
  );
}

/** Evaluating takes every core: a measurement that runs on this host comes first, and the next waits. */
async function takeTurn(context: Context): Promise<Outcome<HostLock>> {
  const told = setTimeout(
    () => context.print('Waiting for its turn: something on this host is being measured or evaluated.'),
    TELL_AFTER_MS,
  );
  try {
    return ok(await acquireHostLock({ path: defaultHostLockPath(), signal: context.signal }));
  } catch (error) {
    if (!context.signal.aborted) throw error;
    return failed('CANCELED', 'Stopped while it waited for its turn on this host; nothing was exported.');
  } finally {
    clearTimeout(told);
  }
}
