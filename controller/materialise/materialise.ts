// From a subnet of the trained supernet to an artifact: extract -> calibrate -> emit -> check -> keep. One way, no shortcut: what is kept
// has been calibrated (unless stored statistics were asked for by name) and checked against TensorFlow.js on real images.
import type { BlobStore } from '@ofa-fleet/shared/node/blob-store.ts';
import { sha256Hex } from '@ofa-fleet/shared/node/hash.ts';
import { failed, ok, type Outcome } from '@ofa-fleet/shared/outcome.ts';
import { canonicalJson, spaceId } from '../space.ts';
import { subnetId, type Subnet } from '../subnet.ts';
import type { Checkpoint } from '../supernet/checkpoint.ts';
import type { Weights } from '../supernet/elastic.ts';
import { extractSubnet } from '../supernet/extract.ts';
import type { ExtractedNet } from '../supernet/extracted-net.ts';
import { refuseUntuned } from '../supernet/tuned-for.ts';
import type { Artifact, Statistics } from './artifact.ts';
import { EMITTER_VERSION, recallArtifact, rememberArtifact } from './artifact-cache.ts';
import { calibrate } from './calibrate.ts';
import { checkModel } from './check.ts';
import { emitModel } from './emit.ts';
import { firstImages, type InputImages, type PreparedImages } from './images.ts';
import { GOLDEN_TOLERANCE, keepModel } from './keep.ts';
import { countMacs, countParameters } from './macs.ts';
import { supernetLogits } from './supernet-logits.ts';

const DEFAULT_CALIBRATION_BATCH = 50;
const CHECKED_IMAGES = 4;

export interface MaterialiseSettings {
  readonly blobs: BlobStore;
  /** Training images for calibration, and for the check; never held-out ones. */
  readonly images: PreparedImages;
  readonly statistics: Statistics;
  /** Images normalised together in calibration; default 50. */
  readonly calibrationBatch?: number;
  readonly threads: number;
}

export interface Supernet {
  readonly checkpoint: Checkpoint;
  readonly weightsHash: string;
  /** The checkpoint's tensors in TensorFlow.js. */
  readonly weights: Weights;
}

/** The artifact of `subnet`: equal inputs give equal bytes; one that is held already is not made again. */
export async function materialise(
  { checkpoint, weightsHash, weights }: Supernet,
  subnet: Subnet,
  settings: MaterialiseSettings,
): Promise<Outcome<Artifact>> {
  const tuned = refuseUntuned(checkpoint, subnet);
  if (!tuned.ok) return tuned;
  const { blobs, images, statistics, calibrationBatch: batchSize = DEFAULT_CALIBRATION_BATCH } = settings;
  const key = sha256Hex(
    canonicalJson({
      version: EMITTER_VERSION,
      subnet: subnetId(checkpoint.space, subnet),
      weightsHash,
      statistics,
      images: images.sha256,
      count: images.count,
      batchSize,
    }),
  );
  const held = recallArtifact(blobs, checkpoint.space, key);
  if (held !== null) return ok(held);
  const judge: Judge = (net, some) => supernetLogits(weights, net, some);
  const made = await materialiseNet(extractSubnet(checkpoint, subnet), judge, weightsHash, settings);
  if (made.ok) rememberArtifact(blobs, key, made.value);
  return made;
}

/** The right logits [count, classes] of a net, found without its exported form. */
export type Judge = (net: ExtractedNet, images: InputImages) => Promise<Float32Array>;

/** The same for a net that is extracted already, without memory. UNCALIBRATED where calibrated statistics are asked and there is no image. */
export async function materialiseNet(
  extracted: ExtractedNet,
  judge: Judge,
  weightsHash: string,
  settings: MaterialiseSettings,
): Promise<Outcome<Artifact>> {
  const { blobs, statistics, calibrationBatch: batchSize = DEFAULT_CALIBRATION_BATCH, threads } = settings;
  const { space, subnet } = extracted;
  const images = settings.images.at(subnet.resolution);
  if (images.count === 0) {
    return failed(
      'UNCALIBRATED',
      'There are 0 images to calibrate and check the subnet with, at least 1 is needed: give training images (with stored statistics, one to check with).',
    );
  }
  const calibrated: Outcome<ExtractedNet> =
    statistics === 'stored' ? ok(extracted) : await calibrate(extracted, images, { batchSize, threads });
  if (!calibrated.ok) return calibrated;
  const net = calibrated.value;
  const model = emitModel(net, { batch: 1, statistics: 'running' });
  const some = firstImages(images, CHECKED_IMAGES);
  const checked = await checkModel(model, some, await judge(net, some), threads);
  if (!checked.ok) return checked;

  const id = subnetId(space, subnet);
  const { firstOutput, rounding } = checked.value;
  const golden = { input: firstImages(images, 1).data, output: firstOutput, tolerance: Math.max(GOLDEN_TOLERANCE, rounding ?? 0) };
  const kept = await keepModel(blobs, net, model, golden, statistics, {
    space: space.name,
    spaceId: spaceId(space),
    subnetId: id,
    weightsHash,
    ...provenanceOf(settings),
  });
  if (!kept.ok) return kept;
  return ok({ subnetId: id, subnet, weightsHash, ...kept.value, macs: countMacs(net), parameters: countParameters(net) });
}

function provenanceOf({
  statistics,
  images,
  calibrationBatch = DEFAULT_CALIBRATION_BATCH,
}: MaterialiseSettings): Readonly<Record<string, string>> {
  if (statistics === 'stored') return { producer: `ofa-fleet emitter ${EMITTER_VERSION}` };
  return {
    producer: `ofa-fleet emitter ${EMITTER_VERSION}`,
    calibration: `${images.count} training images in batches of ${calibrationBatch}, sha256 ${images.sha256}`,
  };
}
