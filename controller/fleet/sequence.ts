// Notices that a message of a session never came: numbers may arrive out of order for a moment, as MQTT orders only within one topic.

const REORDER_MS = 5000;
/** Numbers ahead of a gap that are remembered. */
const MAX_AHEAD = 1024;

export interface Sequence {
  /** The next message of the session. */
  see(seq: number, nowMs: number): void;
  /** True once for each gap that has stayed open too long. */
  hasGap(nowMs: number): boolean;
}

/** A session whose first message seen has the number `first`. */
export function startSequence(first: number): Sequence {
  let next = first + 1;
  const ahead = new Set<number>();
  let gapSince: number | null = null;
  return {
    see(seq, nowMs) {
      if (seq >= next && ahead.size < MAX_AHEAD) ahead.add(seq);
      while (ahead.delete(next)) next++;
      if (ahead.size === 0) gapSince = null;
      else gapSince ??= nowMs;
    },
    hasGap(nowMs) {
      if (gapSince === null || nowMs - gapSince < REORDER_MS) return false;
      next = Math.max(...ahead) + 1;
      ahead.clear();
      gapSince = null;
      return true;
    },
  };
}
