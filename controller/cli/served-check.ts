// Asks a deployed model the same test images by HTTP and by MQTT, and sets its answers beside the controller's own runtime.
import { z } from 'zod';
import { failed, ok, type Outcome } from '@ofa-fleet/shared/outcome.ts';
import type { FleetDevice } from '../fleet/fleet.ts';
import type { Controller } from '../main.ts';
import { addServedCheck, type ServedCheck } from '../store/comparison.ts';
import type { Subnet } from '../subnet.ts';
import { evaluationOf, evaluationView } from '../supernet/data/augmentation.ts';
import { toInput } from '../supernet/data/preprocess.ts';

/** Below this share of equal answers a deployed model is not the one that was chosen. */
export const LEAST_AGREEMENT = 0.998;

type Ask = (input: Float32Array) => Promise<Outcome<{ readonly output: ArrayLike<number>; readonly latencyMs: number }>>;

export interface ServedCheckRequest {
  readonly campaignId: string;
  readonly device: FleetDevice;
  readonly subnetId: string;
  readonly subnet: Subnet;
  /** How many of the test images, from the first on. */
  readonly images: number;
}

/** Both ways, one after the other, with the host to themselves; each check is a row. */
export async function checkServed(
  controller: Controller,
  request: ServedCheckRequest,
  signal: AbortSignal,
): Promise<Outcome<readonly ServedCheck[]>> {
  const { device, campaignId, subnetId, subnet } = request;
  const own = await controller.testAccuracy(subnet, signal);
  if (!own.ok) return own;
  const expected = own.value.predictions;
  if (expected === null)
    return failed('INVALID_INPUT', 'The controller kept no predictions to compare with: the space has more than 256 classes.');
  if (device.serveUrl === null) return failed('UNREACHABLE', `Device ${device.name} tells no HTTP address to ask.`);
  const url = inferUrl(device.serveUrl);
  if (url === null) {
    return failed(
      'INVALID_INPUT',
      `Device ${device.name} says that it serves at ${device.serveUrl}, which is no address of this machine; only http://127.0.0.1 and localhost are asked.`,
    );
  }
  const evaluation = evaluationOf(controller.checkpoint.recipe);
  const images = Math.min(request.images, controller.images.test.count);
  const ways: readonly { readonly carrier: ServedCheck['carrier']; readonly ask: Ask }[] = [
    { carrier: 'http', ask: askByHttp(url, signal) },
    { carrier: 'mqtt', ask: (input) => controller.fleet.infer(device.deviceId, input, signal) },
  ];
  const turn = await controller.takeTurn(signal);
  if (!turn.ok) return turn;
  try {
    const checks: ServedCheck[] = [];
    for (const { carrier, ask } of ways) {
      let agreeing = 0;
      const runMs: number[] = [];
      const roundTripMs: number[] = [];
      for (let i = 0; i < images; i++) {
        const input = toInput(
          controller.images.test,
          [evaluationView(evaluation, i)],
          controller.checkpoint.space,
          subnet.resolution,
          'NCHW',
        );
        const began = performance.now();
        const answer = await ask(input);
        if (!answer.ok)
          return failed(
            answer.reason,
            `Device ${device.name} did not answer image ${i + 1} of ${images} by ${carrier.toUpperCase()}: ${answer.message}`,
          );
        roundTripMs.push(performance.now() - began);
        runMs.push(answer.value.latencyMs);
        if (argmax(answer.value.output) === expected[i]) agreeing++;
      }
      const check: ServedCheck = {
        deviceId: device.deviceId,
        deviceClass: device.deviceClass,
        subnetId,
        carrier,
        images,
        agreeing,
        runMs,
        roundTripMs,
      };
      await addServedCheck(controller.db, campaignId, check, Date.now());
      checks.push(check);
    }
    return ok(checks);
  } finally {
    turn.value.release();
  }
}

const answerSchema = z.union([
  z.object({ output: z.array(z.number()), latencyMs: z.number() }),
  z.object({ reason: z.string(), message: z.string() }),
]);

const LOOPBACK: ReadonlySet<string> = new Set(['127.0.0.1', 'localhost', '[::1]']);

/** Where to post an inference; null for an address elsewhere. A device may report any, and must not steer the controller to others' services. */
export function inferUrl(serveUrl: string): URL | null {
  if (!URL.canParse(serveUrl)) return null;
  const url = new URL('/infer', serveUrl);
  return url.protocol === 'http:' && LOOPBACK.has(url.hostname) ? url : null;
}

function askByHttp(url: URL, signal: AbortSignal): Ask {
  return async (input) => {
    try {
      const body = new Uint8Array(input.buffer, input.byteOffset, input.byteLength) as Uint8Array<ArrayBuffer>;
      const headers = { 'content-type': 'application/octet-stream' };
      const response = await fetch(url, { method: 'POST', headers, body, signal, redirect: 'error' });
      const answer = answerSchema.parse(await response.json());
      return 'output' in answer ? ok(answer) : failed('UNREACHABLE', answer.message);
    } catch (error) {
      return failed(signal.aborted ? 'CANCELED' : 'UNREACHABLE', `${url.href}: ${error instanceof Error ? error.message : String(error)}.`);
    }
  };
}

/** Index of the largest value, the first of equal ones. */
function argmax(values: ArrayLike<number>): number {
  let best = 0;
  for (let i = 1; i < values.length; i++) if ((values[i] as number) > (values[best] as number)) best = i;
  return best;
}
