// The heavy work of the controller, materialising and scoring subnets, in one worker thread: ONNX Runtime blocks the thread that calls it,
// and the thread with the broker must answer devices meanwhile. One request runs at a time, in the order asked.
import { SHARE_ENV, Worker } from 'node:worker_threads';
import { failed, type Outcome } from '@ofa-fleet/shared/outcome.ts';
import type { Artifact, Statistics } from '../materialise/artifact.ts';
import type { Space } from '../space.ts';
import type { Subnet } from '../subnet.ts';
import type { ImageSet } from '../supernet/data/dataset.ts';
import type { Accuracy } from './accuracy.ts';
import type { EvaluatorReady, EvaluatorRequest, EvaluatorResponse } from './evaluator-worker.ts';

export interface EvaluatorSettings {
  /** A trained supernet, as safetensors. */
  readonly checkpointPath: string;
  readonly blobsDir: string;
  /** Training images: calibration uses all of them, the check against TensorFlow.js the first few. */
  readonly calibration: ImageSet;
  /** Labelled images by split name, e.g. `validation`; accuracy is over all images of the split asked. */
  readonly splits: Readonly<Record<string, ImageSet>>;
  /** Threads of ONNX Runtime inside one operator. */
  readonly threads: number;
}

export interface Evaluator {
  readonly space: Space;
  readonly weightsHash: string;
  /** Extract, calibrate, check and keep; at once where the artifact is held already. */
  readonly materialise: (
    subnet: Subnet,
    options?: { readonly statistics?: Statistics; readonly signal?: AbortSignal },
  ) => Promise<Outcome<Artifact>>;
  readonly accuracy: (artifact: Artifact, split: string, options?: { readonly signal?: AbortSignal }) => Promise<Outcome<Accuracy>>;
  /** Ends the thread; what still runs is answered CANCELED. */
  readonly close: () => Promise<void>;
}

interface Pending {
  readonly resolve: (outcome: Outcome<never>) => void;
  readonly reject: (error: Error) => void;
}

/** Starts the thread and loads the checkpoint in it; its failure to load is the answer. */
export async function startEvaluator(settings: EvaluatorSettings): Promise<Outcome<Evaluator>> {
  // libtensorflow takes its settings from the real environment of the process, which a thread only reaches where it shares it.
  const worker = new Worker(new URL('./evaluator-worker.ts', import.meta.url), { workerData: settings, env: SHARE_ENV });
  const pending = new Map<number, Pending>();
  let nextId = 1;
  let ended: Outcome<never> | null = null;
  const end = (outcome: Outcome<never>) => {
    ended ??= outcome;
    for (const { resolve } of pending.values()) resolve(ended);
    pending.clear();
  };

  const ready = await new Promise<EvaluatorReady>((resolve, reject) => {
    worker.once('message', (message: EvaluatorReady) => resolve(message));
    worker.once('error', reject);
    worker.once('exit', (code) => reject(new Error(`the evaluation thread ended with code ${code} before it was ready`)));
  });
  if (!ready.ok) {
    await worker.terminate();
    return ready;
  }
  worker.on('message', (response: EvaluatorResponse) => {
    const waiting = pending.get(response.id);
    pending.delete(response.id);
    if ('bug' in response) waiting?.reject(new Error(response.bug));
    else waiting?.resolve(response.outcome as Outcome<never>);
  });
  worker.on('error', (error: Error) => end(failed('CRASHED', `The evaluation thread ended (${error.message}): start the command again.`)));
  worker.on('exit', (code) => end(failed('CRASHED', `The evaluation thread ended with code ${code}: start the command again.`)));

  function ask<T>(request: DistributiveOmit<EvaluatorRequest, 'id'>, signal: AbortSignal | undefined): Promise<Outcome<T>> {
    if (ended !== null) return Promise.resolve(ended);
    if (signal?.aborted === true) return Promise.resolve(failed('CANCELED', 'Evaluation was stopped before it began.'));
    const id = nextId++;
    const abort = () => worker.postMessage({ id, kind: 'abort' } satisfies EvaluatorRequest);
    signal?.addEventListener('abort', abort, { once: true });
    return new Promise<Outcome<T>>((resolve, reject) => {
      pending.set(id, { resolve, reject });
      worker.postMessage({ ...request, id });
    }).finally(() => signal?.removeEventListener('abort', abort));
  }

  return {
    ok: true,
    value: {
      ...ready.value,
      materialise: (subnet, { statistics = 'calibrated', signal } = {}) => ask({ kind: 'materialise', subnet, statistics }, signal),
      accuracy: (artifact, split, { signal } = {}) => ask({ kind: 'accuracy', manifest: artifact.manifest, split }, signal),
      async close() {
        end(failed('CANCELED', 'The evaluation thread was closed.'));
        await worker.terminate();
      },
    },
  };
}

/** Omit, member by member of a union. */
type DistributiveOmit<T, K extends PropertyKey> = T extends unknown ? Omit<T, K> : never;
