// The thread behind `evaluator.ts`: holds the checkpoint, the images and the runtimes, and answers one request after the other.
import { parentPort, workerData } from 'node:worker_threads';
import type { Manifest } from '@ofa-fleet/shared/artifact.ts';
import { openBlobStore } from '@ofa-fleet/shared/node/blob-store.ts';
import { failed, ok, type Outcome } from '@ofa-fleet/shared/outcome.ts';
import { prepareImages } from '../materialise/images.ts';
import type { Statistics } from '../materialise/artifact.ts';
import { materialise } from '../materialise/materialise.ts';
import { supernetWeights } from '../materialise/supernet-logits.ts';
import type { Space } from '../space.ts';
import type { Subnet } from '../subnet.ts';
import { readCheckpoint, weightsHash } from '../supernet/checkpoint.ts';
import { selectBackend } from '../supernet/backend.ts';
import { evaluationOf } from '../supernet/data/augmentation.ts';
import { evaluateAccuracy } from './accuracy.ts';
import type { EvaluatorSettings } from './evaluator.ts';

/** The first message of the thread. */
export type EvaluatorReady = Outcome<{ readonly space: Space; readonly weightsHash: string }>;

export type EvaluatorRequest =
  | { readonly id: number; readonly kind: 'materialise'; readonly subnet: Subnet; readonly statistics: Statistics }
  | { readonly id: number; readonly kind: 'accuracy'; readonly manifest: Manifest; readonly split: string }
  /** Stops the request of the same id, if it has not been answered. */
  | { readonly id: number; readonly kind: 'abort' };

export type EvaluatorResponse = { readonly id: number; readonly outcome: Outcome<unknown> } | { readonly id: number; readonly bug: string };

async function serve(settings: EvaluatorSettings): Promise<void> {
  const port = parentPort;
  if (port === null) throw new Error('evaluator-worker.ts runs as a worker thread only');
  const loaded = readCheckpoint(settings.checkpointPath);
  if (!loaded.ok) {
    port.postMessage(loaded satisfies EvaluatorReady);
    return;
  }
  const checkpoint = loaded.value;
  const { space } = checkpoint;
  const blobs = openBlobStore(settings.blobsDir);
  const evaluation = evaluationOf(checkpoint.recipe);
  const images = prepareImages(settings.calibration, space, evaluation);
  const splits = new Map(
    Object.entries(settings.splits).map(([name, set]) => [name, { labels: set.labels, images: prepareImages(set, space, evaluation) }]),
  );
  const { threads } = settings;
  await selectBackend({ purpose: 'inference', threads });
  const supernet = { checkpoint, weightsHash: weightsHash(checkpoint), weights: supernetWeights(checkpoint) };

  async function answer(request: Exclude<EvaluatorRequest, { kind: 'abort' }>, signal: AbortSignal): Promise<Outcome<unknown>> {
    if (signal.aborted) return failed('CANCELED', 'Evaluation was stopped before it began.');
    if (request.kind === 'materialise') {
      return materialise(supernet, request.subnet, { blobs, images, statistics: request.statistics, threads });
    }
    const split = splits.get(request.split);
    if (split === undefined) throw new Error(`no split "${request.split}" was given, only ${[...splits.keys()].join(', ')}`);
    const resolution = request.manifest.input.shape[2] as number;
    const set = { images: split.images.streamAt(resolution), labels: split.labels };
    return evaluateAccuracy({ manifest: request.manifest, blobs, ...set, threads, signal });
  }

  const waiting = new Map<number, AbortController>();
  let queue = Promise.resolve();
  port.on('message', (request: EvaluatorRequest) => {
    if (request.kind === 'abort') {
      waiting.get(request.id)?.abort();
      return;
    }
    const controller = new AbortController();
    waiting.set(request.id, controller);
    queue = queue.then(async () => {
      let response: EvaluatorResponse;
      try {
        response = { id: request.id, outcome: await answer(request, controller.signal) };
      } catch (error) {
        response = { id: request.id, bug: error instanceof Error ? (error.stack ?? error.message) : String(error) };
      }
      waiting.delete(request.id);
      port.postMessage(response);
    });
  });
  port.postMessage(ok({ space, weightsHash: supernet.weightsHash }) satisfies EvaluatorReady);
}

await serve(workerData as EvaluatorSettings);
