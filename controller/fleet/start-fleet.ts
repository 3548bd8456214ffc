// The fleet put together: broker, wire, dispatcher, presence, blocks, deployments, inferences; and the clock that makes things due.
import { manifestSchema, type BlobRef } from '@ofa-fleet/shared/artifact.ts';
import { systemClock, type Clock } from '@ofa-fleet/shared/clock.ts';
import { deviceInfoSchema } from '@ofa-fleet/shared/device.ts';
import { randomSecret, uuidV7 } from '@ofa-fleet/shared/ids.ts';
import type { BlobStore } from '@ofa-fleet/shared/node/blob-store.ts';
import { failed, ok, type Outcome } from '@ofa-fleet/shared/outcome.ts';
import type { Db } from '../store/database.ts';
import { listReported } from '../store/deployments.ts';
import { listHealth } from '../store/device-health.ts';
import { findDevice, listDevices, listPresence, savePresence } from '../store/devices.ts';
import { insertManifestOnce } from '../store/manifests.ts';
import { createBlockServer } from './block-server.ts';
import { startBroker, type Broker } from './broker.ts';
import { createDeployments } from './deployments.ts';
import { createDispatcher } from './dispatcher.ts';
import { createToken } from './enrolment.ts';
import type { Fleet, FleetDevice, JobEnd } from './fleet.ts';
import { createInference } from './inference.ts';
import { createIntake, type Known } from './intake.ts';
import { DEFAULT_LIMITS, type DispatchLimits, type Effects } from './job-steps.ts';
import { createPresence } from './presence.ts';
import { openWire, type Wire } from './wire.ts';

const TICK_MS = 1000;
const STALE_MS = 30 * 86_400_000;
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

/**
 * Serves until `close`; the database and the blobs stay the caller's. PORT_IN_USE or INVALID_INPUT where the broker cannot listen, UNREACHABLE
 * where it does not answer.
 */
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
  const brokerUrl = `mqtt://${hostInUrl(host)}:${broker.port}`;

  const dispatcher = await createDispatcher(db, now(), limits);
  const presence = createPresence();
  const blocks = createBlockServer(db, blobs);
  const deployments = createDeployments(db, now, (deviceId) => blocks.forget(deviceId));
  const known = new Map<string, Known>();
  const endListeners = new Set<(end: JobEnd) => void>();
  const deviceListeners = new Set<() => void>();

  const inference = createInference(async (deviceId, frame) => {
    const device = await knownDevice(deviceId);
    const isUp = presence.get(deviceId)?.sid != null;
    return device !== null && isUp && wire.sendFrame(device.address, 'infer', frame);
  }, random);

  const intake = createIntake({
    db,
    clock,
    now,
    wire: () => wire,
    dispatcher,
    presence,
    blocks,
    deployments,
    inference,
    knownDevice,
    disconnect: (deviceId) => broker.disconnect(deviceId),
    notifyDevices,
    follow,
    log,
  });
  const wire: Wire = openWire(
    { url: brokerUrl, password: controllerPassword, clock, random },
    {
      onMessage: (topic, message) => intake.onMessage(topic, message),
      onInvalid: (topic, bytes, reason) => intake.onInvalid(topic, bytes, reason),
      onTrouble: log,
    },
  );

  async function knownDevice(deviceId: string): Promise<Known | null> {
    const cached = known.get(deviceId);
    if (cached !== undefined) return cached;
    const row = await findDevice(db, deviceId);
    if (row === null) return null;
    const device: Known = { address: { fleet: row.fleet, shard: row.shard, device: deviceId }, deviceClass: row.device_class };
    known.set(deviceId, device);
    return device;
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
        intake.forgive();
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

  if (!(await wire.ready(AbortSignal.timeout(READY_LIMIT_MS)))) {
    await wire.close();
    await broker.close();
    return failed(
      'UNREACHABLE',
      `the controller could not reach its own broker at ${brokerUrl} within ${READY_LIMIT_MS / 1000} s; look at what stands in the way there (a firewall, a machine under heavy load), or choose another host`,
    );
  }
  for (const { device_id } of await listDevices(db)) await knownDevice(device_id);
  broker.admit();
  const ticking = tickLoop();

  const fleet: Fleet = {
    brokerUrl,
    createToken: (options) => createToken(db, options, now()),
    async devices() {
      const [rows, saved, reported, health] = await Promise.all([listDevices(db), listPresence(db), listReported(db), listHealth(db)]);
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
          quarantine: health.get(row.device_id)?.quarantine?.message ?? null,
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
      await intake.idle();
      await broker.close();
    },
  };
  return ok(fleet);
}

function hostInUrl(host: string): string {
  if (host === '0.0.0.0') return '127.0.0.1';
  return host.includes(':') ? `[${host}]` : host;
}
