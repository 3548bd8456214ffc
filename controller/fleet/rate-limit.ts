// A token bucket that delays instead of refusing: a device that talks too fast is read more slowly, and loses nothing.

export interface Bucket {
  /** How long this message has to wait, in ms. */
  take(nowMs: number): number;
}

export function createBucket(perSecond: number, burst: number): Bucket {
  /** Below zero: messages that wait for their token. */
  let tokens = burst;
  let at: number | null = null;
  return {
    take(nowMs) {
      tokens = Math.min(burst, tokens + ((nowMs - (at ?? nowMs)) / 1000) * perSecond);
      at = nowMs;
      tokens -= 1;
      return tokens >= 0 ? 0 : (-tokens / perSecond) * 1000;
    },
  };
}
