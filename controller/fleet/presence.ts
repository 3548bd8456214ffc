// Who is there. Presence steers display and whom to ring; it never ends a job, only leases do. Kept in memory, saved seldom.
//
// Invariant: a session ends presence only for itself; a will of an older session changes nothing.
import { startSequence, type Sequence } from './sequence.ts';

type PresenceState = 'online' | 'suspect' | 'offline';

/** Three heartbeats without a word, and then the grace. */
const SILENCE_MS = 45_000;
const GRACE_MS = 30_000;
const SAVE_EVERY_MS = 60_000;
const REBIRTH_EVERY_MS = 60_000;

interface Session {
  /** Null once it has ended. */
  sid: string | null;
  bootId: string;
  state: PresenceState;
  lastSeenAt: number;
  /** Announced silence, while it measures. */
  quietUntil: number;
  suspectSince: number;
  sequence: Sequence;
  savedAt: number;
  rebirthAt: number;
}

interface Heard {
  readonly deviceId: string;
  readonly sid: string;
  readonly bootId: string;
  /** Null for a message that takes no number (QoS 0). */
  readonly seq: number | null;
  readonly isBirth: boolean;
}

export interface Presence {
  get(deviceId: string): Readonly<Session> | null;
  /** True where the state changed. */
  heard(message: Heard, now: number): boolean;
  /** A will or a clean stop. */
  left(deviceId: string, sid: string, clean: boolean, now: number): boolean;
  quiet(deviceId: string, until: number): void;
  tick(now: number): { readonly changed: readonly string[]; readonly toSave: readonly string[]; readonly rebirths: readonly string[] };
}

export function createPresence(): Presence {
  const sessions = new Map<string, Session>();
  const unborn = new Set<string>();

  function begin({ deviceId, sid, bootId, seq, isBirth }: Heard, now: number): boolean {
    const before = sessions.get(deviceId);
    if (!isBirth) unborn.add(deviceId);
    sessions.set(deviceId, {
      sid,
      bootId,
      state: 'online',
      lastSeenAt: now,
      quietUntil: 0,
      suspectSince: 0,
      sequence: startSequence(seq ?? 0),
      savedAt: -Infinity,
      rebirthAt: before?.rebirthAt ?? -Infinity,
    });
    return before?.state !== 'online';
  }

  return {
    get: (deviceId) => sessions.get(deviceId) ?? null,
    heard(message, now) {
      const session = sessions.get(message.deviceId);
      if (message.isBirth) unborn.delete(message.deviceId);
      if (session === undefined || (message.isBirth && session.sid !== message.sid) || session.sid === null) return begin(message, now);
      // left over from an older connection: its content counts, its presence does not
      if (session.sid !== message.sid) return false;
      if (message.seq !== null) session.sequence.see(message.seq, now);
      session.lastSeenAt = now;
      const changed = session.state !== 'online';
      session.state = 'online';
      return changed;
    },
    left(deviceId, sid, clean, now) {
      const session = sessions.get(deviceId);
      if (session?.sid !== sid) return false;
      session.sid = null;
      session.suspectSince = now;
      const state: PresenceState = clean ? 'offline' : 'suspect';
      const changed = session.state !== state;
      session.state = state;
      return changed;
    },
    quiet(deviceId, until) {
      const session = sessions.get(deviceId);
      if (session !== undefined) session.quietUntil = Math.max(session.quietUntil, until);
    },
    tick(now) {
      const changed: string[] = [];
      const toSave: string[] = [];
      const rebirths: string[] = [];
      for (const [deviceId, session] of sessions) {
        if (session.state === 'online' && now - Math.max(session.lastSeenAt, session.quietUntil) >= SILENCE_MS) {
          session.state = 'suspect';
          session.suspectSince = now;
          changed.push(deviceId);
        } else if (session.state === 'suspect' && now - session.suspectSince >= GRACE_MS) {
          session.state = 'offline';
          changed.push(deviceId);
        }
        const lacksBirth = unborn.has(deviceId) || session.sequence.hasGap(now);
        if (session.sid !== null && lacksBirth && now - session.rebirthAt >= REBIRTH_EVERY_MS) {
          session.rebirthAt = now;
          rebirths.push(deviceId);
        }
        if (changed.at(-1) === deviceId || (session.lastSeenAt > session.savedAt && now - session.savedAt >= SAVE_EVERY_MS)) {
          session.savedAt = now;
          toSave.push(deviceId);
        }
      }
      return { changed, toSave, rebirths };
    },
  };
}
