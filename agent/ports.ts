// What the agent's core asks of its host. The core imports nothing from Node, so that a phone's browser can host it too.
import type { BlobRef, Manifest } from '@ofa-fleet/shared/artifact.ts';
import type { Energy, Measurement, Plan, RunConditions } from '@ofa-fleet/shared/measurement.ts';
import type { Outcome, Reason } from '@ofa-fleet/shared/outcome.ts';
import type { JobUpdate } from '@ofa-fleet/shared/protocol.ts';

/** Time, as everything here takes it. */
export type { Clock } from '@ofa-fleet/shared/clock.ts';

/** A model in memory, ready to be loaded by a Runtime. */
export interface ModelBytes {
  readonly graph: Uint8Array;
  /** Location in the graph (e.g. `t/0`) -> bytes. */
  readonly externalData: readonly { readonly path: string; readonly data: Uint8Array }[];
}

interface SessionOptions {
  readonly intraOpThreads: number;
  /** Where a runtime with a profiler is to begin the name of its trace; without it none is written. */
  readonly profilePrefix?: string;
}

/** A loaded model. Not reentrant: one run at a time. The input tensor is allocated once, when it is made. */
export interface Session {
  /** Symbolic dimensions (a free batch) are taken as 1. */
  readonly inputShape: readonly number[];
  readonly outputShape: readonly number[];
  /** Copies `input` (float32, inputShape) into the session's input tensor. */
  setInput(input: Float32Array): void;
  run(): Promise<void>;
  /** The last run's output, a view that the next run overwrites. */
  output(): Float32Array;
  /** Writes the trace; absent where the runtime has no profiler. */
  readonly endProfiling?: () => void;
  release(): Promise<void>;
}

export interface RuntimeIdentity {
  readonly name: 'onnxruntime-node' | 'onnxruntime-web';
  readonly version: string;
  readonly providerAsked: string;
  readonly providerObtained: string;
  /** File of the runtime's code; null where it is not known. */
  readonly library: string | null;
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
  /** Before the warm-up: counters of CPU time and throttling are differenced from here. */
  start(): void;
  /** Between warm-up and timed section: clocks and garbage collections count from here. */
  timed(): void;
  end(): RunConditions;
}

/** What an energy or power sensor is; its readings are joules (a counter) or watts. */
export interface MeterInfo {
  /** Name for people and records, e.g. `rapl package-0`. */
  readonly sensor: string;
  readonly boundary: NonNullable<Energy['boundary']>;
  readonly kind: 'counter' | 'power';
  /** Smallest step of a reading, in joules or watts. */
  readonly lsb: number;
  /** Value at which a counter starts again from 0; null where unknown. */
  readonly wrapJoules: number | null;
  /** Relative standard uncertainty of the sensor's gain. */
  readonly gain: number;
  /** After a change of load its readings take so long to follow, beyond its refresh; absent: what sensors of its boundary take. */
  readonly settleMs?: number;
}

/** Readings in time order; `atMs` is on the Clock's monotonic scale. */
export interface MeterTrace {
  readonly atMs: Float64Array;
  readonly values: Float64Array;
}

/** Samples one sensor outside the measuring thread, also while the device idles. */
export interface MeterRecorder {
  readonly info: MeterInfo;
  /** Median time between changes of the reading, as observed; null: it never changed. */
  readonly refreshMs: number | null;
  /** Everything recorded until now. */
  trace(): MeterTrace;
  stop(): Promise<void>;
}

/** Where a model lies on this device: assembled from blobs, or one ONNX file with its external data beside it. */
export type ModelSource =
  | { readonly kind: 'blobs'; readonly manifestSha256: string; readonly manifest: Manifest; readonly blobsDir: string }
  | { readonly kind: 'file'; readonly path: string };

/** Measures in a process of its own, which is killed when the signal aborts. */
export interface Measurer {
  measure(source: ModelSource, plan: Plan, signal: AbortSignal): Promise<Outcome<Measurement>>;
}

