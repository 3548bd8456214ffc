// What the fleet itself costs: from the bell to the acknowledged result of a job that does nothing, over loopback. Controller with broker and
// durable database in one process, the device in another, as in real use; the device speaks the protocol and measures nothing.
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { openBus } from '../../shared/bus.ts';
import { systemClock } from '../../shared/clock.ts';
import { DEFAULT_PLAN } from '../../shared/measurement.ts';
import { openBlobStore } from '../../shared/node/blob-store.ts';
import type { DownMessage } from '../../shared/protocol.ts';
import { enrolAddress, type Address } from '../../shared/topics.ts';
import { deviceInfo } from '../helpers/devices.ts';
import { seededBytes, storeModel } from '../helpers/fleet-models.ts';
import { startControllerProcess } from '../helpers/fleet-processes.ts';
import { measurementOf } from '../helpers/measurements.ts';

const TRIPS = 200;
const WARM_UP = 20;
/** Between trips: the broker slows a device down that says more than 20 things a second. */
const IDLE_MS = 160;
const backoff = { baseMs: 50, capMs: 500 };
const effects = { clock: systemClock, random: Math.random };
const ignore = { onDown: () => undefined, onFrame: () => undefined, onTrouble: (message: string) => console.error(message) };

const dir = mkdtempSync(join(tmpdir(), 'ofa-round-trip-'));
const model = await storeModel(openBlobStore(join(dir, 'blobs')), 1);
const controller = await startControllerProcess(dir, 0);
const [claim, secret] = (await controller.call('createToken', { name: null, lifetimeMs: 60_000 })).split('.') as [string, string];
const password = Buffer.from(seededBytes(1, 32)).toString('hex');
const base = { url: controller.brokerUrl, bootId: 'bench', backoff };

const address = await new Promise<Address>((resolve) => {
  const bus = openBus(
    { ...base, address: enrolAddress(claim), password: secret, birth: null },
    {
      ...ignore,
      onUp: () => void bus.send('enrol', { name: null, info: deviceInfo('bench'), password }),
      onMessage({ t, p }) {
        if (t !== 'enrol' || !p.ok) return;
        void bus.close('done').then(() => resolve({ fleet: p.fleet, shard: p.shard, device: p.deviceId }));
      },
    },
    effects,
  );
});

const waiting = new Map<string, (message: DownMessage) => void>();
const next = <T extends DownMessage['t']>(t: T) =>
  new Promise<Extract<DownMessage, { t: T }>>((resolve) => waiting.set(t, (message) => resolve(message as Extract<DownMessage, { t: T }>)));
const up = Promise.withResolvers<undefined>();
const bus = openBus(
  { ...base, address, password, birth: { agentVersion: 'bench', capabilities: [] } },
  { ...ignore, onUp: () => up.resolve(undefined), onMessage: (message) => waiting.get(message.t)?.(message) },
  effects,
);
await up.promise;
const welcome = next('welcome');
await bus.send('hello', { info: deviceInfo('bench'), held: [], rev: 0, outboxRows: 0, outboxOldestMs: null, freeDiskBytes: null });
await welcome;

const outcome = { ok: true, value: measurementOf(1) } as const;
const tripsMs: number[] = [];
for (let i = 0; i < TRIPS + WARM_UP; i++) {
  await systemClock.sleep(IDLE_MS);
  const bell = next('bell');
  void controller.call('enqueue', { key: String(i), deviceClass: 'bench', manifestSha256: model.manifestSha256, plan: DEFAULT_PLAN });
  await bell;
  const began = performance.now();
  const granted = next('job-grant');
  void bus.send('job-next', { max: 1 });
  const { p } = await granted;
  if (p.none) throw new Error('no job was granted after the bell');
  const { jobId, attempt } = p.grant;
  const accepted = next('job-ack');
  void bus.send('job-update', { phase: 'accepted', jobId, attempt });
  await accepted;
  const acknowledged = next('job-ack');
  void bus.send('job-update', { phase: 'result', jobId, attempt, outcome });
  await acknowledged;
  if (i >= WARM_UP) tripsMs.push(performance.now() - began);
}
await bus.close('done');
await controller.kill();
rmSync(dir, { recursive: true, force: true });

const sorted = [...tripsMs].sort((a, b) => a - b);
const quantile = (q: number) => (sorted[Math.min(sorted.length - 1, Math.floor(q * sorted.length))] as number).toFixed(2);
console.log(
  `no-op job over loopback, bell -> job-next -> grant -> accepted -> ack -> result -> ack, three durable commits, ${TRIPS} trips, ${IDLE_MS} ms idle between them:`,
);
console.log(`median ${quantile(0.5)} ms, p90 ${quantile(0.9)} ms, p99 ${quantile(0.99)} ms, longest ${quantile(1)} ms`);
