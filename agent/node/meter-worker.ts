// The sampling thread: watches a sensor for a moment to learn its refresh, then reads it again and again (or as its readings arrive) into
// shared memory until told to stop.
import { parentPort, workerData } from 'node:worker_threads';
import { median } from '@ofa-fleet/shared/statistics.ts';
import type { FollowedSource, PolledSource } from './meters/meter.ts';
import { STOP, WRITTEN, type RecorderTask, type Watched } from './meters/recorder.ts';
import { follow, isPolled, readNow, unevenly } from './meters/source.ts';

const { meter, memory, fastestMs } = workerData as RecorderTask;

const WATCH_EVERY_MS = 1;
/** Watched at least so long; a slow sensor longer, until it has changed a few times. */
const WATCH_MS = 1000;
const WATCH_LONGEST_MS = Math.max(5000, 6 * meter.typicalRefreshMs);
const WATCH_CHANGES = 3;
/** How often a thread that readings come to by themselves looks whether it is to stop. */
const LOOK_EVERY_MS = 20;

const nowMs = () => Number(process.hrtime.bigint()) / 1e6;
let written = 0;

function record(atMs: number, value: number): void {
  if (written === memory.atMs.length) return;
  memory.atMs[written] = atMs;
  memory.values[written] = value;
  written += 1;
  Atomics.store(memory.header, WRITTEN, written);
}

function greatestCommonDivisor(a: number, b: number): number {
  return b === 0 ? a : greatestCommonDivisor(b, a % b);
}

/** What a sensor shows of itself: when its reading changed, and the step that all changes are multiples of. */
function createObserver(): { see(atMs: number, value: number): void; changes(): number; watched(): Watched } {
  const changedAt: number[] = [];
  const unit = meter.info.lsb;
  let step = 0;
  let last: number | null = null;
  return {
    see(atMs, value) {
      if (last !== null && value !== last) {
        changedAt.push(atMs);
        step = greatestCommonDivisor(Math.round(Math.abs(value - last) / unit), step);
      }
      last = value;
    },
    changes: () => changedAt.length,
    // The median time between changes, since the shortest is jitter. Null where nothing changed.
    watched: () => ({
      refreshMs: changedAt.length < 2 ? null : median(changedAt.slice(1).map((at, i) => at - (changedAt[i] as number))),
      step: step === 0 ? null : step * unit,
    }),
  };
}

/** Waits without an event loop; ends early when told to stop. */
function wait(ms: number): void {
  Atomics.wait(memory.header, STOP, 0, ms);
}

function poll(source: PolledSource): void {
  const observer = createObserver();
  const began = nowMs();
  while (nowMs() - began < WATCH_MS || (observer.changes() < WATCH_CHANGES && nowMs() - began < WATCH_LONGEST_MS)) {
    wait(WATCH_EVERY_MS);
    const value = readNow(source);
    if (value !== null) observer.see(nowMs(), value);
  }
  const watched = observer.watched();
  parentPort?.postMessage(watched);
  const everyMs = Math.max(fastestMs, (watched.refreshMs ?? 0) / 2);
  let next = nowMs();
  while (written < memory.atMs.length && Atomics.load(memory.header, STOP) === 0) {
    const value = readNow(source);
    if (value !== null) record(nowMs(), value);
    next = Math.max(next + unevenly(everyMs), nowMs() - everyMs);
    wait(Math.max(0, next - nowMs()));
  }
}

function listen(source: FollowedSource): void {
  const observer = createObserver();
  const began = nowMs();
  let told = false;
  const stop = follow(source, (value, ageMs) => {
    const atMs = nowMs() - ageMs;
    record(atMs, value);
    if (!told) observer.see(atMs, value);
  });
  const look = setInterval(() => {
    const seenEnough = observer.changes() >= WATCH_CHANGES && nowMs() - began >= WATCH_MS;
    if (!told && (seenEnough || nowMs() - began >= WATCH_LONGEST_MS)) {
      told = true;
      parentPort?.postMessage(observer.watched());
    }
    if (Atomics.load(memory.header, STOP) === 0) return;
    clearInterval(look);
    stop();
    parentPort?.postMessage('ended');
  }, LOOK_EVERY_MS);
}

if (isPolled(meter.source)) poll(meter.source);
else listen(meter.source);
