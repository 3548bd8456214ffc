// The controller's end of the wire: it reaches even its own broker as a client. Two connections, so that blocks and inference inputs never
// queue before control messages in one window.
import type { Clock } from '@ofa-fleet/shared/clock.ts';
import { encodeFrame, type Frame } from '@ofa-fleet/shared/blocks.ts';
import { randomId, uuidV7, CONTROLLER_PREFIX } from '@ofa-fleet/shared/ids.ts';
import { openLink, type Link } from '@ofa-fleet/shared/mqtt-link.ts';
import {
  DOWN,
  encodeDown,
  isUpKind,
  parseUp,
  WIRE_MINOR,
  type BinaryKind,
  type DownPayload,
  type JsonDownKind,
  type UpMessage,
} from '@ofa-fleet/shared/protocol.ts';
import { buildTopic, controllerFilter, parseTopic, type Address, type Topic } from '@ofa-fleet/shared/topics.ts';

/** Unacknowledged messages of each connection, and how many may wait. */
const WINDOW = 32;
const MAX_WAITING = 16_384;
const BACKOFF = { baseMs: 100, capMs: 5000 };

export interface WireSettings {
  readonly url: string;
  readonly password: string;
  readonly clock: Clock;
  readonly random: () => number;
}

export interface WireEvents {
  onMessage(topic: Topic, message: UpMessage): void;
  /** Does not fit its schema, or no schema fits it. */
  onInvalid(topic: string, bytes: Uint8Array, reason: string): void;
  onTrouble(message: string): void;
}

export interface Wire {
  /** True once both connections stand; false where the signal aborts first. */
  ready(signal: AbortSignal): Promise<boolean>;
  /** `sid`: the session of the device that is meant. True once the broker has it. */
  send<K extends JsonDownKind>(address: Address, sid: string, kind: K, payload: DownPayload<K>, corr?: string): Promise<boolean>;
  sendFrame(address: Address, kind: BinaryKind, frame: Frame): Promise<boolean>;
  close(): Promise<void>;
}

export function openWire({ url, password, clock, random }: WireSettings, events: WireEvents): Wire {
  const bootId = uuidV7(clock.wallMs());
  const up = new Set<string>();
  let onReady = (): void => undefined;

  function open(role: 'control' | 'blocks'): Link {
    return openLink(
      {
        url,
        id: randomId(CONTROLLER_PREFIX),
        password,
        filters: role === 'control' ? [controllerFilter()] : [],
        will: null,
        window: WINDOW,
        maxWaiting: MAX_WAITING,
        backoff: BACKOFF,
      },
      {
        onUp() {
          up.add(role);
          onReady();
        },
        onDown({ message }) {
          up.delete(role);
          events.onTrouble(`the controller's ${role} connection to its broker broke: ${message}`);
        },
        onMessage(text, payload) {
          const topic = parseTopic(text);
          if (topic === null || !isUpKind(topic.kind)) {
            events.onInvalid(text, payload, 'the topic is none of this protocol');
            return;
          }
          const message = parseUp(topic.kind, payload);
          if (message.ok) events.onMessage(topic, message.value);
          else events.onInvalid(text, payload, message.message);
        },
      },
      { clock, random },
    );
  }
  const control = open('control');
  const blocks = open('blocks');

  return {
    ready(signal) {
      return new Promise((resolve) => {
        onReady = () => {
          if (up.size === 2 || signal.aborted) resolve(up.size === 2);
        };
        signal.addEventListener('abort', onReady);
        onReady();
      });
    },
    send(address, sid, kind, payload, corr) {
      const { qos, retain, ttlMs } = DOWN[kind];
      const now = clock.wallMs();
      const fields = {
        v: WIRE_MINOR,
        id: uuidV7(now),
        ts: now,
        mono: clock.monotonicMs(),
        boot: bootId,
        sid,
        seq: 0,
        corr: corr ?? null,
        ttlMs,
      };
      return control.publish(buildTopic(address, 'down', kind), encodeDown(kind, fields, payload), { qos, retain });
    },
    sendFrame: (address, kind, frame) =>
      blocks.publish(buildTopic(address, 'down', kind), encodeFrame(frame), { qos: DOWN[kind].qos, retain: DOWN[kind].retain }),
    async close() {
      await Promise.all([control.close(), blocks.close()]);
    },
  };
}
