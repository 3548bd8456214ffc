// What devices say, taken in: each device's messages one after another, what does not fit kept as a dead letter, what asks answered. What is
// acknowledged has been committed before.
import type { Clock } from '@ofa-fleet/shared/clock.ts';
import { deviceClass } from '@ofa-fleet/shared/device.ts';
import { UUID_PATTERN } from '@ofa-fleet/shared/ids.ts';
import { sha256Hex } from '@ofa-fleet/shared/node/hash.ts';
import type { UpMessage } from '@ofa-fleet/shared/protocol.ts';
import { ENROL_FLEET, parseTopic, type Address, type Topic } from '@ofa-fleet/shared/topics.ts';
import { z } from 'zod';
import type { Db } from '../store/database.ts';
import { insertDeadLetter } from '../store/dead-letters.ts';
import { saveEnergyReport } from '../store/deployments.ts';
import { updateDeviceInfo } from '../store/devices.ts';
import type { BlockServer } from './block-server.ts';
import type { Deployments } from './deployments.ts';
import type { Dispatcher } from './dispatcher.ts';
import { enrol } from './enrolment.ts';
import type { Inference } from './inference.ts';
import type { Effects } from './job-steps.ts';
import type { Presence } from './presence.ts';
import { createBucket } from './rate-limit.ts';
import type { Wire, WireEvents } from './wire.ts';

const HEARTBEAT_MS = 15_000;
/** Hellos taken a second; the others ask again. */
const HELLO_RATE = 200;
/** Invalid messages of one device in a minute, above which it is disconnected. */
const MAX_INVALID = 100;
/** Bounded by their own windows, and independent of what the device says otherwise: a block on its way must not hold up a result. */
const UNORDERED: ReadonlySet<string> = new Set(['art-req', 'inferred']);

export interface Known {
  readonly address: Address;
  deviceClass: string;
}

export interface IntakeHost {
  readonly db: Db;
  readonly clock: Clock;
  /** Wall time that does not jump. */
  readonly now: () => number;
  readonly wire: () => Wire;
  readonly dispatcher: Dispatcher;
  readonly presence: Presence;
  readonly blocks: BlockServer;
  readonly deployments: Deployments;
  readonly inference: Inference;
  readonly knownDevice: (deviceId: string) => Promise<Known | null>;
  readonly disconnect: (deviceId: string) => void;
  readonly notifyDevices: () => void;
  /** What a committed step brings with it. */
  readonly follow: (effects: Effects) => void;
  readonly log: (line: string) => void;
}

export interface Intake extends Pick<WireEvents, 'onMessage' | 'onInvalid'> {
  /** A new minute for the counts of invalid messages. */
  forgive(): void;
  /** Everything that has come so far is dealt with. */
  idle(): Promise<void>;
}

