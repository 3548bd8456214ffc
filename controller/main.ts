// The controller put together: database, blobs, supernet, fleet. What `serve` and the demo run; nothing else opens the state folder to write.
import { createHash } from 'node:crypto';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { openBlobStore, type BlobStore } from '@ofa-fleet/shared/node/blob-store.ts';
import { acquireHostLock, type HostLock } from '@ofa-fleet/shared/node/host-lock.ts';
import { failed, ok, type Outcome } from '@ofa-fleet/shared/outcome.ts';
import type { Prepared } from './campaign.ts';
import { startEvaluator, type Evaluator } from './evaluate/evaluator.ts';
import type { Fleet } from './fleet/fleet.ts';
import { startFleet } from './fleet/start-fleet.ts';
import { EMITTER_VERSION } from './materialise/artifact-cache.ts';
import type { Space } from './space.ts';
import { accuracyOf, addAccuracy, addArtifact, artifactsOf, type AccuracyRow } from './store/artifacts.ts';
import { openDatabase, type Db } from './store/database.ts';
import { subnetId, type Subnet } from './subnet.ts';
import { readCheckpoint, type Checkpoint } from './supernet/checkpoint.ts';
import { pick, type ImageSet } from './supernet/data/dataset.ts';
import { loadIdxPair } from './supernet/data/idx.ts';
import { IMAGE_CACHE_DIR, openDataset } from './supernet/data/open-dataset.ts';
import { refuseTuned } from './supernet/tuned-for.ts';

const ASSETS = fileURLToPath(new URL('./assets/', import.meta.url));
export const SHIPPED_CHECKPOINT = join(ASSETS, 'fashion-tiny.safetensors');
const SHIPPED_IMAGES = join(ASSETS, 'fashion-mnist-mini');
/** Training images over which batch norms are calibrated: few, since a search waits for each calibration. */
const CALIBRATION_IMAGES = 100;
/** The folder is locked by a process that dies with its lock, so a free one is got at once. */
const STATE_LOCK_MS = 300;

export interface Images {
  readonly calibration: ImageSet;
  readonly validation: ImageSet;
  readonly test: ImageSet;
}

/** Calibration, validation and test images: the compact set that ships, or the user's folder with the splits that training makes of it. */
export async function loadImages(folder: string | null, { inputChannels }: Space): Promise<Outcome<Images>> {
  if (folder !== null) {
    const loaded = await openDataset(folder, { cacheDir: IMAGE_CACHE_DIR, channels: inputChannels });
    if (!loaded.ok) return loaded;
    const { train, validation, test } = loaded.value;
    return ok({ calibration: firstImages(train, CALIBRATION_IMAGES), validation, test });
  }
  const sets = (['calibration', 'validation', 'test'] as const).map((name) => loadIdxPair(SHIPPED_IMAGES, name));
  const broken = sets.find((set) => !set.ok);
  if (broken?.ok === false) return broken;
  const [calibration, validation, test] = sets.map((set) => (set as { readonly value: ImageSet }).value) as [ImageSet, ImageSet, ImageSet];
  return ok({ calibration: firstImages(calibration, CALIBRATION_IMAGES), validation, test });
}

/** The images, if the space takes such ones. */
export function fitToSpace(space: Space, images: Images): Outcome<Images> {
  const { channels, classes } = images.calibration;
  if (channels !== space.inputChannels) {
    return failed(
      'INVALID_INPUT',
      `The images have ${channels} channels, the supernet's space ${space.name} takes ${space.inputChannels}: give others with --data.`,
    );
  }
  if (classes > space.classes) {
    return failed(
      'INVALID_INPUT',
      `The images have ${classes} classes, the supernet's space ${space.name} tells ${space.classes} apart: give others with --data.`,
    );
  }
  return ok(images);
}

function firstImages(set: ImageSet, count: number | null): ImageSet {
  return count === null || count >= set.count
    ? set
    : pick(
        set,
        Array.from({ length: count }, (_, i) => i),
      );
}