export interface Inference {
  readonly output: Float32Array;
  /** Time of the run itself on this device. */
  readonly latencyMs: number;
}

/** Holds the deployed model in memory and answers with it, one inference after the other. */
export interface ModelServer {
  /** Loads a model beside the active one and checks it against its golden output; the active one goes on answering. */
  stage(source: ModelSource): Promise<Outcome<null>>;
  /** The staged model takes over, between two inferences: none is dropped, none fails. */
  activate(): Promise<void>;
  /** Runs the active model on its golden input. */
  check(): Promise<Outcome<null>>;
  /** Stops answering: there is no active model any more. */
  clear(): Promise<void>;
  infer(input: Float32Array): Promise<Outcome<Inference>>;
}

/** One deployed model. */
export interface Slot {
  /** Revision of the desired state that brought it. */
  readonly rev: number;
  readonly manifestSha256: string;
  readonly manifest: Manifest;
}

/** What is deployed; `previous` is the last committed one while `current` is on probation. */
interface SlotRow {
  readonly current: Slot | null;
  readonly committed: boolean;
  readonly previous: Slot | null;
  /** Newest revision that was begun and not committed, and why; written before it is loaded, so that one that kills the agent is known by it. */
  readonly failed: { readonly rev: number; readonly reason: Reason; readonly message: string } | null;
}

export interface SlotStore {
  read(): SlotRow;
  /** Durable when it returns. */
  write(row: SlotRow): void;
}

/** Blobs on this device, by hash; `openPartial` resumes what had begun to arrive. */
export interface BlobShelf {
  /** Folder in which a ModelSource of kind `blobs` looks. */
  readonly dir: string;
  has(sha256: string): boolean;
  get(sha256: string): Outcome<Uint8Array>;
  openPartial(ref: BlobRef): Promise<Outcome<IncomingBlob>>;
}

export interface IncomingBlob {
  missing(): readonly number[];
  /** HASH_MISMATCH: ask for the block again. LOW_DISK: stop. */
  write(index: number, bytes: Uint8Array): Promise<Outcome<void>>;
  finish(): Promise<Outcome<void>>;
  close(): Promise<void>;
}

export interface DiskSpace {
  readonly freeBytes: number;
  readonly totalBytes: number;
}

/** Whoever measures on this host takes turns. */
export interface TurnLock {
  /** Rejects when the signal aborts. */
  acquire(signal: AbortSignal): Promise<{ release(): void }>;
}

/** A job that this device has accepted and not yet been released from. */
export interface HeldJob {
  readonly jobId: string;
  readonly attempt: number;
  readonly phase: 'running' | 'done';
}

/** What must reach the controller, in the order in which it was committed. `id` is the message's id at each transmission. */
export interface OutboxRow {
  readonly id: string;
  readonly update: JobUpdate;
}

/** The agent's durable memory of its jobs. Each change is one commit that survives a power cut; each method resolves after it. */
export interface Outbox {
  held(): Promise<readonly HeldJob[]>;
  /** The job runs from here on, and the controller will be told. */
  accept(row: OutboxRow): Promise<void>;
  /** The job ends here (result, reject, interrupted), and the controller will be told. */
  finish(row: OutboxRow): Promise<void>;
  /** The controller wants nothing of this job any more: neither the job nor its rows are kept. */
  forget(jobId: string): Promise<void>;
  /** The controller has committed this row. Null where it is not there (any more). */
  acknowledge(id: string): Promise<OutboxRow | null>;
  /** Rows that cannot be read are set aside, not given. */
  oldest(limit: number): Promise<readonly OutboxRow[]>;
  /** A row that can never be sent leaves the queue, so that those behind it go; it is kept for people, and its job is held no more. */
  setAside(id: string, why: string): Promise<void>;
  fill(): Promise<{ readonly rows: number; readonly oldestAtMs: number | null; readonly isNearlyFull: boolean }>;
}
