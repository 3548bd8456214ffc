// One MQTT connection that comes back: what mqtt.js leaves open is settled here. A fresh client for each connection (nothing of an old
// session is replayed), full-jitter backoff, NODELAY, an own window of unacknowledged messages, and nothing is published while offline.
import mqtt, { type IClientOptions, type MqttClient } from 'mqtt';
import { within, type Clock } from './clock.ts';
import { uuidV7 } from './ids.ts';

export interface Backoff {
  readonly baseMs: number;
  readonly capMs: number;
}
export const DEFAULT_BACKOFF: Backoff = { baseMs: 1000, capMs: 300_000 };

export interface LinkSettings {
  /** `mqtt://host:port`. */
  readonly url: string;
  /** Client id and user name: the broker demands that they are equal. */
  readonly id: string;
  readonly password: string;
  readonly filters: readonly string[];
  /** Published by the broker when this connection breaks. */
  readonly will: ((sessionId: string) => { readonly topic: string; readonly payload: Uint8Array }) | null;
  /** QoS 1 messages that may be unacknowledged at once; others wait, up to `maxWaiting`. */
  readonly window: number;
  readonly maxWaiting: number;
  readonly backoff: Backoff;
}

export interface LinkDown {
  /** The broker answered and refused these credentials. */
  readonly refused: boolean;
  readonly message: string;
  readonly nextAttemptMs: number;
}

export interface LinkEvents {
  /** Connected and subscribed. A new session id for each connection. */
  onUp(sessionId: string): void;
  /** A connection ended or an attempt failed. */
  onDown(down: LinkDown): void;
  onMessage(topic: string, payload: Uint8Array, retained: boolean): void;
}

export interface LinkEffects {
  readonly clock: Clock;
  /** Uniform in [0, 1). */
  readonly random: () => number;
}

export interface PublishOptions {
  readonly qos: 0 | 1;
  readonly retain: boolean;
}

/** Also what an in-memory link with faults offers in tests. */
export interface Link {
  /** Null while offline. */
  sessionId(): string | null;
  /** True once the broker took it (QoS 1: acknowledged; QoS 0: written). False: offline, the connection broke, or too many wait. */
  publish(topic: string, payload: Uint8Array, options: PublishOptions): Promise<boolean>;
  /** Disconnects cleanly (no will follows) and stays down; what waits is answered false. */
  close(): Promise<void>;
}

const CONNECT_TIMEOUT_MS = 10_000;
const KEEPALIVE_S = 60;
/** A connection that lived so long resets the backoff: one kicked sooner is a storm or a taken-over id. */
const STABLE_MS = 60_000;
/** Three drops so soon after connecting mean that another client uses this id. */
const TAKEN_OVER_MS = 5000;
const TAKEN_OVER_DROPS = 3;
const CLOSE_LIMIT_MS = 1000;

/** Uniform in [0, min(cap, base · 2^failures)]. */
export function backoffMs(backoff: Backoff, failures: number, random: () => number): number {
  return random() * Math.min(backoff.capMs, backoff.baseMs * 2 ** Math.min(failures, 30));
}

interface Waiting {
  readonly start: () => void;
  readonly drop: () => void;
}

