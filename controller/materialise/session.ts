// A model loaded in ONNX Runtime, on this machine's CPU: what calibrates, checks and scores subnets. `run` blocks the thread that calls it.
import type * as Runtime from 'onnxruntime-node';
import { failed, ok, type Outcome } from '@ofa-fleet/shared/outcome.ts';
import { INPUT } from './emit.ts';

export interface LoadableModel {
  readonly graph: Uint8Array;
  /** Bytes of the external files `t/<i>`. */
  readonly weights: readonly Uint8Array[];
}

export interface ModelSession {
  /** `input` has `shape`; gives every output of the graph by name. */
  run(input: Float32Array, shape: readonly number[]): Promise<ReadonlyMap<string, Float32Array>>;
  release(): Promise<void>;
}

/** Fails with RUNTIME_MISSING where the native addon does not load, CORRUPT_FILE where ONNX Runtime refuses the model. */
export async function openSession(model: LoadableModel, threads: number): Promise<Outcome<ModelSession>> {
  const runtime = await loadRuntime();
  if (!runtime.ok) return runtime;
  const { InferenceSession: Session, Tensor } = runtime.value;
  let session: Runtime.InferenceSession;
  try {
    session = await Session.create(model.graph, {
      externalData: model.weights.map((data, i) => ({ path: `t/${i}`, data })),
      intraOpNumThreads: threads,
      interOpNumThreads: 1,
      graphOptimizationLevel: 'all',
      logSeverityLevel: 3,
    });
  } catch (error) {
    return failed('CORRUPT_FILE', `ONNX Runtime refuses the model (${messageOf(error)}): materialise it again.`);
  }
  return ok({
    async run(input, shape) {
      const outputs = await session.run({ [INPUT]: new Tensor('float32', input, shape) });
      return new Map(Object.entries(outputs).map(([name, tensor]) => [name, tensor.data as Float32Array]));
    },
    release: () => session.release(),
  });
}

async function loadRuntime(): Promise<Outcome<typeof Runtime>> {
  try {
    return ok(await import('onnxruntime-node'));
  } catch (error) {
    return failed(
      'RUNTIME_MISSING',
      `onnxruntime-node does not load here (${messageOf(error)}): run \`npm ci\` again, on Linux with glibc >= 2.28.`,
    );
  }
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
