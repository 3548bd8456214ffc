// Keeps all cores busy to a degree, by a thread for each.
import { availableParallelism } from 'node:os';
import { Worker } from 'node:worker_threads';
import type { Load } from '../calibration-run.ts';
import { entryUrl } from './entries.ts';

export function startLoad(): Load & { stop(): Promise<void> } {
  // [0] thousandths of the time that are busy; [1] is only waited on
  const control = new Int32Array(new SharedArrayBuffer(8));
  const threads = Array.from({ length: availableParallelism() }, () => new Worker(entryUrl('load-worker'), { workerData: control }));
  for (const thread of threads) thread.unref();
  return {
    set: (share) => void Atomics.store(control, 0, Math.round(share * 1000)),
    async stop() {
      await Promise.all(threads.map((thread) => thread.terminate()));
    },
  };
}
