// How the other commands reach a running `ofa-fleet serve`: by the address and the token that it left in the state folder.
import { readFileSync } from 'node:fs';
import { z } from 'zod';
import { failed, ok, REASONS, type Outcome } from '@ofa-fleet/shared/outcome.ts';
import { addressFile } from '../api/server.ts';

const addressSchema = z.object({ url: z.url(), token: z.string(), pid: z.int() });
const failureSchema = z.object({ reason: z.enum(REASONS), message: z.string() });

export interface ServeClient {
  readonly url: string;
  get(path: string, signal: AbortSignal): Promise<Outcome<unknown>>;
  post(path: string, body: unknown, signal: AbortSignal): Promise<Outcome<unknown>>;
  /** Server-sent events until the server ends them or the signal aborts. */
  events(path: string, signal: AbortSignal): AsyncGenerator;
}

/** UNREACHABLE where no `serve` runs on this state folder. */
export function connectToServe(stateDir: string): Outcome<ServeClient> {
  const absent = failed(
    'UNREACHABLE',
    `No controller runs with the state folder ${stateDir}: start one with \`ofa-fleet serve --state ${stateDir}\` and try again.`,
  );
  let address: z.infer<typeof addressSchema>;
  try {
    address = addressSchema.parse(JSON.parse(readFileSync(addressFile(stateDir), 'utf8')));
  } catch {
    return absent;
  }
  const request = (path: string, init: RequestInit) => fetch(new URL(path, address.url), init);
  const authorization = `Bearer ${address.token}`;
  const ask = async (path: string, init: RequestInit, signal: AbortSignal): Promise<Outcome<unknown>> => {
    try {
      const response = await request(path, { ...init, signal });
      const body: unknown = await response.json();
      if (response.ok) return ok(body);
      const failure = failureSchema.safeParse(body);
      return failure.success
        ? failed(failure.data.reason, failure.data.message)
        : failed('UNREACHABLE', `${address.url} answered ${response.status}, which no \`ofa-fleet serve\` of this version does.`);
    } catch (error) {
      if (signal.aborted) return failed('CANCELED', 'Stopped on request.');
      return error instanceof TypeError ? absent : failed('UNREACHABLE', `${address.url} did not answer: ${String(error)}.`);
    }
  };
  return ok({
    url: address.url,
    get: (path, signal) => ask(path, { headers: { authorization } }, signal),
    post: (path, body, signal) =>
      ask(path, { method: 'POST', headers: { authorization, 'content-type': 'application/json' }, body: JSON.stringify(body) }, signal),
    async *events(path, signal) {
      const response = await request(path, { headers: { authorization }, signal });
      const decoder = new TextDecoder();
      let buffered = '';
      for await (const chunk of response.body ?? []) {
        buffered += decoder.decode(chunk as Uint8Array, { stream: true });
        const parts = buffered.split('\n\n');
        buffered = parts.pop() ?? '';
        for (const part of parts) if (part.startsWith('data: ')) yield JSON.parse(part.slice('data: '.length));
      }
    },
  });
}
