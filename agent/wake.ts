// Waits that something may cut short: a bell that was rung while nobody waited is not lost.
import type { Clock } from '@ofa-fleet/shared/clock.ts';

export interface Wake {
  ring(): void;
  /** Until rung, `ms` have passed or the signal aborts; true if rung. */
  wait(ms: number, signal: AbortSignal): Promise<boolean>;
}

export function createWake(clock: Clock): Wake {
  let rung = false;
  let onRing = (): void => undefined;
  return {
    ring() {
      rung = true;
      onRing();
    },
    async wait(ms, signal) {
      if (!rung) {
        const done = new AbortController();
        onRing = () => done.abort();
        await clock.sleep(ms, AbortSignal.any([signal, done.signal]));
        onRing = () => undefined;
      }
      const was = rung;
      rung = false;
      return was;
    },
  };
}
