// The fleet put together: broker, wire, dispatcher, presence, blocks, deployments, inferences. Messages of one device are taken one after
// another; what is acknowledged is committed before.
import { manifestSchema, type BlobRef } from '@ofa-fleet/shared/artifact.ts';
import { systemClock, type Clock } from '@ofa-fleet/shared/clock.ts';
import { deviceClass, deviceInfoSchema } from '@ofa-fleet/shared/device.ts';
import { randomSecret, UUID_PATTERN, uuidV7 } from '@ofa-fleet/shared/ids.ts';
import type { BlobStore } from '@ofa-fleet/shared/node/blob-store.ts';
import { sha256Hex } from '@ofa-fleet/shared/node/hash.ts';
import { ok, type Outcome } from '@ofa-fleet/shared/outcome.ts';
import type { UpMessage } from '@ofa-fleet/shared/protocol.ts';
import { ENROL_FLEET, parseTopic, type Address, type Topic } from '@ofa-fleet/shared/topics.ts';
import { z } from 'zod';
import type { Db } from '../store/database.ts';
import { insertDeadLetter } from '../store/dead-letters.ts';
import { insertEnergyReport, listReported } from '../store/deployments.ts';
import { findDevice, listDevices, listPresence, savePresence, updateDeviceInfo } from '../store/devices.ts';
import { insertManifestOnce } from '../store/manifests.ts';
import { createBlockServer } from './block-server.ts';
import { startBroker, type Broker } from './broker.ts';
import { createDeployments } from './deployments.ts';
import { createDispatcher } from './dispatcher.ts';
import { createToken, enrol } from './enrolment.ts';
import type { Fleet, FleetDevice, JobEnd } from './fleet.ts';
import { createInference } from './inference.ts';
import { DEFAULT_LIMITS, type DispatchLimits, type Effects } from './job-steps.ts';
import { createPresence } from './presence.ts';
import { createBucket } from './rate-limit.ts';
import { openWire, type Wire } from './wire.ts';

const TICK_MS = 1000;
const HEARTBEAT_MS = 15_000;
const STALE_MS = 30 * 86_400_000;
/** Hellos taken a second; the others ask again. */
const HELLO_RATE = 200;
/** Invalid messages of one device in a minute, above which it is disconnected. */
const MAX_INVALID = 100;
/** Devices rung at once come one after another. */
const BELL_SPREAD_MS = 10;
const READY_LIMIT_MS = 10_000;

export interface FleetSettings {
  readonly db: Db;
  readonly blobs: BlobStore;
  readonly host: string;
  /** 0: any free port. */
  readonly port: number;
  readonly clock?: Clock;
  readonly random?: () => number;
  readonly limits?: DispatchLimits;
  readonly viewerPassword?: string | null;
  /** One line about something refused or broken. */
  readonly log?: (line: string) => void;
}

interface Known {
  readonly address: Address;
  deviceClass: string;
}

