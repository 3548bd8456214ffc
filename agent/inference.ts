// An inference that came over MQTT: float32 values in, an answer that the wire can carry out.
import type { Frame } from '@ofa-fleet/shared/blocks.ts';
import { failed, type Outcome } from '@ofa-fleet/shared/outcome.ts';
import { MAX_INFER_VALUES, type UpPayload } from '@ofa-fleet/shared/protocol.ts';
import type { Inference } from './ports.ts';

/** `serveUrl`: where the same is answered by HTTP, without these limits; null where it is not. */
export async function answerInference(
  { handle, bytes }: Frame,
  infer: (input: Float32Array) => Promise<Outcome<Inference>>,
  serveUrl: string | null,
): Promise<UpPayload<'inferred'>> {
  // a copy: float32 must be aligned to 4 bytes, a frame is not; not by slice(), which on Node's Buffer is a view of its pool
  const input = bytes.length % 4 === 0 ? new Float32Array(Uint8Array.from(bytes).buffer) : null;
  const answer = input === null ? failed('INVALID_INPUT', `${bytes.length} bytes are no float32 values`) : await infer(input);
  if (!answer.ok) return { ...answer, handle };
  const { output, latencyMs } = answer.value;
  const next = serveUrl === null ? 'serve a smaller model' : `use HTTP: POST ${serveUrl}/infer`;
  if (output.length > MAX_INFER_VALUES) {
    return {
      ...failed('INVALID_INPUT', `the model answers ${output.length} values, the limit over MQTT is ${MAX_INFER_VALUES}; ${next}`),
      handle,
    };
  }
  const odd = output.findIndex((value) => !Number.isFinite(value));
  if (odd !== -1) {
    const message = `the model answers ${output[odd] ?? NaN} at place ${odd}, which JSON cannot carry; give it another input or deploy another model`;
    return { ...failed('INVALID_INPUT', message), handle };
  }
  return { ok: true, handle, output: Array.from(output), latencyMs };
}
