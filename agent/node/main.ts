// `ofa-agent join` put together: identity, database, models, slots, measurer and the core, until a signal, or the parent, ends it.
import { statfs } from 'node:fs/promises';
import { join } from 'node:path';
import { openBus } from '@ofa-fleet/shared/bus.ts';
import { systemClock, within } from '@ofa-fleet/shared/clock.ts';
import type { DeviceInfo } from '@ofa-fleet/shared/device.ts';
import { uuidV7 } from '@ofa-fleet/shared/ids.ts';
import { openBlobStore } from '@ofa-fleet/shared/node/blob-store.ts';
import { acquireHostLock } from '@ofa-fleet/shared/node/host-lock.ts';
import type { Failure, Outcome } from '@ofa-fleet/shared/outcome.ts';
import { createAgent, type Agent } from '../agent.ts';
import { createEnergyAccount } from '../energy-account.ts';
import { createGates } from '../gates.ts';
import type { Measurer } from '../ports.ts';
import { createSlots } from '../slots.ts';
import { enrol, type Enrolled, type EnrolHost } from './enrol.ts';
import { readDeviceState } from './gates.ts';
import { HOST_ROOTS } from './host-files.ts';
import { readInventory } from './inventory.ts';
import { openJouleCounter } from './joule-counter.ts';
import { AGENT_VERSION, readMachine } from './machine.ts';
import { createMeasurer } from './measure-process.ts';
import { meterHost } from './meters/discover.ts';
import { createOutbox, openAgentDatabase } from './outbox.ts';
import { startModelServer, type NodeModelServer } from './serve.ts';
import { checkSettings, type AgentSettings, type CheckedSettings } from './settings.ts';
import { createSlotStore } from './slot-store.ts';
import { openStateDir, type StateDir } from './state-dir.ts';
import { readTemperatureC } from './temperature.ts';

/** How long a new model must answer before it is kept. */
const PROBATION_MS = 3000;
/** Stopping takes no longer, whatever hangs. */
const STOP_LIMIT_MS = 4500;
const SERVER_CLOSE_MS = 500;
const ENERGY_TICK_MS = 1000;
/** After inferences; otherwise. */
const ENERGY_NEWS_MS = 2000;
const ENERGY_REPORT_MS = 60_000;
const USAGE = 2;
const FAILED = 1;

/** What `join` makes of this machine; tests put real small stand-ins in its place. */
export interface AgentParts {
  readonly readInfo: (settings: AgentSettings) => Promise<Outcome<DeviceInfo>>;
  readonly createMeasurer: (settings: AgentSettings) => Measurer;
  readonly startServer: (settings: AgentSettings) => Promise<Outcome<NodeModelServer>>;
}

const REAL_PARTS: AgentParts = {
  readInfo: ({ runtime, deviceClass, plugs }) => readInventory({ runtime, deviceClass, plugs: plugs ?? [] }),
  // without calibrations: holding a plug against the own sensor takes minutes a model
  createMeasurer: ({ runtime, plugs }) => createMeasurer({ runtime, plugs: plugs ?? [] }),
  startServer: ({ runtime }) => startModelServer({ runtime, intraOpThreads: 1, host: '127.0.0.1', port: 0 }),
};

/** Works for the fleet until stopped. Exit code: 0 stopped, 1 failed (said in one sentence on stderr), 2 wrong use. */
export async function runAgent(settings: AgentSettings, parts: AgentParts = REAL_PARTS): Promise<number> {
  const checked = checkSettings(settings);
  if (!checked.ok) return tell(checked, USAGE);
  const state = openStateDir(settings.stateDir);
  if (!state.ok) return tell(state, FAILED);
  const stop = new AbortController();
  const unbind = bindStop(stop, settings.withParent);
  try {
    return await work(checked.value, state.value, parts, stop.signal);
  } finally {
    unbind();
    state.value.unlock();
  }
}