/** Names a set of images by what is in it, e.g. `test-2500-1a2b3c4d`, so that accuracies of other images never pass for these. */
function splitName(kind: 'validation' | 'test', set: ImageSet): string {
  const hash = createHash('sha256').update(set.pixels).update(set.labels).digest('hex').slice(0, 8);
  return `${kind}-${set.count}-${hash}`;
}

/**
 * Names what the models of all subnets are made from, `<hash of the weights>-<of calibration images and emitter>`: rows under one name are of
 * the same models, so the one that was scored is the one that is measured and deployed.
 */
function modelsName(weightsHash: string, calibration: ImageSet): string {
  const hash = createHash('sha256').update(`${EMITTER_VERSION} ${calibration.count} `).update(calibration.pixels).digest('hex').slice(0, 8);
  return `${weightsHash}-${hash}`;
}

export interface ControllerSettings {
  /** Database, blobs and what else must survive; made where it is not there. */
  readonly stateDir: string;
  readonly checkpointPath: string;
  /** Folder of images as training takes it; null: the images that ship. */
  readonly dataDir: string | null;
  /** Only the first so many validation images are looked at in a search; null: all. */
  readonly validationImages: number | null;
  readonly host: string;
  /** Of the broker; 0: any free one. */
  readonly mqttPort: number;
  readonly hostLockPath: string;
  /** Of the controller's own evaluations. */
  readonly threads: number;
  readonly log: (line: string) => void;
}

export interface Controller {
  readonly db: Db;
  readonly blobs: BlobStore;
  readonly fleet: Fleet;
  readonly checkpoint: Checkpoint;
  /** Under which rows keep what is known of its models; see `modelsName`. */
  readonly weightsHash: string;
  readonly images: Images;
  readonly splits: { readonly validation: string; readonly test: string };
  /** The artifact and validation error of a subnet; what is known already costs no turn of the host lock. */
  prepare(subnet: Subnet, signal: AbortSignal): Promise<Outcome<Prepared>>;
  /** Its accuracy on the test images, with predictions: for reports, never for a choice. */
  testAccuracy(subnet: Subnet, signal: AbortSignal): Promise<Outcome<AccuracyRow>>;
  /** Waits for this process's turn to use the host, as agents here do. CANCELED where the signal aborts first. */
  takeTurn(signal: AbortSignal): Promise<Outcome<HostLock>>;
  close(): Promise<void>;
}

/** Everything that can be wrong with the settings is an Outcome, and leaves nothing running. */
export async function openController(settings: ControllerSettings): Promise<Outcome<Controller>> {
  const closers: (() => unknown)[] = [];
  const close = async () => {
    for (const closer of closers.splice(0).reverse()) await closer();
  };
  const opened = await open(settings, closers, close).catch(async (error: unknown) => {
    await close();
    throw error;
  });
  if (!opened.ok) await close();
  return opened;
}

async function open(settings: ControllerSettings, closers: (() => unknown)[], close: () => Promise<void>): Promise<Outcome<Controller>> {
  const { stateDir, log } = settings;
  const checkpoint = readCheckpoint(settings.checkpointPath);
  if (!checkpoint.ok) return checkpoint;
  const whole = refuseTuned(checkpoint.value, settings.checkpointPath);
  if (!whole.ok) return whole;
  const loaded = await loadImages(settings.dataDir, checkpoint.value.space);
  const fitting = loaded.ok ? fitToSpace(checkpoint.value.space, loaded.value) : loaded;
  if (!fitting.ok) return fitting;
  const images = { ...fitting.value, validation: firstImages(fitting.value.validation, settings.validationImages) };
  const locked = await lockStateDir(stateDir);
  if (!locked.ok) return locked;
  closers.push(() => locked.value.release());
  const db = await openDatabase(join(stateDir, 'fleet.sqlite'));
  if (!db.ok) return db;
  closers.push(() => db.value.destroy());
  const blobs = openBlobStore(join(stateDir, 'blobs'));
  const fleet = await startFleet({ db: db.value, blobs, host: settings.host, port: settings.mqttPort, log });
  if (!fleet.ok) return fleet;
  closers.push(() => fleet.value.close());
  const splits = { validation: splitName('validation', images.validation), test: splitName('test', images.test) };
  const evaluator = await startEvaluator({
    checkpointPath: settings.checkpointPath,
    blobsDir: blobs.dir,
    calibration: images.calibration,
    splits: { [splits.validation]: images.validation, [splits.test]: images.test },
    threads: settings.threads,
  });
  if (!evaluator.ok) return evaluator;
  closers.push(() => evaluator.value.close());
  const takeTurn = turns(settings.hostLockPath);
  const weightsHash = modelsName(evaluator.value.weightsHash, images.calibration);
  const stages = { db: db.value, blobs, evaluator: evaluator.value, weightsHash, takeTurn };
  return ok({
    db: db.value,
    blobs,
    fleet: fleet.value,
    checkpoint: checkpoint.value,
    weightsHash,
    images,
    splits,
    async prepare(subnet, signal) {
      const made = await accuracyWith(stages, subnet, splits.validation, signal);
      return made.ok ? ok({ manifestSha256: made.value.manifestSha256, error: 1 - made.value.row.correct / made.value.row.total }) : made;
    },
    async testAccuracy(subnet, signal) {
      const made = await accuracyWith(stages, subnet, splits.test, signal);
      return made.ok ? ok(made.value.row) : made;
    },
    takeTurn,
    close,
  });
}

