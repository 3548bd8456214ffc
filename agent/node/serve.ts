// The deployed model as others reach it: `infer` for the agent's own MQTT handler, and HTTP on loopback for programs of this host.
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { Worker } from 'node:worker_threads';
import { failed, ok, type Failure, type Outcome } from '@ofa-fleet/shared/outcome.ts';
import type { Inference, ModelServer } from '../ports.ts';
import { entryUrl } from './entries.ts';
import type { RuntimeName } from './runtime/runtimes.ts';
import type { ServeAnswer, ServeRequest, ServeWorkerSettings } from './serve-worker.ts';

export interface ServeSettings {
  readonly runtime: RuntimeName;
  readonly intraOpThreads: number;
  /** Loopback unless the operator says otherwise. */
  readonly host: string;
  /** 0: any free port. */
  readonly port: number;
}

export interface NodeModelServer extends ModelServer {
  /** E.g. `http://127.0.0.1:41234`. */
  readonly url: string;
  /** Inferences answered since it started, by HTTP and by `infer`. */
  inferences(): number;
  /** Resolves if the model's thread ends by itself: nothing is served any more, and only a new start of the agent helps. */
  readonly crashed: Promise<Failure>;
  close(): Promise<void>;
}

/** Requests by HTTP that are read or wait for the model; more are sent away, so that memory stays bounded. */
const MAX_WAITING = 64;
const CLOSE_WAIT_MS = 2000;

interface ModelThread {
  ask(request: ServeRequest): Promise<ServeAnswer>;
  readonly crashed: Promise<Failure>;
  close(): Promise<void>;
}

/** The worker thread, with answers matched to requests. */
function startThread(settings: ServeWorkerSettings): ModelThread {
  const worker = new Worker(entryUrl('serve-worker'), { workerData: settings });
  const waiting = new Map<number, (answer: ServeAnswer) => void>();
  let id = 0;
  let dead: Failure | null = null;
  let closing = false;
  let onCrash: (failure: Failure) => void;
  const crashed = new Promise<Failure>((resolve) => (onCrash = resolve));
  worker.on('message', (message: { readonly id: number; readonly outcome: ServeAnswer }) => {
    waiting.get(message.id)?.(message.outcome);
    waiting.delete(message.id);
  });
  const end = (message: string) => {
    dead ??= failed('CRASHED', message);
    if (!closing) onCrash(dead);
    for (const resolve of waiting.values()) resolve(dead);
    waiting.clear();
  };
  worker.on('error', (error) => end(`The model's thread crashed: ${error.message}. Restart the agent.`));
  worker.on('exit', () => end(closing ? 'The model server was closed.' : "The model's thread ended. Restart the agent."));
  const ask = (request: ServeRequest) =>
    new Promise<ServeAnswer>((resolve) => {
      if (dead !== null) {
        resolve(dead);
        return;
      }
      id += 1;
      waiting.set(id, resolve);
      worker.postMessage({ id, request });
    });
  return {
    ask,
    crashed,
    close: async () => {
      closing = true;
      let timer: NodeJS.Timeout | undefined;
      // A long inference is not waited for.
      await Promise.race([ask({ kind: 'close' }), new Promise((resolve) => (timer = setTimeout(resolve, CLOSE_WAIT_MS)))]);
      clearTimeout(timer);
      await worker.terminate();
    },
  };
}

const STATUS: Partial<Record<Failure['reason'], number>> = { INVALID_INPUT: 400, NOT_FOUND: 503, BUSY: 503, OUT_OF_MEMORY: 507 };

function sendJson(response: ServerResponse, status: number, body: unknown): void {
  response.writeHead(status, { 'content-type': 'application/json' }).end(JSON.stringify(body));
}

/** The body; of one that is longer than `limit` bytes only so much as shows it. */
async function readBody(request: IncomingMessage, limit: number): Promise<Buffer> {
  const chunks: Buffer[] = [];
  let length = 0;
  // not destroyed when left early: the answer goes over the same connection
  for await (const chunk of request.iterator({ destroyOnReturn: false }) as AsyncIterable<Buffer>) {
    length += chunk.length;
    chunks.push(chunk);
    if (length > limit) break;
  }
  return Buffer.concat(chunks);
}

/** Raw float32 values, little endian, as a request's body carries them. */
function parseInput(body: Buffer, expected: number): Outcome<Float32Array> {
  if (body.length !== expected * 4) {
    return failed(
      'INVALID_INPUT',
      `The body has ${body.length > expected * 4 ? `more than ${expected * 4}` : body.length} bytes, the deployed model takes ${expected * 4} (${expected} float32 values, little endian).`,
    );
  }
  return ok(new Float32Array(Uint8Array.from(body).buffer));
}