async function work(settings: CheckedSettings, state: StateDir, parts: AgentParts, signal: AbortSignal): Promise<number> {
  // asking a machine what it is starts processes, which others' measurements would see
  const info = await inTurn(settings.hostLockPath, signal, () => parts.readInfo(settings));
  if (info === null) return 0;
  if (!info.ok) return tell(info, FAILED);
  const identity = await findIdentity(settings, state, info.value, signal);
  if (!identity.ok) return signal.aborted ? 0 : tell(identity, FAILED);
  const db = openAgentDatabase(state.path('agent.db'));
  if (!db.ok) return tell(db, FAILED);
  const server = await parts.startServer(settings);
  if (!server.ok) return tell(server, FAILED);

  const { device, password } = identity.value;
  const models = openBlobStore(state.path('blobs'));
  let onSlots = (): void => undefined;
  const store = createSlotStore(db.value, device.deviceId);
  const slots = createSlots({
    store,
    server: server.value,
    clock: systemClock,
    sourceOf: ({ manifestSha256, manifest }) => ({ kind: 'blobs', manifestSha256, manifest, blobsDir: models.dir }),
    probationMs: PROBATION_MS,
    onChange: () => onSlots(),
  });
  // before the agent connects, since it says in its first message what it serves
  if (store.read().current !== null) await inTurn(settings.hostLockPath, signal, () => slots.boot());
  else await slots.boot();
  const refusal = new AbortController();
  const crash = new AbortController();
  void server.value.crashed.then((failure) => crash.abort(failure));
  let wasUp = false;
  const agent: Agent = createAgent({
    connect: (events) =>
      openBus(
        {
          url: settings.url,
          address: { fleet: device.fleet, shard: device.shard, device: device.deviceId },
          password,
          bootId: readBootId(),
          birth: { agentVersion: AGENT_VERSION, capabilities: [] },
          backoff: settings.backoff,
        },
        {
          ...events,
          onUp() {
            wasUp = true;
            log(`connected to ${settings.url} as ${device.deviceId}`);
            events.onUp();
          },
        },
        { clock: systemClock, random: Math.random },
      ),
    info: info.value,
    clock: systemClock,
    random: Math.random,
    outbox: createOutbox(db.value, Date.now, log),
    models,
    disk: async () => {
      const { bavail, bsize, blocks } = await statfs(settings.stateDir);
      return { freeBytes: bavail * bsize, totalBytes: blocks * bsize };
    },
    measurer: parts.createMeasurer(settings),
    turns: { acquire: (turnSignal) => acquireHostLock({ path: settings.hostLockPath, signal: turnSignal }) },
    slots,
    bindSlots: (onChange) => (onSlots = onChange),
    serveUrl: server.value.url,
    infer: (input) => server.value.infer(input),
    gates: createGates({
      clock: systemClock,
      maxTemperatureC: settings.maxTemperatureC,
      // what started this agent shares the machine with it, and is its load of others
      waitsForOthers: !settings.withParent,
      read: () => readDeviceState(HOST_ROOTS),
      readTemperatureC: () => readTemperatureC(HOST_ROOTS.sysfsRoot),
    }),
    log,
    onDown(down) {
      // credentials that worked before may work again (the controller restores its database); new ones that do not are wrong
      if (down.refused && !wasUp) refusal.abort();
      else log(offline(settings.url, down.message, down.nextAttemptMs));
    },
  });
  const end = AbortSignal.any([signal, refusal.signal, crash.signal]);
  const running = Promise.all([agent.run(end), accountEnergy(agent, server.value, settings, end)]);
  await Promise.race([running, stopLimit(end)]);
  await within(systemClock, SERVER_CLOSE_MS, server.value.close());
  db.value.close();
  if (crash.signal.aborted) return tell(crash.signal.reason as Failure, FAILED);
  if (!refusal.signal.aborted) return 0;
  const next = `remove ${join(settings.stateDir, 'identity.json')} and join with a new token`;
  return tell(
    {
      ok: false,
      reason: 'NOT_AUTHORISED',
      message: `the broker at ${settings.url} refuses the stored credentials of ${device.deviceId}; ${next}`,
    },
    FAILED,
  );
}

