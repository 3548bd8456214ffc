// A device's typed end of the wire: birth and will for each connection, envelopes, and the stale rule. What it cannot send it says at once:
// durable messages are the outbox's business, not the bus's.
import { decodeFrame, type Frame } from './blocks.ts';
import { within } from './clock.ts';
import { uuidV7 } from './ids.ts';
import { openLink, type Link, type LinkDown, type LinkEffects, type LinkEvents, type LinkSettings } from './mqtt-link.ts';
import {
  encodeUp,
  isBinaryKind,
  isJsonDownKind,
  parseDown,
  parseUp,
  UP,
  WIRE_MINOR,
  type BinaryKind,
  type DownMessage,
  type EnvelopeFields,
  type UpKind,
  type UpPayload,
} from './protocol.ts';
import { buildTopic, deviceFilter, parseTopic, type Address } from './topics.ts';

/** Unacknowledged QoS 1 messages of one agent, and how many more may wait for room. */
const WINDOW = 10;
const MAX_WAITING = 256;
/** A will of an older connection may arrive after the birth: say again that we live, but not for ever. */
const MAX_REBIRTHS = 3;
const REBIRTH_EVERY_MS = 1000;
const GOODBYE_MS = 1000;
/** Meant for the device, not for one of its sessions. */
const ANY_SESSION: ReadonlySet<string> = new Set(['desired', 'rebirth', 'job-ack', 'enrol']);

export interface BusSettings {
  readonly url: string;
  readonly address: Address;
  readonly password: string;
  readonly bootId: string;
  /** Null while enrolling: a claim has no presence. */
  readonly birth: Omit<Extract<UpPayload<'state'>, { online: true }>, 'online' | 'sessionId' | 'bootId'> | null;
  readonly backoff: LinkSettings['backoff'];
}

export interface BusEvents {
  /** Born: time for `hello`. */
  onUp(): void;
  onDown(down: LinkDown): void;
  onMessage(message: DownMessage): void;
  onFrame(kind: BinaryKind, frame: Frame): void;
  /** A message was refused, or another client speaks under our id. */
  onTrouble(message: string): void;
}

export interface SendOptions {
  /** Id of the message answered. */
  readonly corr?: string;
  /** Given for a message that is sent again: the id stays. */
  readonly id?: string;
}

export interface Bus {
  isUp(): boolean;
  /** Id of the message if the broker took it; null if not (offline, or the connection broke). */
  send<K extends UpKind>(kind: K, payload: UpPayload<K>, options?: SendOptions): Promise<string | null>;
  /** The birth once more, as the controller asked. */
  rebirth(): void;
  newId(): string;
  /** Says a clean goodbye if it can. */
  close(reason: string): Promise<void>;
}

/** `open` makes the link: MQTT by default, one in memory in tests. */
export function openBus(settings: BusSettings, events: BusEvents, effects: LinkEffects, open: typeof openLink = openLink): Bus {
  const { address, bootId } = settings;
  const { clock } = effects;
  const stateTopic = buildTopic(address, 'up', 'state');
  /** Sequence of the current session; -1 before its first message. */
  let seq = -1;
  let rebirths = 0;
  let lastBirthAt = 0;

  const fieldsFor = (sid: string, options: SendOptions, counted: boolean): EnvelopeFields => ({
    v: WIRE_MINOR,
    id: options.id ?? uuidV7(clock.wallMs()),
    ts: clock.wallMs(),
    mono: clock.monotonicMs(),
    boot: bootId,
    sid,
    seq: counted ? ++seq : Math.max(seq, 0),
    corr: options.corr ?? null,
    ttlMs: null,
  });

  async function send<K extends UpKind>(kind: K, payload: UpPayload<K>, options: SendOptions = {}): Promise<string | null> {
    const sid = link.sessionId();
    if (sid === null) return null;
    const { qos, retain, ttlMs } = UP[kind];
    const fields = { ...fieldsFor(sid, options, qos === 1), ttlMs };
    const sent = await link.publish(buildTopic(address, 'up', kind), encodeUp(kind, fields, payload), { qos, retain });
    return sent ? fields.id : null;
  }

  function sayBirth(sid: string): void {
    if (settings.birth === null) return;
    lastBirthAt = clock.monotonicMs();
    send('state', { online: true, sessionId: sid, bootId, ...settings.birth }).catch((error: unknown) =>
      events.onTrouble(`this agent could not announce itself: ${String(error)}`),
    );
  }

  /** Our own topic: a `false` that is not of this session would show us dead. */
  function onOwnState(payload: Uint8Array): void {
    const sid = link.sessionId();
    const said = parseUp('state', payload);
    if (sid === null || !said.ok || said.value.t !== 'state' || said.value.p.online || said.value.p.sessionId === sid) return;
    if (rebirths >= MAX_REBIRTHS) {
      events.onTrouble(`another client announces itself as ${address.device}: two agents share one identity, stop one of them`);
      return;
    }
    rebirths++;
    const wait = Math.max(0, lastBirthAt + REBIRTH_EVERY_MS - clock.monotonicMs());
    void clock.sleep(wait).then(() => {
      if (link.sessionId() === sid) sayBirth(sid);
    });
  }

  const linkEvents: LinkEvents = {
    onUp(sid) {
      seq = -1;
      rebirths = 0;
      sayBirth(sid);
      events.onUp();
    },
    onDown: (down) => events.onDown(down),
    onMessage(topic, payload, retained) {
      if (topic === stateTopic) {
        if (!retained) onOwnState(payload);
        return;
      }
      const kind = parseTopic(topic)?.kind ?? '';
      if (isBinaryKind(kind)) {
        const frame = decodeFrame(payload);
        if (frame.ok) events.onFrame(kind, frame.value);
        else events.onTrouble(`${kind}: ${frame.message}`);
      } else if (isJsonDownKind(kind)) {
        const message = parseDown(kind, payload);
        if (!message.ok) events.onTrouble(message.message);
        else if (ANY_SESSION.has(kind) || message.value.sid === link.sessionId()) events.onMessage(message.value);
      }
      // an unknown kind is of a later version: nothing for us
    },
  };

  const link: Link = open(
    {
      url: settings.url,
      id: address.device,
      password: settings.password,
      filters: settings.birth === null ? [buildTopic(address, 'down', 'enrol')] : [deviceFilter(address), stateTopic],
      will:
        settings.birth === null
          ? null
          : (sid) => ({
              topic: stateTopic,
              payload: encodeUp('state', { ...fieldsFor(sid, {}, false), seq: 0 }, { online: false, sessionId: sid, reason: null }),
            }),
      window: WINDOW,
      maxWaiting: MAX_WAITING,
      backoff: settings.backoff,
    },
    linkEvents,
    effects,
  );

  return {
    isUp: () => link.sessionId() !== null,
    send,
    newId: () => uuidV7(clock.wallMs()),
    rebirth() {
      const sid = link.sessionId();
      if (sid !== null) sayBirth(sid);
    },
    async close(reason) {
      const sid = link.sessionId();
      if (sid !== null && settings.birth !== null) {
        await within(clock, GOODBYE_MS, send('state', { online: false, sessionId: sid, reason }));
      }
      await link.close();
    },
  };
}
