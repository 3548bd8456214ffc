// What the agent's core asks of its host. The core imports nothing from Node, so that a phone's browser can host it too.
import type { Manifest } from '@ofa-fleet/shared/artifact.ts';
import type { Measurement, Plan, RunConditions } from '@ofa-fleet/shared/measurement.ts';
import type { Outcome } from '@ofa-fleet/shared/outcome.ts';

export interface Clock {
  /** Monotonic, in ms with sub-microsecond resolution where the host has it. */
  monotonicMs(): number;
  wallMs(): number;
  /** Resolves after `ms` or when the signal aborts, never rejects. */
  sleep(ms: number, signal?: AbortSignal): Promise<void>;
}

/** A model in memory, ready to be loaded by a Runtime. */
export interface ModelBytes {
  readonly graph: Uint8Array;
  /** Location in the graph (e.g. `t/0`) -> bytes. */
  readonly externalData: readonly { readonly path: string; readonly data: Uint8Array }[];
}

export interface SessionOptions {
  readonly intraOpThreads: number;
}

/** A loaded model. Not reentrant: one run at a time. Tensors are allocated once, when it is made. */
export interface Session {
  readonly inputShape: readonly number[];
  readonly outputShape: readonly number[];
  /** Copies `input` (float32, inputShape) into the session's input tensor. */
  setInput(input: Float32Array): void;
  run(): Promise<void>;
  /** The last run's output, a view that the next run overwrites. */
  output(): Float32Array;
  release(): Promise<void>;
}

export interface RuntimeIdentity {
  readonly name: 'onnxruntime-node' | 'onnxruntime-web';
  readonly version: string;
  readonly providerAsked: string;
  readonly providerObtained: string;
  readonly interOpThreads: number;
  readonly spinning: boolean | null;
  readonly graphOptimisation: string;
  readonly executionMode: string;
}

export interface Runtime {
  readonly identity: RuntimeIdentity;
  load(model: ModelBytes, options: SessionOptions): Promise<Outcome<Session>>;
}

/** Reads the state of the machine around a run; never called inside a timed section. */
export interface Conditions {
  start(): void;
  end(): RunConditions;
}

/** Where a model lies on this device: assembled from blobs, or one ONNX file with its external data beside it. */
export type ModelSource =
  | { readonly kind: 'blobs'; readonly manifestSha256: string; readonly manifest: Manifest; readonly blobsDir: string }
  | { readonly kind: 'file'; readonly path: string };

/** Measures in a process of its own, which is killed when the signal aborts. */
export interface Measurer {
  measure(source: ModelSource, plan: Plan, signal: AbortSignal): Promise<Outcome<Measurement>>;
}
