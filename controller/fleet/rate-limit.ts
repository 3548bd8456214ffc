// A token bucket. `take` delays instead of refusing: a device that talks too fast is read more slowly, and loses nothing. `tryTake` refuses.

export interface Bucket {
  /** How long this message has to wait, in ms. */
  take(nowMs: number): number;
  /** True where a token was there, and is taken; a refusal takes none, so that askers who come back do not wait for each other's refusals. */
  tryTake(nowMs: number): boolean;
}

export function createBucket(perSecond: number, burst: number): Bucket {
  /** Below zero: messages that wait for their token. */
  let tokens = burst;
  let at: number | null = null;
  function fill(nowMs: number): void {
    tokens = Math.min(burst, tokens + ((nowMs - (at ?? nowMs)) / 1000) * perSecond);
    at = nowMs;
  }
  return {
    take(nowMs) {
      fill(nowMs);
      tokens -= 1;
      return tokens >= 0 ? 0 : (-tokens / perSecond) * 1000;
    },
    tryTake(nowMs) {
      fill(nowMs);
      if (tokens < 1) return false;
      tokens -= 1;
      return true;
    },
  };
}
