// The thread in which the deployed model runs, so that an inference never holds up MQTT. Requests are answered one after the other, in the
// order in which they came; a switch of models is one of them, so none is lost to it.
import { parentPort, workerData } from 'node:worker_threads';
import { failed, ok, type Outcome } from '@ofa-fleet/shared/outcome.ts';
import { goldenMismatch, type Golden } from '../golden.ts';
import type { Inference, ModelSource, Session } from '../ports.ts';
import { readModel } from './model-source.ts';
import { explainRun } from './runtime/ort-session.ts';
import { loadRuntime, type RuntimeName } from './runtime/runtimes.ts';

export interface ServeWorkerSettings {
  readonly runtime: RuntimeName;
  readonly intraOpThreads: number;
}

export type ServeRequest =
  | { readonly kind: 'stage'; readonly source: ModelSource }
  | { readonly kind: 'activate' | 'check' | 'clear' | 'close' }
  | { readonly kind: 'infer'; readonly input: Float32Array };

/** What `stage` answers: the number of values that the model takes. */
export type ServeAnswer = Outcome<Inference | { readonly inputLength: number } | null>;

interface Loaded {
  readonly session: Session;
  readonly inputLength: number;
  readonly golden: Golden | null;
}

const settings = workerData as ServeWorkerSettings;
let active: Loaded | null = null;
let staged: Loaded | null = null;

async function infer({ session }: Loaded, input: Float32Array): Promise<Outcome<Inference>> {
  session.setInput(input);
  const began = performance.now();
  try {
    await session.run();
  } catch (error) {
    return explainRun(error);
  }
  const latencyMs = performance.now() - began;
  // A copy: the runtime may overwrite its own, and some of its buffers cannot cross threads.
  return ok({ output: session.output().slice(), latencyMs });
}

async function check(loaded: Loaded | null): Promise<Outcome<null>> {
  if (loaded === null) return failed('NOT_FOUND', 'No model is deployed on this device.');
  if (loaded.golden === null) return ok(null);
  const answer = await infer(loaded, loaded.golden.input);
  if (!answer.ok) return answer;
  const wrong = goldenMismatch(answer.value.output, loaded.golden);
  return wrong === null ? ok(null) : failed('OUTPUT_MISMATCH', `The model does not compute what it should on this device: ${wrong}.`);
}

async function stage(source: ModelSource): Promise<ServeAnswer> {
  await staged?.session.release();
  staged = null;
  const runtime = await loadRuntime(settings.runtime);
  if (!runtime.ok) return runtime;
  const model = readModel(source);
  if (!model.ok) return model;
  const session = await runtime.value.load(model.value.bytes, { intraOpThreads: settings.intraOpThreads });
  if (!session.ok) return session;
  const inputLength = session.value.inputShape.reduce((product, dim) => product * dim, 1);
  const loaded = { session: session.value, inputLength, golden: model.value.golden };
  const wrongInput = loaded.golden !== null && loaded.golden.input.length !== inputLength;
  const verified: Outcome<null> = wrongInput
    ? failed(
        'INVALID_INPUT',
        `The golden input has ${loaded.golden?.input.length ?? 0} values, the model takes ${inputLength}. Export the artifact again.`,
      )
    : await check(loaded);
  if (!verified.ok) {
    await session.value.release();
    return verified;
  }
  staged = loaded;
  return ok({ inputLength });
}

async function replaceActive(next: Loaded | null): Promise<ServeAnswer> {
  const old = active;
  active = next;
  await old?.session.release();
  return ok(null);
}

async function answer(request: ServeRequest): Promise<ServeAnswer> {
  switch (request.kind) {
    case 'stage':
      return stage(request.source);
    case 'activate': {
      if (staged === null) throw new Error('activate without a staged model');
      const next = staged;
      staged = null;
      return replaceActive(next);
    }
    case 'check':
      return check(active);
    case 'clear':
      return replaceActive(null);
    case 'close':
      await staged?.session.release();
      staged = null;
      return replaceActive(null);
    case 'infer':
      // The length is checked where the request comes in; the model may have been switched since.
      if (active === null) return failed('NOT_FOUND', 'No model is deployed on this device.');
      if (request.input.length !== active.inputLength) {
        return failed('INVALID_INPUT', `The input has ${request.input.length} values, the deployed model takes ${active.inputLength}.`);
      }
      return infer(active, request.input);
  }
}

let turn = Promise.resolve();
parentPort?.on('message', ({ id, request }: { readonly id: number; readonly request: ServeRequest }) => {
  turn = turn.then(async () => {
    const outcome = await answer(request).catch((error: unknown) => failed('CRASHED', `The model's thread failed: ${String(error)}`));
    parentPort?.postMessage({ id, outcome });
    if (request.kind === 'close') parentPort?.close();
  });
});