/** Starts the model's thread and the HTTP server: `POST /infer` (raw float32 in, JSON out) and `GET /health`. */
export async function startModelServer(settings: ServeSettings): Promise<Outcome<NodeModelServer>> {
  const thread = startThread({ runtime: settings.runtime, intraOpThreads: settings.intraOpThreads });
  let stagedLength: number | null = null;
  let inputLength: number | null = null;
  let inferences = 0;
  let waiting = 0;
  let dead: Failure | null = null;
  void thread.crashed.then((failure) => {
    dead = failure;
    inputLength = null;
  });

  const infer = async (input: Float32Array): Promise<Outcome<Inference>> => {
    if (inputLength !== null && input.length !== inputLength) {
      return failed('INVALID_INPUT', `The input has ${input.length} values, the deployed model takes ${inputLength}.`);
    }
    const answer = (await thread.ask({ kind: 'infer', input })) as Outcome<Inference>;
    if (answer.ok) inferences++;
    return answer;
  };

  const inferBody = async (request: IncomingMessage, expected: number): Promise<Outcome<Inference>> => {
    const body = await readBody(request, expected * 4);
    const input = parseInput(body, expected);
    return input.ok ? infer(input.value) : input;
  };

  const respond = async (request: IncomingMessage, response: ServerResponse): Promise<void> => {
    const path = request.url?.split('?')[0];
    if (path === '/health' && request.method === 'GET') {
      sendJson(response, inputLength === null ? 503 : 200, { ok: inputLength !== null, inputLength, runtime: settings.runtime });
    } else if (path !== '/infer' || request.method !== 'POST') {
      sendJson(response, 404, {
        reason: 'NOT_FOUND',
        message: `There is no ${request.method ?? ''} ${path ?? ''}; try POST /infer or GET /health.`,
      });
    } else if (dead !== null) {
      sendJson(response, 503, { reason: dead.reason, message: dead.message });
    } else if (inputLength === null) {
      sendJson(response, 503, { reason: 'NOT_FOUND', message: 'No model is deployed on this device. Deploy one: ofa-fleet deploy.' });
    } else if (waiting >= MAX_WAITING) {
      sendJson(response, 503, {
        reason: 'BUSY',
        message: `${waiting} requests wait already (limit ${MAX_WAITING}). Try again in a moment.`,
      });
    } else {
      waiting++;
      const answer = await inferBody(request, inputLength).finally(() => waiting--);
      if (answer.ok) sendJson(response, 200, { output: Array.from(answer.value.output), latencyMs: answer.value.latencyMs });
      else sendJson(response, STATUS[answer.reason] ?? 500, { reason: answer.reason, message: answer.message });
    }
  };

  const http = createServer((request, response) => {
    respond(request, response).catch((error: unknown) => {
      if (!response.headersSent) sendJson(response, 500, { reason: 'CRASHED', message: String(error) });
    });
  });
  const listening = await new Promise<Outcome<null>>((resolve) => {
    http.once('error', (error: NodeJS.ErrnoException) => {
      const why = error.code === 'EADDRINUSE' ? 'another program listens there; choose another port' : error.message;
      resolve(
        failed(error.code === 'EADDRINUSE' ? 'PORT_IN_USE' : 'UNREACHABLE', `Cannot serve on ${settings.host}:${settings.port}: ${why}.`),
      );
    });
    http.listen(settings.port, settings.host, () => resolve(ok(null)));
  });
  if (!listening.ok) {
    await thread.close();
    return listening;
  }
  const { address, port, family } = http.address() as AddressInfo;

  return ok({
    url: `http://${family === 'IPv6' ? `[${address}]` : address}:${port}`,
    stage: async (source) => {
      const answer = await thread.ask({ kind: 'stage', source });
      if (!answer.ok) return answer;
      stagedLength = (answer.value as { readonly inputLength: number }).inputLength;
      return ok(null);
    },
    activate: async () => {
      const answer = await thread.ask({ kind: 'activate' });
      if (!answer.ok) throw new Error(answer.message);
      inputLength = stagedLength;
    },
    check: async () => (await thread.ask({ kind: 'check' })) as Outcome<null>,
    clear: async () => {
      inputLength = null;
      await thread.ask({ kind: 'clear' });
    },
    infer,
    inferences: () => inferences,
    crashed: thread.crashed,
    close: async () => {
      http.closeAllConnections();
      await new Promise((resolve) => http.close(resolve));
      await thread.close();
    },
  });
}