/** What `work` gives while nobody measures on this host; null where the agent was stopped while it waited. */
async function inTurn<T>(path: string, signal: AbortSignal, work: () => Promise<T>): Promise<T | null> {
  const lock = await acquireHostLock({ path, signal }).catch((error: unknown) => {
    if (signal.aborted) return null;
    throw error;
  });
  if (lock === null) return null;
  try {
    return await work();
  } finally {
    lock.release();
  }
}

/** Reads the sensor each second, but never during a measurement, and reports when inferences were answered, else now and then. */
async function accountEnergy(agent: Agent, server: NodeModelServer, { plugs }: CheckedSettings, signal: AbortSignal): Promise<void> {
  const counter = openJouleCounter(meterHost(HOST_ROOTS.sysfsRoot, plugs), systemClock);
  const account = createEnergyAccount(counter, uuidV7(Date.now()), systemClock);
  let measured = false;
  let reportedAt = -Infinity;
  while (!signal.aborted) {
    await systemClock.sleep(ENERGY_TICK_MS, signal);
    if (agent.isQuiet()) {
      measured = true;
      continue;
    }
    account.tick({ ...agent.deployed(), inferences: server.inferences() }, measured);
    measured = false;
    const age = systemClock.monotonicMs() - reportedAt;
    if (age < (account.hasNews() ? ENERGY_NEWS_MS : ENERGY_REPORT_MS)) continue;
    const report = account.report();
    if (report !== null && (await agent.send('energy', report))) reportedAt = systemClock.monotonicMs();
  }
}

/** Stored credentials go on; a token is used only where there are none, or where it is for another controller. */
async function findIdentity(settings: CheckedSettings, state: StateDir, info: DeviceInfo, signal: AbortSignal): Promise<Outcome<Enrolled>> {
  const stored = state.readIdentity('identity.json');
  if (!stored.ok) return stored;
  const device = stored.value?.device ?? null;
  if (stored.value !== null && device !== null && stored.value.claimId === settings.claim.claimId) {
    return { ok: true, value: { ...stored.value, device } };
  }
  const host: EnrolHost = {
    state,
    info,
    bootId: readBootId(),
    clock: systemClock,
    random: Math.random,
    onDown: (message, nextAttemptMs) => log(offline(settings.url, message, nextAttemptMs)),
  };
  return enrol(settings, host, signal);
}

/** SIGINT and SIGTERM; with a parent also its end, seen as the end of the channel or of stdin. */
function bindStop(stop: AbortController, withParent: boolean): () => void {
  const end = () => stop.abort();
  process.once('SIGINT', end);
  process.once('SIGTERM', end);
  if (withParent) {
    if (process.channel !== undefined) process.once('disconnect', end);
    else process.stdin.once('end', end).once('close', end).once('error', end).resume();
  }
  return () => {
    process.removeListener('SIGINT', end);
    process.removeListener('SIGTERM', end);
    process.removeListener('disconnect', end);
    if (withParent && process.channel === undefined) process.stdin.destroy();
  };
}

function stopLimit(signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    const begin = () => setTimeout(resolve, STOP_LIMIT_MS).unref();
    if (signal.aborted) begin();
    else signal.addEventListener('abort', begin, { once: true });
  });
}

function readBootId(): string {
  return readMachine(HOST_ROOTS.procRoot).bootId.slice(0, 64);
}

function offline(url: string, message: string, nextAttemptMs: number): string {
  return `no connection to ${url} (${message}); trying again in ${(nextAttemptMs / 1000).toFixed(1)} s`;
}

function log(line: string): void {
  process.stderr.write(`ofa-agent: ${line}\n`);
}

function tell({ message }: Failure, code: number): number {
  process.stderr.write(`ofa-agent: ${message}\n`);
  return code;
}