/** Serves until `close`; the database and the blobs stay the caller's. PORT_IN_USE or INVALID_INPUT where the broker cannot listen. */
export async function startFleet(settings: FleetSettings): Promise<Outcome<Fleet>> {
  const { db, blobs, host, clock = systemClock, random = Math.random, limits = DEFAULT_LIMITS, log = () => undefined } = settings;
  const [startWall, startMono] = [clock.wallMs(), clock.monotonicMs()];
  /** Wall time that does not jump while this process lives: a clock set anew must not end a lease. */
  const now = () => Math.round(startWall + clock.monotonicMs() - startMono);

  const controllerPassword = randomSecret();
  const started = await startBroker({
    db,
    host,
    port: settings.port,
    clock,
    controllerPassword,
    viewerPassword: settings.viewerPassword ?? null,
    onRefused: (clientId, message) => log(`refused ${clientId}: ${message}`),
  });
  if (!started.ok) return started;
  const broker: Broker = started.value;

  const dispatcher = await createDispatcher(db, now(), limits);
  const presence = createPresence();
  const blocks = createBlockServer(db, blobs);
  const deployments = createDeployments(db, now);
  const known = new Map<string, Known>();
  const endListeners = new Set<(end: JobEnd) => void>();
  const deviceListeners = new Set<() => void>();
  const hellos = createBucket(HELLO_RATE, HELLO_RATE);
  const invalid = new Map<string, number>();
  /** Last step of each device's queue. */
  const queues = new Map<string, Promise<void>>();

  const inference = createInference(async (deviceId, frame) => {
    const device = await knownDevice(deviceId);
    const isUp = presence.get(deviceId)?.sid != null;
    return device !== null && isUp && wire.sendFrame(device.address, 'infer', frame);
  }, random);

  const wire: Wire = openWire(
    { url: `mqtt://${hostInUrl(host)}:${broker.port}`, password: controllerPassword, clock, random },
    {
      onMessage: (topic, message) => inOrder(topic.device, () => take(topic, message)),
      onInvalid: (topic, bytes, reason) => inOrder(parseTopic(topic)?.device ?? '', () => refuse(topic, bytes, reason)),
      onTrouble: log,
    },
  );

  function inOrder(deviceId: string, step: () => Promise<void>): void {
    const last = queues.get(deviceId) ?? Promise.resolve();
    const next = last.then(step).catch((error: unknown) => log(`a message of ${deviceId} was not taken: ${String(error)}`));
    queues.set(deviceId, next);
    void next.then(() => {
      if (queues.get(deviceId) === next) queues.delete(deviceId);
    });
  }

  async function knownDevice(deviceId: string): Promise<Known | null> {
    const cached = known.get(deviceId);
    if (cached !== undefined) return cached;
    const row = await findDevice(db, deviceId);
    if (row === null) return null;
    const device: Known = { address: { fleet: row.fleet, shard: row.shard, device: deviceId }, deviceClass: row.device_class };
    known.set(deviceId, device);
    return device;
  }

  async function refuse(topic: string, bytes: Uint8Array, reason: string): Promise<void> {
    const parsed = parseTopic(topic);
    if (parsed === null || parsed.fleet === ENROL_FLEET) return;
    const { device } = parsed;
    const count = (invalid.get(device) ?? 0) + 1;
    invalid.set(device, count);
    if (count > MAX_INVALID) {
      log(`${device} sent more than ${MAX_INVALID} invalid messages in a minute and is disconnected`);
      broker.disconnect(device);
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
    await wire.send(address, sid, 'job-ack', { ackOf: id, jobId: p.jobId, attempt: p.attempt, verdict: 'malformed', version: 0 }, id);
  }

  async function take(topic: Topic, message: UpMessage): Promise<void> {
    if (topic.fleet === ENROL_FLEET) {
      if (message.t !== 'enrol') return;
      const answer = await enrol(db, topic.device, message.p, now());
      await wire.send(topic, message.sid, 'enrol', answer, message.id);
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
        if (hellos.take(now()) > 0) return;
        device.deviceClass = deviceClass(message.p.info);
        await updateDeviceInfo(db, deviceId, device.deviceClass, message.p.info);
        const welcome = {
          held: await dispatcher.review(deviceId, message.p.held),
          desired: await deployments.desired(deviceId),
          serverTimeMs: clock.wallMs(),
          heartbeatMs: HEARTBEAT_MS,
        };
        await wire.send(address, message.sid, 'welcome', welcome, message.id);
        notifyDevices();
        return;
      }
      case 'hb':
        await dispatcher.renew(deviceId, message.p.renewals, now());
        return;
      case 'job-next': {
        const grant = await dispatcher.next(asker, now());
        if (!grant.none) blocks.forget(deviceId);
        await wire.send(address, message.sid, 'job-grant', grant, message.id);
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
          if (ruling?.verdict === 'stale') await wire.send(address, message.sid, 'job-cancel', { jobId, attempt });
        } else {
          const ack = { ackOf: message.id, jobId, attempt, verdict: ruling?.verdict ?? ('retry' as const), version: ruling?.version ?? 0 };
          await wire.send(address, message.sid, 'job-ack', ack, message.id);
        }
        if (ruling !== null) follow(ruling);
        return;
      }
      case 'art-req': {
        const refusal = await blocks.serve({ ...message.p, deviceId }, (frame) => wire.sendFrame(address, 'art-blk', frame));
        if (refusal !== null) await wire.send(address, message.sid, 'art-ctl', refusal, message.id);
        return;
      }
      case 'reported':
        await deployments.onReported(deviceId, message.p);
        blocks.forget(deviceId);
        notifyDevices();
        return;
      case 'energy': {
        const { runId, rev, manifestSha256, seq, idleJoules, activeJoules, idleMs, activeMs, inferences, sensor, failure } = message.p;
        await insertEnergyReport(db, {
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

  /** What a committed step brings with it. */
  function follow({ ended, cancels, freed }: Effects): void {
    for (const { deviceId, jobId, attempt } of cancels) {
      const device = known.get(deviceId);
      const sid = presence.get(deviceId)?.sid;
      blocks.forget(deviceId);
      if (device !== undefined && sid != null) void wire.send(device.address, sid, 'job-cancel', { jobId, attempt });
    }
    for (const end of ended) for (const listener of [...endListeners]) listener(end);
    for (const freedClass of new Set(freed)) ring(freedClass);
  }

  function ring(freedClass: string): void {
    const present = [...known].filter(([id, device]) => device.deviceClass === freedClass && presence.get(id)?.sid != null);
    for (const [id, { address }] of present) {
      const startDelayMs = Math.floor(random() * BELL_SPREAD_MS * (present.length - 1));
      void wire.send(address, presence.get(id)?.sid as string, 'bell', { startDelayMs });
    }
  }

  function notifyDevices(): void {
    for (const listener of [...deviceListeners]) listener();
  }

  /** Every model that is named to a device is in the table, with the size that the device has to expect. */
  async function register(manifestSha256: string): Promise<BlobRef> {
    const bytes = blobs.get(manifestSha256);
    if (!bytes.ok) throw new Error(`manifest ${manifestSha256}: ${bytes.message}`);
    manifestSchema.parse(JSON.parse(new TextDecoder().decode(bytes.value)));
    const kept = await blobs.put(bytes.value);
    if (!kept.ok) throw new Error(kept.message);
    await insertManifestOnce(db, kept.value, now());
    return kept.value;
  }

  const stop = new AbortController();
  async function tickLoop(): Promise<void> {
    let minute = now();
    while (!stop.signal.aborted) {
      await clock.sleep(TICK_MS, stop.signal);
      if (stop.signal.aborted) return;
      const at = now();
      if (at - minute >= 60_000) {
        minute = at;
        invalid.clear();
      }
      try {
        follow(await dispatcher.tick(at));
        const { changed, toSave, rebirths } = presence.tick(at);
        for (const id of toSave) {
          const session = presence.get(id);
          if (session !== null)
            await savePresence(db, { device_id: id, state: session.state, last_seen_at: session.lastSeenAt, boot_id: session.bootId });
        }
        for (const id of rebirths) {
          const device = known.get(id);
          const sid = presence.get(id)?.sid;
          if (device !== undefined && sid != null)
            void wire.send(device.address, sid, 'rebirth', { reason: 'a message of this session is missing' });
        }
        if (changed.length > 0) notifyDevices();
      } catch (error) {
        log(`a tick failed, the next one tries again: ${String(error)}`);
      }
    }
  }

  await wire.ready(AbortSignal.timeout(READY_LIMIT_MS));
  for (const { device_id } of await listDevices(db)) await knownDevice(device_id);
  broker.admit();
  const ticking = tickLoop();

  const fleet: Fleet = {
    brokerUrl: `mqtt://${hostInUrl(host)}:${broker.port}`,
    createToken: (options) => createToken(db, options, now()),
    async devices() {
      const [rows, saved, reported] = await Promise.all([listDevices(db), listPresence(db), listReported(db)]);
      return rows.map((row): FleetDevice => {
        const lastSeenAt = saved.find(({ device_id }) => device_id === row.device_id)?.last_seen_at ?? row.enrolled_at;
        const report = reported.find(({ device_id }) => device_id === row.device_id);
        const state = presence.get(row.device_id)?.state ?? 'offline';
        return {
          deviceId: row.device_id,
          name: row.name,
          deviceClass: row.device_class,
          info: deviceInfoSchema.parse(JSON.parse(row.info_json)),
          presence: state === 'offline' && now() - lastSeenAt >= STALE_MS ? 'stale' : state,
          activeManifestSha256: report?.active_manifest_sha256 ?? null,
          serveUrl: report?.serve_url ?? null,
        };
      });
    },
    async enqueue({ key, deviceClass: wanted, manifestSha256, plan }) {
      const effects = await dispatcher.enqueue({ key, deviceClass: wanted, manifest: await register(manifestSha256), plan }, now());
      follow(effects);
      return effects.jobId;
    },
    async cancel(jobId) {
      follow(await dispatcher.cancel(jobId, now()));
    },
    jobEnd: (jobId) => dispatcher.end(jobId),
    onJobEnd(listener) {
      endListeners.add(listener);
      return () => endListeners.delete(listener);
    },
    onDevices(listener) {
      deviceListeners.add(listener);
      return () => deviceListeners.delete(listener);
    },
    async deploy(deviceId, manifestSha256, signal) {
      const device = await knownDevice(deviceId);
      if (device === null) throw new Error(`no device ${deviceId} is enrolled`);
      await register(manifestSha256);
      blocks.forget(deviceId);
      return deployments.deploy(
        deviceId,
        manifestSha256,
        (desired) => void wire.send(device.address, presence.get(deviceId)?.sid ?? uuidV7(clock.wallMs()), 'desired', desired),
        signal,
      );
    },
    infer: (deviceId, input, signal) => inference.infer(deviceId, input, signal),
    async close() {
      stop.abort();
      await ticking;
      await wire.close();
      await Promise.allSettled(queues.values());
      await broker.close();
    },
  };
  return ok(fleet);
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

function hostInUrl(host: string): string {
  if (host === '0.0.0.0') return '127.0.0.1';
  return host.includes(':') ? `[${host}]` : host;
}
