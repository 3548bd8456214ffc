// The token bucket in virtual time: who is delayed, and who is refused.
import { describe, expect, it } from 'vitest';
import { createBucket } from '../../../controller/fleet/rate-limit.ts';

describe('a token bucket', () => {
  it('delays each message above its rate by its place in the line', () => {
    const bucket = createBucket(10, 2);
    expect([0, 0, 0, 0].map(() => bucket.take(0))).toEqual([0, 0, 100, 200]);
  });

  it('takes no token for a refusal, so that whoever asks again after the pause is let in', () => {
    const bucket = createBucket(10, 2);
    expect(Array.from({ length: 1000 }, () => bucket.tryTake(0)).filter(Boolean)).toHaveLength(2);
    expect([bucket.tryTake(50), bucket.tryTake(100), bucket.tryTake(100)]).toEqual([false, true, false]);
  });
});
