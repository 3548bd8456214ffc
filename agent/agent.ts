// The agent's core: says who it is, takes one job at a time, measures, reports; serves what is deployed to it. Imports nothing from Node.
//
// Invariants: work is asked for only with the host's turn in hand, so no lease runs while others measure; a job runs only after its acceptance
// is committed; a result is committed before it is sent and kept until the controller says that it has committed it too.
import type { Bus, BusEvents } from '@ofa-fleet/shared/bus.ts';
import type { Clock } from '@ofa-fleet/shared/clock.ts';
import type { DeviceInfo } from '@ofa-fleet/shared/device.ts';
import type { LinkDown } from '@ofa-fleet/shared/mqtt-link.ts';
import { backoffMs } from '@ofa-fleet/shared/mqtt-link.ts';
import { failed, type Failure, type Outcome } from '@ofa-fleet/shared/outcome.ts';
import type { DownMessage, DownPayload, Held, UpKind, UpPayload } from '@ofa-fleet/shared/protocol.ts';
import { createDelivery } from './delivery.ts';
import { createDeployment } from './deployment.ts';
import type { Gates } from './gates.ts';
import { answerInference } from './inference.ts';
import { runJob, type JobHost, type StopReason } from './job-run.ts';
import type { BlobShelf, DiskSpace, Inference, Measurer, Outbox, TurnLock } from './ports.ts';
import type { Slots } from './slots.ts';
import { createTransfer, diskShortage } from './transfer.ts';
import { createWake } from './wake.ts';

export interface AgentHost {
  readonly connect: (events: BusEvents) => Bus;
  readonly info: DeviceInfo;
  readonly clock: Clock;
  readonly random: () => number;
  readonly outbox: Outbox;
  readonly models: BlobShelf;
  readonly disk: () => Promise<DiskSpace | null>;
  readonly measurer: Measurer;
  readonly turns: TurnLock;
  /** `onChange` of the slots must reach the agent: call it through `bindSlots`. */
  readonly slots: Slots;
  readonly bindSlots: (onChange: () => void) => void;
  readonly serveUrl: string | null;
  readonly infer: (input: Float32Array) => Promise<Outcome<Inference>>;
  /** No job is asked for while one of them is shut. */
  readonly gates: Gates;
  /** One line for whoever watches; held back during timed sections. */
  readonly log: (line: string) => void;
  /** The connection ended or could not be made. */
  readonly onDown: (down: LinkDown) => void;
}

export interface Agent {
  /** Until the signal aborts; then says goodbye within about 3 s. */
  run(signal: AbortSignal): Promise<void>;
  /** Sends where it can; for what may be lost (cumulative counters). */
  send<K extends UpKind>(kind: K, payload: UpPayload<K>): Promise<boolean>;
  isQuiet(): boolean;
  /** Revision and model served now. */
  deployed(): { readonly rev: number; readonly manifestSha256: string | null };
}

const ANSWER_MS = 10_000;
const HELLO_BACKOFF = { baseMs: 10_000, capMs: 300_000 };
const NOT_READY_MS = 15_000;
const GOODBYE_MS = 2000;
const FOREVER_MS = 2 ** 31 - 1;

