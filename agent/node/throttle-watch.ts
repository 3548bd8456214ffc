// Watches a board's firmware flags and its temperature from a thread of its own, so that the timing thread never waits for the firmware.
import { Worker } from 'node:worker_threads';
import { entryUrl } from './entries.ts';
import { firmwareFile } from './throttle.ts';

export interface WatchTask {
  /** Where the firmware shows its flags. */
  readonly file: string;
  readonly sysfsRoot: string;
  /** Stop asked; every flag seen; hottest zone in thousandths of a degree. */
  readonly memory: Int32Array;
}

export const STOP = 0;
export const BITS = 1;
export const HOTTEST = 2;
const NOTHING_YET = -(2 ** 31);

export interface ThrottleWatch {
  readonly file: string;
  /** Forgets what was seen. */
  reset(): void;
  /** Flags seen at any look since the last reset, and the highest temperature. */
  seen(): { readonly bits: number; readonly hottestC: number | null };
  stop(): void;
}

/** Null where this board's firmware shows no flags. */
export function startThrottleWatch(sysfsRoot: string): ThrottleWatch | null {
  const file = firmwareFile(sysfsRoot);
  if (file === null) return null;
  const memory = new Int32Array(new SharedArrayBuffer(12));
  memory[HOTTEST] = NOTHING_YET;
  const task: WatchTask = { file, sysfsRoot, memory };
  const worker = new Worker(entryUrl('throttle-worker'), { workerData: task });
  worker.unref();
  return {
    file,
    reset() {
      Atomics.store(memory, BITS, 0);
      Atomics.store(memory, HOTTEST, NOTHING_YET);
    },
    seen() {
      const hottest = Atomics.load(memory, HOTTEST);
      return { bits: Atomics.load(memory, BITS), hottestC: hottest === NOTHING_YET ? null : hottest / 1000 };
    },
    stop() {
      Atomics.store(memory, STOP, 1);
      Atomics.notify(memory, STOP);
    },
  };
}
