// What the runtime's threads take while nothing is asked of them: threads that spin burn power between runs, and time that others need.
import { systemClock } from '@ofa-fleet/shared/clock.ts';
import type { Runtime } from '../ports.ts';
import { encodeReferenceModel } from '../reference.ts';

const WARM_UP_RUNS = 10;
const RUNS = 40;
/** An application's pause between two inferences. */
const IDLE_MS = 5;
const LEAST_THREADS = 2;

/** Cores that this process kept busy between runs of a small model; null where it cannot be loaded so. About half a second. */
export async function probeSpinning(runtime: Runtime, threads: number): Promise<number | null> {
  const options = { intraOpThreads: Math.max(LEAST_THREADS, threads) };
  const loaded = await runtime.load({ graph: encodeReferenceModel(), externalData: [] }, options);
  if (!loaded.ok) return null;
  const session = loaded.value;
  try {
    for (let i = 0; i < WARM_UP_RUNS; i++) await session.run();
    let busyMs = 0;
    let idleMs = 0;
    for (let i = 0; i < RUNS; i++) {
      await session.run();
      const before = process.cpuUsage();
      const began = performance.now();
      await systemClock.sleep(IDLE_MS);
      const { user, system } = process.cpuUsage(before);
      idleMs += performance.now() - began;
      busyMs += (user + system) / 1000;
    }
    return busyMs / idleMs;
  } finally {
    await session.release();
  }
}