export function createAgent(host: AgentHost): Agent {
  const { clock, random, outbox, log } = host;
  const born = clock.monotonicMs();
  const work = createWake(clock);
  const sessions = createWake(clock);
  const answers = new Map<string, (message: DownMessage | null) => void>();
  /** True between a welcome and the end of its session. */
  let welcomed = false;
  let heartbeatMs = 15_000;
  let quiet = false;
  const heldBack: string[] = [];
  let notReady: Failure | null = null;
  let current: { readonly jobId: string; readonly attempt: number; readonly stop: AbortController; accepted: boolean } | null = null;

  const bus = host.connect({
    onUp() {
      sessions.ring();
    },
    onDown(down) {
      welcomed = false;
      for (const settle of answers.values()) settle(null);
      host.onDown(down);
    },
    onMessage: (message) => void onMessage(message).catch((error: unknown) => say(`a ${message.t} was not taken: ${String(error)}`)),
    onFrame: (kind, frame) => {
      if (kind === 'art-blk') transfer.onFrame(frame);
      else
        void answerInference(frame, host.infer, host.serveUrl)
          .then((answer) => trySend('inferred', answer))
          .catch((error: unknown) => say(`an inference was not answered: ${String(error)}`));
    },
    onTrouble: say,
  });
  const delivery = createDelivery({
    outbox,
    clock,
    random,
    send: async ({ id, update }) => welcomed && (await bus.send('job-update', update, { id })) !== null,
  });
  const transfer = createTransfer({
    models: host.models,
    disk: host.disk,
    clock,
    send: (request) => trySend('art-req', request),
  });
  const deployment = createDeployment({
    slots: host.slots,
    transfer,
    serveUrl: host.serveUrl,
    report: (reported) => void trySend('reported', reported),
    clock,
    onRetry: () => work.ring(),
  });
  host.bindSlots(() => deployment.onSlots());

  function say(line: string): void {
    if (quiet) heldBack.push(line);
    else log(line);
  }

  /** For what is not kept: true where the broker took it; what cannot be sent is told, never thrown. */
  async function trySend<K extends UpKind>(kind: K, payload: UpPayload<K>): Promise<boolean> {
    try {
      return (await bus.send(kind, payload)) !== null;
    } catch (error) {
      say(`a ${kind} was not sent: ${String(error)}`);
      return false;
    }
  }

  function setQuiet(on: boolean): void {
    quiet = on;
    if (!on) for (const line of heldBack.splice(0)) log(line);
  }

  const jobHost: JobHost = {
    outbox: {
      ...outbox,
      async accept(row) {
        await outbox.accept(row);
        if (current !== null) current.accepted = true;
      },
    },
    delivery,
    transfer,
    models: host.models,
    measurer: {
      async measure(source, plan, signal) {
        const outcome = await host.measurer.measure(source, plan, signal);
        host.gates.sawForeignLoad(outcome.ok ? outcome.value.provenance.conditions.foreignCpuShare : null);
        return outcome;
      },
    },
    gates: host.gates,
    clock,
    newId: () => bus.newId(),
    tell: (update) => trySend('job-update', update),
    setQuiet,
  };

  /** Sends a question; its answer, or null where none came in time or the connection ended. */
  async function ask<K extends UpKind>(kind: K, payload: UpPayload<K>, signal: AbortSignal): Promise<DownMessage | null> {
    const id = bus.newId();
    const done = new AbortController();
    let answer: DownMessage | null = null;
    answers.set(id, (message) => {
      answer = message;
      done.abort();
    });
    try {
      if ((await bus.send(kind, payload, { id })) !== null) await clock.sleep(ANSWER_MS, AbortSignal.any([signal, done.signal]));
      return answer;
    } finally {
      answers.delete(id);
    }
  }

  async function onMessage(message: DownMessage): Promise<void> {
    if (message.corr !== null) answers.get(message.corr)?.(message);
    switch (message.t) {
      case 'bell':
        await clock.sleep(message.p.startDelayMs);
        work.ring();
        return;
      case 'job-ack': {
        const { ackOf, jobId, attempt, verdict } = message.p;
        const row = await delivery.onAck(ackOf, verdict);
        if (verdict === 'stale' && row?.update.phase === 'accepted') stopJob(jobId, attempt, 'dropped');
        if (verdict === 'conflict' || verdict === 'malformed')
          say(`the controller says that the ${row?.update.phase ?? 'answer'} of job ${jobId} is ${verdict}`);
        return;
      }
      case 'job-cancel':
        stopJob(message.p.jobId, message.p.attempt, 'dropped');
        return;
      case 'art-ctl':
        transfer.onControl(message.p);
        return;
      case 'desired':
        deployment.want(message.p);
        work.ring();
        return;
      case 'rebirth':
        bus.rebirth();
        sessions.ring();
        return;
      case 'welcome':
      case 'job-grant':
      case 'enrol':
    }
  }

  function stopJob(jobId: string, attempt: number, why: StopReason): void {
    if (current?.jobId === jobId && current.attempt === attempt) current.stop.abort(why);
  }

  async function sayHello(signal: AbortSignal): Promise<boolean> {
    const fill = await outbox.fill();
    const held: Held[] = (await outbox.held()).map(({ jobId, attempt, phase }) => ({ jobId, attempt, phase }));
    if (current !== null && !current.accepted) held.push({ jobId: current.jobId, attempt: current.attempt, phase: 'granted' });
    const answer = await ask(
      'hello',
      {
        info: host.info,
        held: held.slice(0, 1024),
        rev: deployment.rev(),
        outboxRows: fill.rows,
        outboxOldestMs: fill.oldestAtMs === null ? null : Math.max(0, clock.wallMs() - fill.oldestAtMs),
        freeDiskBytes: (await host.disk())?.freeBytes ?? null,
      },
      signal,
    );
    if (answer?.t !== 'welcome') return false;
    await onWelcome(answer.p);
    return true;
  }

  async function onWelcome(welcome: DownPayload<'welcome'>): Promise<void> {
    for (const { jobId, attempt, action } of welcome.held) {
      if (action !== 'drop') continue;
      if (current?.jobId === jobId) stopJob(jobId, attempt, 'dropped');
      else await outbox.forget(jobId);
    }
    heartbeatMs = welcome.heartbeatMs;
    if (welcome.desired !== null) deployment.want(welcome.desired);
    welcomed = true;
    deployment.reportNow();
    delivery.kick({ again: true });
    work.ring();
  }

  /** Each session begins with a hello, said again until it is answered. */
  async function helloLoop(signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      await sessions.wait(FOREVER_MS, signal);
      for (let failures = 0; bus.isUp() && !signal.aborted && !(await orFullDisk(sayHello(signal), () => false)); failures++) {
        await clock.sleep(backoffMs(HELLO_BACKOFF, failures, random), signal);
      }
    }
  }

  async function heartbeatLoop(signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      await clock.sleep(heartbeatMs, signal);
      if (signal.aborted || quiet || !bus.isUp()) continue;
      await trySend('hb', {
        uptimeMs: clock.monotonicMs() - born,
        temperatureC: host.gates.temperatureC(),
        freeDiskBytes: (await host.disk())?.freeBytes ?? null,
        renewals: (await outbox.held())
          .filter(({ jobId, phase }) => phase === 'running' && jobId === current?.jobId)
          .slice(0, 16)
          .map(({ jobId, attempt }) => ({ jobId, attempt })),
        notReady: notReady === null ? null : { reason: notReady.reason, message: notReady.message },
      });
    }
  }

  async function checkReady(): Promise<Failure | null> {
    if ((await outbox.fill()).isNearlyFull)
      return failed('BUSY', 'more results wait for the controller than may be kept; no new work until it takes them');
    return diskShortage(host.disk, 0);
  }

  /** With the host's turn in hand: a model to deploy first, then a job. Says how long to wait before asking again. */
  async function takeTurn(signal: AbortSignal): Promise<number> {
    // no job runs here: one that is said to was cut off by a disk that was full
    await confessInterrupted();
    while (deployment.isBehind() && !signal.aborted) await deployment.apply(signal);
    const obstacle = await host.gates.check(signal);
    if (signal.aborted) return FOREVER_MS;
    setReady(obstacle);
    if (obstacle !== null) return obstacle.retryAfterMs;
    const answer = await ask('job-next', { max: 1 }, signal);
    if (answer?.t !== 'job-grant') return welcomed ? NOT_READY_MS : FOREVER_MS;
    if (answer.p.none) return answer.p.retryAfterMs;
    const { grant } = answer.p;
    const known = (await outbox.held()).find(({ jobId }) => jobId === grant.jobId);
    if (known !== undefined && known.attempt > grant.attempt) return 0;
    if (known?.attempt === grant.attempt && known.phase === 'done') {
      // its result is on the way: the controller asks for what it has not read yet
      delivery.kick({ again: true });
      await delivery.drained(ANSWER_MS);
      return 0;
    }
    current = { jobId: grant.jobId, attempt: grant.attempt, stop: new AbortController(), accepted: false };
    const { stop } = current;
    const end = () => stop.abort('stopping' satisfies StopReason);
    signal.addEventListener('abort', end);
    if (signal.aborted) end();
    try {
      await runJob(grant, jobHost, stop.signal);
    } finally {
      signal.removeEventListener('abort', end);
      current = null;
    }
    return 0;
  }

  function setReady(obstacle: Failure | null): void {
    if (obstacle !== null && obstacle.reason !== notReady?.reason) say(`no work is taken: ${obstacle.message}`);
    notReady = obstacle;
  }

  async function workLoop(signal: AbortSignal): Promise<void> {
    let waitMs = FOREVER_MS;
    while (!signal.aborted) {
      if (waitMs > 0) await work.wait(waitMs, signal);
      if (signal.aborted) return;
      waitMs = FOREVER_MS;
      if (!welcomed) continue;
      const obstacle = await checkReady();
      if (obstacle !== null) {
        setReady(obstacle);
        waitMs = NOT_READY_MS;
        continue;
      }
      const turn = await host.turns.acquire(signal).catch((error: unknown) => {
        if (signal.aborted) return null;
        throw error;
      });
      if (turn === null) return;
      try {
        waitMs = await orFullDisk(takeTurn(signal), (full) => {
          setReady(full);
          return NOT_READY_MS;
        });
      } finally {
        turn.release();
      }
    }
  }

  /** Jobs that ran when the agent died, or could not write, are not run again behind the controller's back: a half-hot device gives a wrong latency. */
  async function confessInterrupted(): Promise<void> {
    for (const { jobId, attempt, phase } of await outbox.held()) {
      if (phase !== 'running') continue;
      await outbox.finish({ id: bus.newId(), update: { phase: 'interrupted', jobId, attempt } });
      delivery.kick();
    }
  }

  return {
    async run(signal) {
      await confessInterrupted();
      const loops = new AbortController();
      const delivering = delivery.run(loops.signal);
      await Promise.all([helloLoop(signal), heartbeatLoop(signal), workLoop(signal)]);
      if (welcomed) await delivery.drained(GOODBYE_MS);
      loops.abort();
      await delivering;
      await bus.close('stopped');
    },
    send: trySend,
    isQuiet: () => quiet,
    deployed: () => ({ rev: host.slots.state().rev, manifestSha256: host.slots.state().activeManifestSha256 }),
  };
}

/** What `work` comes to; where it failed because the disk is full, what `otherwise` makes of that: space may come back. */
async function orFullDisk<T>(work: Promise<T>, otherwise: (full: Failure) => T): Promise<T> {
  try {
    return await work;
  } catch (error) {
    const code = (error as { readonly code?: unknown }).code;
    if (code !== 'SQLITE_FULL' && code !== 'ENOSPC' && code !== 'EDQUOT') throw error;
    return otherwise(failed('LOW_DISK', `the disk is full (${code}); free some space: work goes on by itself then`));
  }
}
