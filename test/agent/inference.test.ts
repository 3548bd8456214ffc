// Inferences over MQTT: whatever a model answers, the device's answer fits the wire.
import { describe, expect, it } from 'vitest';
import { answerInference } from '../../agent/inference.ts';
import { ok } from '../../shared/outcome.ts';
import { UP } from '../../shared/protocol.ts';

const frame = (bytes: Uint8Array) => ({ handle: 7, index: 0, bytes });
const answer = (output: Float32Array, bytes = new Uint8Array(8)) =>
  answerInference(frame(bytes), () => Promise.resolve(ok({ output, latencyMs: 1 })), 'http://127.0.0.1:4000');

describe('an inference over MQTT', () => {
  it("is answered with the model's output", async () => {
    expect(await answer(Float32Array.of(1, 2))).toEqual({ ok: true, handle: 7, output: [1, 2], latencyMs: 1 });
  });

  it('whose answer no message can hold is refused in words that name the size, the limit and HTTP', async () => {
    const refused = await answer(new Float32Array(2049));
    expect(refused).toMatchObject({ ok: false, handle: 7, reason: 'INVALID_INPUT' });
    expect(refused.ok ? '' : refused.message).toMatch(/2049.*2048.*http:\/\/127\.0\.0\.1:4000/);
    expect(UP.inferred.schema.safeParse(await answer(new Float32Array(2048))).success).toBe(true);
  });

  it('whose answer is no number is refused, since JSON has no such value', async () => {
    for (const odd of [NaN, Infinity]) {
      const refused = await answer(Float32Array.of(1, odd));
      expect(refused).toMatchObject({ ok: false, reason: 'INVALID_INPUT' });
      expect(UP.inferred.schema.safeParse(refused).success).toBe(true);
    }
  });

  it('of bytes that are no float32 values is refused', async () => {
    expect(await answer(Float32Array.of(1), new Uint8Array(5))).toMatchObject({ ok: false, reason: 'INVALID_INPUT' });
  });
});
