// The real clock as the core's port.
import { setTimeout as sleep } from 'node:timers/promises';
import type { Clock } from '../ports.ts';

/** `monotonicMs` counts from this process's start with a resolution of ns. */
export const systemClock: Clock = {
  monotonicMs: () => performance.now(),
  wallMs: () => Date.now(),
  sleep: async (ms, signal) => {
    try {
      await sleep(ms, undefined, signal === undefined ? {} : { signal });
    } catch {
      // Aborted: the caller looks at its signal.
    }
  },
};