export function createIntake(host: IntakeHost): Intake {
  const { db, clock, now, wire, dispatcher, presence, blocks, deployments, inference, knownDevice, notifyDevices, follow, log } = host;
  const hellos = createBucket(HELLO_RATE, HELLO_RATE);
  const invalid = new Map<string, number>();
  /** Last step of each device's queue. */
  const queues = new Map<string, Promise<void>>();

  function inOrder(deviceId: string, step: () => Promise<void>): void {
    const last = queues.get(deviceId) ?? Promise.resolve();
    const next = last.then(step).catch((error: unknown) => log(`a message of ${deviceId} was not taken: ${String(error)}`));
    queues.set(deviceId, next);
    void next.then(() => {
      if (queues.get(deviceId) === next) queues.delete(deviceId);
    });
  }

  async function refuse(topic: string, bytes: Uint8Array, reason: string): Promise<void> {
    const parsed = parseTopic(topic);
    if (parsed === null || parsed.fleet === ENROL_FLEET) return;
    const { device } = parsed;
    const count = (invalid.get(device) ?? 0) + 1;
    invalid.set(device, count);
    if (count > MAX_INVALID) {
      log(`${device} sent more than ${MAX_INVALID} invalid messages in a minute and is disconnected`);
      host.disconnect(device);
      return;
    }
    await insertDeadLetter(db, { at: now(), device_id: device, topic, reason, sha256: sha256Hex(bytes), body: bytes });
    if (parsed.kind === 'job-update') await acknowledgeMalformed(parsed, bytes);
  }

  /** Else the device would send for ever what can never be taken. */
  async function acknowledgeMalformed(address: Address, bytes: Uint8Array): Promise<void> {
    const said = looseUpdate.safeParse(parseLoosely(bytes));
    if (!said.success) return;
    const { id, sid, p } = said.data;
    await wire().send(address, sid, 'job-ack', { ackOf: id, jobId: p.jobId, attempt: p.attempt, verdict: 'malformed', version: 0 }, id);
  }

  async function take(topic: Topic, message: UpMessage): Promise<void> {
    if (topic.fleet === ENROL_FLEET) {
      if (message.t !== 'enrol') return;
      const answer = await enrol(db, topic.device, message.p, now());
      await wire().send(topic, message.sid, 'enrol', answer, message.id);
      if (answer.ok) notifyDevices();
      return;
    }
    const device = await knownDevice(topic.device);
    if (device?.address.fleet !== topic.fleet || device.address.shard !== topic.shard) {
      log(`${topic.device} is no device of ${topic.fleet}/${topic.shard}; its ${topic.kind} is dropped`);
      return;
    }
    if (message.t === 'state' && !message.p.online) {
      if (presence.left(topic.device, message.p.sessionId, message.p.reason !== null, now())) notifyDevices();
      return;
    }
    const heard = {
      deviceId: topic.device,
      sid: message.sid,
      bootId: message.boot,
      seq: message.t === 'hb' ? null : message.seq,
      isBirth: message.t === 'state',
    };
    if (presence.heard(heard, now())) notifyDevices();
    await answer(topic.device, device, message);
  }

  async function answer(deviceId: string, device: Known, message: UpMessage): Promise<void> {
    const { address } = device;
    const asker = { deviceId, deviceClass: device.deviceClass, bootId: message.boot };
    switch (message.t) {
      case 'hello': {
        if (!hellos.tryTake(now())) return;
        device.deviceClass = deviceClass(message.p.info);
        await updateDeviceInfo(db, deviceId, device.deviceClass, message.p.info);
        const welcome = {
          held: await dispatcher.review(deviceId, message.p.held),
          desired: await deployments.desired(deviceId),
          serverTimeMs: clock.wallMs(),
          heartbeatMs: HEARTBEAT_MS,
        };
        await wire().send(address, message.sid, 'welcome', welcome, message.id);
        notifyDevices();
        return;
      }
      case 'hb':
        await dispatcher.renew(deviceId, message.p.renewals, now());
        return;
      case 'job-next': {
        const grant = await dispatcher.next(asker, now());
        if (!grant.none) blocks.forget(deviceId);
        await wire().send(address, message.sid, 'job-grant', grant, message.id);
        return;
      }
      case 'job-update': {
        const { jobId, attempt, phase } = message.p;
        if (phase === 'quiet') presence.quiet(deviceId, now() + message.p.quietMs);
        const ruling = await dispatcher.update(asker, message.p, now()).catch((error: unknown) => {
          log(`the database did not take a ${phase} of job ${jobId}: ${String(error)}`);
          return null;
        });
        blocks.forget(deviceId);
        if (phase === 'fetching' || phase === 'quiet') {
          if (ruling?.verdict === 'stale') await wire().send(address, message.sid, 'job-cancel', { jobId, attempt });
        } else {
          const ack = { ackOf: message.id, jobId, attempt, verdict: ruling?.verdict ?? ('retry' as const), version: ruling?.version ?? 0 };
          await wire().send(address, message.sid, 'job-ack', ack, message.id);
        }
        if (ruling !== null) follow(ruling);
        return;
      }
      case 'art-req': {
        const refusal = await blocks.serve({ ...message.p, deviceId }, (frame) => wire().sendFrame(address, 'art-blk', frame));
        if (refusal !== null) await wire().send(address, message.sid, 'art-ctl', refusal, message.id);
        return;
      }
      case 'reported':
        await deployments.onReported(deviceId, message.p);
        notifyDevices();
        return;
      case 'energy': {
        const { runId, rev, manifestSha256, seq, idleJoules, activeJoules, idleMs, activeMs, inferences, sensor, failure } = message.p;
        await saveEnergyReport(db, {
          device_id: deviceId,
          rev,
          manifest_sha256: manifestSha256,
          boot_id: runId,
          seq,
          idle_joules: idleJoules,
          active_joules: activeJoules,
          idle_ms: idleMs,
          active_ms: activeMs,
          inferences,
          sensor,
          reason: failure?.reason ?? null,
          message: failure?.message ?? null,
          at: now(),
        });
        return;
      }
      case 'inferred':
        inference.onInferred(deviceId, message.p);
        return;
      case 'state':
      case 'enrol':
    }
  }

  return {
    onMessage(topic, message) {
      if (UNORDERED.has(topic.kind))
        void take(topic, message).catch((error: unknown) => log(`${topic.kind} of ${topic.device} was not taken: ${String(error)}`));
      else inOrder(topic.device, () => take(topic, message));
    },
    onInvalid: (topic, bytes, reason) => inOrder(parseTopic(topic)?.device ?? '', () => refuse(topic, bytes, reason)),
    forgive: () => invalid.clear(),
    async idle() {
      await Promise.allSettled(queues.values());
    },
  };
}

const looseUpdate = z.object({
  id: z.string().regex(UUID_PATTERN),
  sid: z.string().regex(UUID_PATTERN),
  p: z.object({ jobId: z.string().regex(UUID_PATTERN), attempt: z.int().min(1) }),
});

function parseLoosely(bytes: Uint8Array): unknown {
  try {
    return JSON.parse(new TextDecoder().decode(bytes));
  } catch {
    return null;
  }
}
