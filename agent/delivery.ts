// Brings the outbox to the controller: in order, and again until it says that it has committed. PUBACK means nothing here.
import type { Clock } from '@ofa-fleet/shared/clock.ts';
import type { Verdict } from '@ofa-fleet/shared/protocol.ts';
import type { Outbox, OutboxRow } from './ports.ts';
import { createWake } from './wake.ts';

/** Rows on the way at once: leaves room in the connection's window for control messages. */
const AT_ONCE = 6;
const AGAIN_MS = 30_000;
const RETRY_MS = 2000;
const FOREVER_MS = 2 ** 31 - 1;

export interface Delivery {
  run(signal: AbortSignal): Promise<void>;
  /** There is a new row, or what was sent should go again (a new session, the controller asked). */
  kick(options?: { readonly again: boolean }): void;
  /** Row that this settles, null where the verdict is `retry` or the row is gone. */
  onAck(id: string, verdict: Verdict): Promise<OutboxRow | null>;
  /** Resolves when everything is acknowledged, or after `limitMs`. */
  drained(limitMs: number): Promise<void>;
}

export interface DeliveryHost {
  readonly outbox: Outbox;
  readonly clock: Clock;
  readonly random: () => number;
  /** False where it could not be sent now; rejects with a RangeError where it never can. */
  readonly send: (row: OutboxRow) => Promise<boolean>;
}

export function createDelivery({ outbox, clock, random, send }: DeliveryHost): Delivery {
  const wake = createWake(clock);
  /** When a row that was sent is sent again. */
  const due = new Map<string, number>();
  let waiters: (() => void)[] = [];

  /** How long until something has to be sent again. */
  async function sendDue(): Promise<number> {
    const rows = await outbox.oldest(AT_ONCE);
    if (rows.length === 0) {
      for (const resolve of waiters.splice(0)) resolve();
      return FOREVER_MS;
    }
    for (const row of rows) {
      if ((due.get(row.id) ?? -Infinity) > clock.monotonicMs()) continue;
      try {
        // offline, or not taken: all later rows wait too, as order counts
        if (!(await send(row))) return RETRY_MS;
      } catch (error) {
        if (!(error instanceof RangeError)) throw error;
        await outbox.setAside(row.id, error.message);
        return 0;
      }
      due.set(row.id, clock.monotonicMs() + AGAIN_MS * (1 + random()));
    }
    return Math.min(...rows.map(({ id }) => (due.get(id) ?? 0) - clock.monotonicMs()));
  }

  return {
    async run(signal) {
      while (!signal.aborted) await wake.wait(Math.max(0, await sendDue()), signal);
    },
    kick({ again } = { again: false }) {
      if (again) due.clear();
      wake.ring();
    },
    async onAck(id, verdict) {
      if (verdict === 'retry') {
        due.set(id, clock.monotonicMs() + RETRY_MS * (1 + random()));
        wake.ring();
        return null;
      }
      due.delete(id);
      const row = await outbox.acknowledge(id);
      wake.ring();
      return row;
    },
    async drained(limitMs) {
      const done = new AbortController();
      waiters.push(() => done.abort());
      wake.ring();
      await clock.sleep(limitMs, done.signal);
      waiters = [];
    },
  };
}
