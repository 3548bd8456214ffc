// Inferences by MQTT: an input goes down under a handle, the answer comes up with it. At most MAX_INFER_WINDOW on the way to one device.
import { failed, ok, type Outcome } from '@ofa-fleet/shared/outcome.ts';
import { DOWN, MAX_INFER_WINDOW, type UpPayload } from '@ofa-fleet/shared/protocol.ts';
import { PREFIX_BYTES, type Frame } from '@ofa-fleet/shared/blocks.ts';

/** An answer that takes longer is given up: the device may have died with the question. */
const ANSWER_LIMIT_MS = 30_000;
const MAX_INPUT_BYTES = DOWN.infer.maxBytes - PREFIX_BYTES;

type Inferred = Outcome<{ readonly output: Float32Array; readonly latencyMs: number }>;

export interface Inference {
  infer(deviceId: string, input: Float32Array, signal: AbortSignal): Promise<Inferred>;
  onInferred(deviceId: string, answer: UpPayload<'inferred'>): void;
}

/** `send` is false where the device cannot be reached. */
export function createInference(send: (deviceId: string, frame: Frame) => Promise<boolean>, random: () => number): Inference {
  const open = new Map<string, (answer: UpPayload<'inferred'>) => void>();
  const windows = new Map<string, { free: number; readonly waiting: (() => void)[] }>();
  // an answer meant for a controller that has gone must not fit a question of this one
  let lastHandle = Math.floor(random() * 2 ** 32);

  async function acquire(deviceId: string): Promise<() => void> {
    const window = windows.get(deviceId) ?? { free: MAX_INFER_WINDOW, waiting: [] };
    windows.set(deviceId, window);
    if (window.free > 0) window.free--;
    else {
      // whoever releases a place hands it over; one that was called off meanwhile passes it on at once
      await new Promise<void>((resolve) => window.waiting.push(resolve));
    }
    return () => {
      const next = window.waiting.shift();
      if (next !== undefined) next();
      else window.free++;
    };
  }

  async function exchange(deviceId: string, input: Float32Array, signal: AbortSignal): Promise<Inferred> {
    if (signal.aborted) return failed('CANCELED', `the inference on ${deviceId} was called off`);
    lastHandle = (lastHandle + 1) % 2 ** 32;
    const handle = lastHandle;
    const key = `${deviceId}/${handle}`;
    const limit = AbortSignal.any([signal, AbortSignal.timeout(ANSWER_LIMIT_MS)]);
    const answer = new Promise<UpPayload<'inferred'> | null>((resolve) => {
      open.set(key, resolve);
      limit.addEventListener('abort', () => resolve(null), { once: true });
    });
    try {
      const bytes = new Uint8Array(input.buffer, input.byteOffset, input.byteLength);
      if (!(await send(deviceId, { handle, index: 0, bytes })))
        return failed('UNREACHABLE', `the device ${deviceId} is not connected; start its agent`);
      const got = await answer;
      if (got === null) {
        return signal.aborted
          ? failed('CANCELED', `the inference on ${deviceId} was called off`)
          : failed('TIMED_OUT', `the device ${deviceId} did not answer an inference within ${ANSWER_LIMIT_MS / 1000} s`);
      }
      return got.ok ? ok({ output: Float32Array.from(got.output), latencyMs: got.latencyMs }) : failed(got.reason, got.message);
    } finally {
      open.delete(key);
    }
  }

  return {
    async infer(deviceId, input, signal) {
      if (input.byteLength > MAX_INPUT_BYTES) {
        return failed(
          'INVALID_INPUT',
          `an input of ${input.byteLength} bytes does not fit one MQTT message of ${MAX_INPUT_BYTES}; use the device's HTTP address`,
        );
      }
      const release = await acquire(deviceId);
      try {
        return await exchange(deviceId, input, signal);
      } finally {
        release();
      }
    },
    onInferred(deviceId, answer) {
      open.get(`${deviceId}/${answer.handle}`)?.(answer);
    },
  };
}
