// The fleet as the rest of the controller sees it: who is there, work to give, results that come, models deployed, inferences asked.
import type { DeviceInfo } from '@ofa-fleet/shared/device.ts';
import type { Measurement, Plan } from '@ofa-fleet/shared/measurement.ts';
import type { Outcome } from '@ofa-fleet/shared/outcome.ts';

export interface FleetDevice {
  readonly deviceId: string;
  readonly name: string;
  readonly deviceClass: string;
  readonly info: DeviceInfo | null;
  readonly presence: 'online' | 'suspect' | 'offline' | 'stale';
  /** Manifest served now, as the device reports it. */
  readonly activeManifestSha256: string | null;
  /** Where the device itself serves inference over HTTP, as it reports it, e.g. `http://127.0.0.1:40123`; null where it does not. */
  readonly serveUrl: string | null;
  /** Why its measurements are not asked for at present; null where they are. */
  readonly quarantine: string | null;
}

/** The end of a job: exactly one for each, committed before it is told. `failed` is a censored result (rejected, exhausted, expired). */
export interface JobEnd {
  readonly jobId: string;
  readonly deviceId: string | null;
  readonly outcome: Outcome<Measurement>;
}

export interface Fleet {
  /** e.g. `mqtt://127.0.0.1:1883`, with the port really bound. */
  readonly brokerUrl: string;
  /** A single-use token for `ofa-agent join URL TOKEN`. */
  createToken(options: { readonly name: string | null; readonly lifetimeMs: number }): Promise<string>;
  devices(): Promise<readonly FleetDevice[]>;
  /** Puts a measurement in the queue of a class; any device of it may take it. Idempotent by `key`: the same key gives the same job. */
  enqueue(job: {
    readonly key: string;
    readonly deviceClass: string;
    readonly manifestSha256: string;
    readonly plan: Plan;
  }): Promise<string>;
  cancel(jobId: string): Promise<void>;
  /** The end of a job if it has ended: a restarted controller asks for what it was not told. */
  jobEnd(jobId: string): Promise<JobEnd | null>;
  onJobEnd(listener: (end: JobEnd) => void): () => void;
  onDevices(listener: () => void): () => void;
  /** Makes the manifest the device's desired model; resolves when the device reports it committed (active and answering), or why not. */
  deploy(deviceId: string, manifestSha256: string, signal: AbortSignal): Promise<Outcome<{ readonly rev: number }>>;
  /** One inference by MQTT through the deployed model. `latencyMs` is the device's own time of the run. */
  infer(
    deviceId: string,
    input: Float32Array,
    signal: AbortSignal,
  ): Promise<Outcome<{ readonly output: Float32Array; readonly latencyMs: number }>>;
  close(): Promise<void>;
}