/** Connects at once and for ever, until `close`. */
export function openLink(settings: LinkSettings, events: LinkEvents, { clock, random }: LinkEffects): Link {
  const stop = new AbortController();
  let session: { readonly id: string; readonly client: MqttClient } | null = null;
  let inFlight = 0;
  const unacknowledged = new Set<() => void>();
  let closing = false;
  /** In order of arrival; dropped as a whole when the connection ends. */
  let waiting: Waiting[] = [];

  function startNext(): void {
    while (inFlight < settings.window && waiting.length > 0) waiting.shift()?.start();
  }

  /** One connection from attempt to end; resolves when it is over. */
  function runConnection(): Promise<{ readonly refused: boolean; readonly message: string; readonly upMs: number }> {
    const sessionId = uuidV7(clock.wallMs());
    const options: IClientOptions = {
      clientId: settings.id,
      username: settings.id,
      password: settings.password,
      protocolVersion: 4,
      clean: true,
      keepalive: KEEPALIVE_S,
      connectTimeout: CONNECT_TIMEOUT_MS,
      reconnectPeriod: 0,
      resubscribe: false,
      queueQoSZero: false,
    };
    const will = settings.will?.(sessionId);
    if (will !== undefined) options.will = { topic: will.topic, payload: Buffer.from(will.payload), qos: 1, retain: true };
    return new Promise((resolve) => {
      const client = mqtt.connect(settings.url, options);
      let upAt: number | null = null;
      let refused = false;
      let message = 'the connection was closed';
      client.on('error', (error) => {
        refused ||= 'code' in error && (error.code === 4 || error.code === 5);
        message = error.message === '' ? String((error as NodeJS.ErrnoException).code) : error.message;
      });
      client.on('message', (topic, payload, packet) => events.onMessage(topic, payload, packet.retain));
      client.on('connect', () => {
        // absent where the stream is a browser's WebSocket
        if ('setNoDelay' in client.stream) (client.stream as unknown as { setNoDelay(on: boolean): void }).setNoDelay(true);
        const start = () => {
          if (closing) return;
          upAt = clock.monotonicMs();
          session = { id: sessionId, client };
          events.onUp(sessionId);
        };
        if (settings.filters.length === 0) {
          start();
          return;
        }
        client.subscribe([...settings.filters], { qos: 1 }, (error, granted) => {
          if (error === null && granted?.some(({ qos }) => qos > 2) !== true) {
            start();
            return;
          }
          message = `the broker refuses the subscription to ${settings.filters.join(', ')}`;
          client.end(true);
        });
      });
      const abort = () => void client.end(true);
      client.on('close', () => {
        stop.signal.removeEventListener('abort', abort);
        if (session?.client === client) session = null;
        const dropped = [...unacknowledged, ...waiting.map(({ drop }) => drop)];
        unacknowledged.clear();
        waiting = [];
        inFlight = 0;
        for (const drop of dropped) drop();
        client.end(true);
        resolve({ refused, message, upMs: upAt === null ? 0 : clock.monotonicMs() - upAt });
      });
      if (stop.signal.aborted) abort();
      else stop.signal.addEventListener('abort', abort);
    });
  }

  async function run(): Promise<void> {
    let failures = 0;
    let quickDrops = 0;
    while (!closing) {
      const end = await runConnection();
      if (closing) return;
      if (end.upMs >= STABLE_MS) failures = 0;
      quickDrops = end.upMs > 0 && end.upMs < TAKEN_OVER_MS ? quickDrops + 1 : 0;
      const wait = backoffMs(settings.backoff, failures, random);
      const takenOver = quickDrops >= TAKEN_OVER_DROPS;
      const nextAttemptMs = takenOver ? Math.min(settings.backoff.capMs, STABLE_MS) + wait : wait;
      failures++;
      const hint = takenOver
        ? `; dropped ${quickDrops} times within ${TAKEN_OVER_MS / 1000} s of connecting: does another client use the id ${settings.id}?`
        : '';
      events.onDown({ refused: end.refused, message: end.message + hint, nextAttemptMs });
      await clock.sleep(nextAttemptMs, stop.signal);
    }
  }
  const running = run();

  return {
    sessionId: () => session?.id ?? null,
    publish(topic, payload, { qos, retain }) {
      return new Promise((resolve) => {
        const now = session;
        if (now === null || (qos === 1 && waiting.length >= settings.maxWaiting)) {
          resolve(false);
          return;
        }
        let settled = false;
        const settle = (sent: boolean) => {
          if (settled) return;
          settled = true;
          resolve(sent);
          if (qos === 1 && session === now) {
            inFlight--;
            startNext();
          }
        };
        const start = () => {
          if (qos === 1) inFlight++;
          unacknowledged.add(drop);
          now.client.publish(topic, Buffer.from(payload.buffer, payload.byteOffset, payload.byteLength), { qos, retain }, (error) => {
            unacknowledged.delete(drop);
            settle(error === undefined || error === null);
          });
        };
        const drop = () => settle(false);
        if (qos === 0) start();
        else {
          waiting.push({ start, drop });
          startNext();
        }
      });
    },
    async close() {
      const open = session;
      session = null;
      closing = true;
      if (open !== null) {
        // a clean DISCONNECT, so that the broker drops the will; bounded, as the broker may be gone
        await within(
          clock,
          CLOSE_LIMIT_MS,
          open.client.endAsync(false).catch(() => undefined),
        );
      }
      stop.abort();
      await running;
    },
  };
}
