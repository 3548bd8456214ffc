// Samples a sensor in a thread of its own at a rate of its own, idle windows included, so that its cost cancels in the net figure and the
// measuring thread never waits for it.
import { once } from 'node:events';
import { Worker } from 'node:worker_threads';
import { systemClock } from '@ofa-fleet/shared/clock.ts';
import { failed, ok, type Outcome } from '@ofa-fleet/shared/outcome.ts';
import { witnessOf } from '../../boundary.ts';
import type { Calibration } from '../../calibration.ts';
import type { Witness } from '../../energy-cross-check.ts';
import type { MeterRecorder } from '../../ports.ts';
import { entryUrl } from '../entries.ts';
import { discoverMeters, explainNoMeter } from './discover.ts';
import type { Discovery, Meter, MeterHost } from './meter.ts';
import { discoverPlugs } from './plug.ts';
import { isPolled } from './source.ts';

/** Memory that both threads see. `header`: readings written, stop asked, ended. */
interface RecorderMemory {
  readonly header: Int32Array;
  readonly atMs: Float64Array;
  readonly values: Float64Array;
}

export interface RecorderTask {
  readonly meter: Meter;
  readonly memory: RecorderMemory;
  /** Reads no more often, or at half the refresh. */
  readonly fastestMs: number;
}

/** What a sensor showed before it is recorded. */
export interface Watched {
  readonly refreshMs: number | null;
  /** Joules or watts; drivers show µW and µJ whatever their hardware resolves. */
  readonly step: number | null;
}

export const WRITTEN = 0;
export const STOP = 1;

/** No faster, since each reading costs CPU time that the sensor counts. */
const FASTEST_MS = 5;
/** Seven minutes at the fastest rate, after the first look. */
const CAPACITY = 90_000;
const ENDING_MS = 1000;

/** Starts to sample `meter`; resolves once its refresh has been observed (1 to 5 s, longer for a slow sensor). */
export async function recordMeter(meter: Meter, fastestMs = FASTEST_MS): Promise<MeterRecorder> {
  const shared = (bytes: number) => new SharedArrayBuffer(bytes);
  const memory: RecorderMemory = {
    header: new Int32Array(shared(8)),
    atMs: new Float64Array(shared(8 * CAPACITY)),
    values: new Float64Array(shared(8 * CAPACITY)),
  };
  const task: RecorderTask = { meter, memory, fastestMs };
  const worker = new Worker(entryUrl('meter-worker'), { workerData: task });
  // Threads have clocks of different origin; the worker stamps on the process-wide one.
  const offsetMs = Number(process.hrtime.bigint()) / 1e6 - performance.now();
  const { refreshMs, step } = await new Promise<Watched>((resolve, reject) => {
    worker.once('message', resolve);
    worker.once('error', reject);
  });
  worker.unref();
  return {
    info: { ...meter.info, lsb: Math.max(meter.info.lsb, step ?? 0) },
    refreshMs,
    trace: () => {
      const n = Atomics.load(memory.header, WRITTEN);
      return { atMs: memory.atMs.slice(0, n).map((at) => at - offsetMs), values: memory.values.slice(0, n) };
    },
    stop: async () => {
      Atomics.store(memory.header, STOP, 1);
      Atomics.notify(memory.header, STOP);
      // A thread that has started a program ends it first.
      if (!isPolled(meter.source)) await Promise.race([once(worker, 'message'), systemClock.sleep(ENDING_MS)]);
      await worker.terminate();
    },
  };
}

/** Records the first of these sensors whose reading moves while it is watched; the last one, where none does. */
export async function recordFirstMoving([meter, ...rest]: readonly [Meter, ...Meter[]], fastestMs = FASTEST_MS): Promise<MeterRecorder> {
  const recorder = await recordMeter(meter, fastestMs);
  const [next, ...others] = rest;
  if (recorder.refreshMs !== null || next === undefined) return recorder;
  await recorder.stop();
  return recordFirstMoving([next, ...others], fastestMs);
}

/** Records the most direct sensor of this machine that shows anything, or says why there is none. */
export async function startRecorder(host: MeterHost, discovery = discoverMeters(host)): Promise<Outcome<MeterRecorder>> {
  const [first, ...others] = discovery.meters;
  if (first === undefined) return failed('SENSOR_MISSING', explainNoMeter(host, discovery));
  return ok(await recordFirstMoving([first, ...others]));
}

/** Records the second sensor of the same boundary beside `chosen`; null where this machine has no such one. */
export async function startWitness({ meters }: Discovery, chosen: MeterRecorder): Promise<MeterRecorder | null> {
  const meter = witnessOf(chosen.info, meters);
  return meter === null ? null : recordMeter(meter);
}

/** Records the plug that `chosen` was calibrated against, with the line between the two; null where it was not, or that plug is not given. */
export async function startCalibrated(
  host: MeterHost,
  chosen: MeterRecorder,
  calibrations: readonly Calibration[],
): Promise<Witness | null> {
  const plugs = discoverPlugs(host).meters;
  for (const calibration of calibrations) {
    const plug = plugs.find(({ info }) => info.sensor === calibration.plug);
    if (calibration.rail.sensor === chosen.info.sensor && plug !== undefined) return { recorder: await recordMeter(plug), calibration };
  }
  return null;
}
