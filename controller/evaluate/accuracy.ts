// How often an artifact is right, found by running the very bytes that devices get, many images a run.
import type { Manifest } from '@ofa-fleet/shared/artifact.ts';
import type { BlobStore } from '@ofa-fleet/shared/node/blob-store.ts';
import { failed, ok, type Outcome } from '@ofa-fleet/shared/outcome.ts';
import { withDynamicBatch } from '../materialise/graph.ts';
import type { ImageStream } from '../materialise/images.ts';
import { openSession } from '../materialise/session.ts';

/** Large enough to keep two threads busy, small enough for the activations to stay in the processor's cache. */
const BATCH_SIZE = 16;

export interface Accuracy {
  readonly correct: number;
  readonly total: number;
  /** The class with the largest logit for each image, the first of equal ones. */
  readonly predictions: Uint16Array;
}

export interface AccuracyRequest {
  readonly manifest: Manifest;
  readonly blobs: BlobStore;
  /** At the manifest's input shape. */
  readonly images: ImageStream;
  /** The right class of each image. */
  readonly labels: ArrayLike<number>;
  readonly threads: number;
  readonly signal?: AbortSignal;
}

/** CANCELED when the signal aborts between two batches. */
export async function evaluateAccuracy(request: AccuracyRequest): Promise<Outcome<Accuracy>> {
  const { manifest, images, labels } = request;
  const asked = manifest.input.shape.slice(1).join(' x ');
  if (images.shape.join(' x ') !== asked) {
    return failed(
      'INVALID_INPUT',
      `The model takes images of ${asked}, these are ${images.shape.join(' x ')}: prepare them for its resolution.`,
    );
  }
  if (labels.length !== images.count) {
    return failed('INVALID_INPUT', `${images.count} images have ${labels.length} labels: each image needs one.`);
  }
  const graph = request.blobs.get(manifest.graph.sha256);
  if (!graph.ok) return graph;
  const weights: Uint8Array[] = [];
  for (const ref of manifest.weights) {
    const bytes = request.blobs.get(ref.sha256);
    if (!bytes.ok) return bytes;
    weights.push(bytes.value);
  }
  const opened = await openSession({ graph: withDynamicBatch(graph.value), weights }, request.threads);
  if (!opened.ok) return opened;

  const classes = manifest.output.shape[1] as number;
  const predictions = new Uint16Array(images.count);
  let done = 0;
  try {
    for (const batch of images.batches(BATCH_SIZE)) {
      if (request.signal?.aborted === true) return failed('CANCELED', `Evaluation stopped after ${done} of ${images.count} images.`);
      const logits = (await opened.value.run(batch.data, batch.shape)).get(manifest.output.name) as Float32Array;
      for (let i = 0; i < batch.count; i++) predictions[done + i] = argmax(logits.subarray(i * classes, (i + 1) * classes));
      done += batch.count;
    }
  } finally {
    await opened.value.release();
  }
  const correct = predictions.reduce((sum, prediction, i) => sum + (prediction === labels[i] ? 1 : 0), 0);
  return ok({ correct, total: images.count, predictions });
}

function argmax(values: Float32Array): number {
  return values.reduce((best, value, i) => (value > (values[best] as number) ? i : best), 0);
}