async function lockStateDir(stateDir: string): Promise<Outcome<HostLock>> {
  try {
    return ok(await acquireHostLock({ path: join(stateDir, 'controller.lock'), signal: AbortSignal.timeout(STATE_LOCK_MS) }));
  } catch (error) {
    if (error instanceof DOMException && error.name === 'TimeoutError') {
      return failed('BUSY', `Another controller works in ${stateDir}: stop it first, or give another folder with --state.`);
    }
    return failed(
      'INVALID_INPUT',
      `The state folder ${stateDir} cannot be used: ${error instanceof Error ? error.message : String(error)}.`,
    );
  }
}

function turns(path: string): Controller['takeTurn'] {
  return async (signal) => {
    try {
      return ok(await acquireHostLock({ path, signal }));
    } catch (error) {
      if (signal.aborted) return failed('CANCELED', 'Stopped while waiting for a turn on this host.');
      throw error;
    }
  };
}

interface Stages {
  readonly db: Db;
  readonly blobs: BlobStore;
  readonly evaluator: Evaluator;
  readonly weightsHash: string;
  readonly takeTurn: Controller['takeTurn'];
}

/** Materialises and evaluates under the host lock, unless both are rows already and the artifact is on the disk. */
async function accuracyWith(
  { db, blobs, evaluator, weightsHash, takeTurn }: Stages,
  subnet: Subnet,
  split: string,
  signal: AbortSignal,
): Promise<Outcome<{ readonly manifestSha256: string; readonly row: AccuracyRow }>> {
  const id = subnetId(evaluator.space, subnet);
  const known = (await artifactsOf(db, weightsHash)).get(id);
  const row = await accuracyOf(db, id, weightsHash, split);
  if (known !== undefined && row !== null && blobs.has(known.manifestSha256)) return ok({ manifestSha256: known.manifestSha256, row });
  const turn = await takeTurn(signal);
  if (!turn.ok) return turn;
  try {
    const artifact = await evaluator.materialise(subnet, { signal });
    if (!artifact.ok) return artifact;
    const { manifestRef, macs, parameters } = artifact.value;
    const manifestSha256 = manifestRef.sha256;
    await addArtifact(db, { subnetId: id, weightsHash, manifestSha256, macs, parameters, at: Date.now() });
    if (row !== null) return ok({ manifestSha256, row });
    const accuracy = await evaluator.accuracy(artifact.value, split, { signal });
    if (!accuracy.ok) return accuracy;
    const { correct, total, predictions } = accuracy.value;
    const bytes = predictions.some((prediction) => prediction > 255) ? null : Uint8Array.from(predictions);
    const made: AccuracyRow = { subnetId: id, weightsHash, split, correct, total, predictions: bytes };
    await addAccuracy(db, { ...made, at: Date.now() });
    return ok({ manifestSha256, row: made });
  } finally {
    turn.value.release();
  }
}
