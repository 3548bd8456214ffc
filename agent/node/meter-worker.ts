// The sampling thread: watches a sensor for a moment to learn its refresh, then reads it at a fixed rate into shared memory until told to stop.
import { parentPort, workerData } from 'node:worker_threads';
import { median } from '@ofa-fleet/shared/statistics.ts';
import { readNumber } from './host-files.ts';
import { STOP, WRITTEN, type RecorderTask, type Watched } from './meters/recorder.ts';

const { meter, memory } = workerData as RecorderTask;

const WATCH_EVERY_MS = 1;
/** Watched at least so long; a slow sensor longer, until it has changed a few times. */
const WATCH_MS = 1000;
const WATCH_LONGEST_MS = 5000;
const WATCH_CHANGES = 3;
/** No faster, since each reading costs CPU time that the sensor counts; half the refresh otherwise. */
const FASTEST_MS = 5;

const nowMs = () => Number(process.hrtime.bigint()) / 1e6;

/** Waits without an event loop; ends early when told to stop. */
function wait(ms: number): void {
  Atomics.wait(memory.header, STOP, 0, ms);
}

function read(): number | null {
  let sum = 0;
  for (const path of meter.paths) {
    const raw = readNumber(path);
    if (raw === null) return null;
    sum += raw * meter.scale;
  }
  return sum;
}

function greatestCommonDivisor(a: number, b: number): number {
  return b === 0 ? a : greatestCommonDivisor(b, a % b);
}

/** Refresh: the median time between changes, since the shortest is jitter. Step: what all changes are multiples of. Null where nothing changed. */
function watch(): Watched {
  const began = nowMs();
  const changedAt: number[] = [];
  let step = 0;
  let last = read();
  while (nowMs() - began < WATCH_MS || (changedAt.length < WATCH_CHANGES && nowMs() - began < WATCH_LONGEST_MS)) {
    wait(WATCH_EVERY_MS);
    const value = read();
    if (value !== null && value !== last) {
      changedAt.push(nowMs());
      // files hold whole numbers
      if (last !== null) step = greatestCommonDivisor(Math.round(Math.abs(value - last) / meter.scale), step);
    }
    last = value ?? last;
  }
  const gaps = changedAt.slice(1).map((at, i) => at - (changedAt[i] as number));
  return { refreshMs: gaps.length === 0 ? null : median(gaps), step: step === 0 ? null : step * meter.scale };
}

const watched = watch();
parentPort?.postMessage(watched);
const everyMs = Math.max(FASTEST_MS, (watched.refreshMs ?? 0) / 2);
let next = nowMs();
for (let n = 0; n < memory.atMs.length && Atomics.load(memory.header, STOP) === 0;) {
  const value = read();
  if (value !== null) {
    memory.atMs[n] = nowMs();
    memory.values[n] = value;
    n += 1;
    Atomics.store(memory.header, WRITTEN, n);
  }
  next = Math.max(next + everyMs, nowMs() - everyMs);
  wait(Math.max(0, next - nowMs()));
}
