// The deployed model's life on a device: stage -> verify -> activate -> probation -> commit | roll back. What is active is one durable row;
// while it is on probation the last committed model is kept, and a start of the agent in that time falls back to it.
// Invariants: the served model is the row's `current`; `previous` was committed once; a committed model never falls back by itself; a revision
// that was begun and not committed, for whatever reason, is not tried again after a start: it may be what ended the agent.
import { failed, ok, type Failure, type Outcome } from '@ofa-fleet/shared/outcome.ts';
import type { Clock, ModelServer, ModelSource, Slot, SlotStore } from './ports.ts';

export interface SlotsHost {
  readonly store: SlotStore;
  readonly server: ModelServer;
  readonly clock: Clock;
  /** Where a slot's blobs lie. */
  readonly sourceOf: (slot: Slot) => ModelSource;
  /** How long a new model must answer before it is committed. */
  readonly probationMs: number;
  /** Called after each change of state; what it needs is in `state()`. */
  readonly onChange: () => void;
}

type SlotPhase = 'none' | 'verifying' | 'probation' | 'committed' | 'failed';

export interface SlotsState {
  readonly phase: SlotPhase;
  /** Revision that the phase speaks of: the one being deployed, else the active one; 0 where there is none. */
  readonly rev: number;
  /** Null where nothing answers, also where the deployed model does not load. */
  readonly activeManifestSha256: string | null;
  readonly failure: { readonly reason: Failure['reason']; readonly message: string } | null;
}

export interface Slots {
  state(): SlotsState;
  /** Serves what was committed before the agent stopped; an uncommitted model falls back to the one before it. */
  boot(): Promise<Outcome<null>>;
  /** Verifies and activates a model whose blobs are all here; resolves when it is committed, or rolled back and why. Calls queue up. */
  deploy(slot: Slot, signal: AbortSignal): Promise<Outcome<null>>;
}

export function createSlots({ store, server, clock, sourceOf, probationMs, onChange }: SlotsHost): Slots {
  let phase: SlotPhase = 'none';
  let rev = 0;
  let failure: SlotsState['failure'] = null;
  let isServing = false;
  let last: Promise<unknown> = Promise.resolve();

  const enter = (next: SlotPhase, ofRev: number, because: Failure | null = null) => {
    phase = next;
    rev = ofRev;
    failure = because === null ? null : { reason: because.reason, message: because.message };
    onChange();
  };

  /** Loads a slot's model and lets it answer. */
  const serve = async (slot: Slot): Promise<Outcome<null>> => {
    const staged = await server.stage(sourceOf(slot));
    if (staged.ok) await server.activate();
    isServing = staged.ok;
    return staged;
  };

  /** Back to the last committed model, or to none. The row first: a crash in between must find the good one. */
  const rollBack = async (from: Slot, because: Failure): Promise<Failure> => {
    const { previous } = store.read();
    store.write({ current: previous, committed: previous !== null, previous: null, failed: noted(from.rev, because) });
    const restored = previous === null ? null : await serve(previous);
    if (restored?.ok !== true) {
      isServing = false;
      await server.clear();
    }
    const then =
      previous === null
        ? 'no model is served'
        : restored?.ok === true
          ? `serving revision ${previous.rev} again`
          : 'and the model before it does not load any more either';
    const told = failed(because.reason, `Revision ${from.rev} was taken back: ${because.message} Now ${then}.`);
    enter('failed', from.rev, told);
    return told;
  };

  const deploy = async (slot: Slot, signal: AbortSignal): Promise<Outcome<null>> => {
    if (signal.aborted) return failed('CANCELED', `Revision ${slot.rev} was overtaken before it was verified.`);
    const before = store.read();
    store.write({ ...before, failed: noted(slot.rev, failed('CRASHES_AGENT', `The agent ended while it loaded revision ${slot.rev}.`)) });
    enter('verifying', slot.rev);
    const verified = await server.stage(sourceOf(slot));
    if (!verified.ok) {
      store.write({ ...before, failed: noted(slot.rev, verified) });
      enter('failed', slot.rev, verified);
      return verified;
    }
    const interrupted = failed('INTERRUPTED', `The agent ended before revision ${slot.rev} had passed its probation.`);
    const previous = before.committed ? before.current : before.previous;
    store.write({ current: slot, committed: false, previous, failed: noted(slot.rev, interrupted) });
    await server.activate();
    isServing = true;
    enter('probation', slot.rev);
    await clock.sleep(probationMs, signal);
    if (signal.aborted) return failed('CANCELED', `Revision ${slot.rev} was overtaken during its probation.`);
    const healthy = await server.check();
    if (!healthy.ok) return rollBack(slot, healthy);
    store.write({ current: slot, committed: true, previous: null, failed: null });
    enter('committed', slot.rev);
    return ok(null);
  };

  const boot = async (): Promise<Outcome<null>> => {
    const { current, committed, failed: notCommitted } = store.read();
    if (current !== null && !committed) {
      return rollBack(current, failed('INTERRUPTED', 'the agent stopped before this model had passed its probation.'));
    }
    const served = current === null ? ok(null) : await serve(current);
    if (current !== null && !served.ok) enter('failed', current.rev, served);
    else if (notCommitted !== null) enter('failed', notCommitted.rev, { ok: false, ...notCommitted });
    else if (current !== null) enter('committed', current.rev);
    return served;
  };

  /** One at a time: each sees the row that the one before left. */
  const inTurn = <T>(work: () => Promise<T>): Promise<T> => {
    const turn = last.then(work, work);
    last = turn.catch(() => null);
    return turn;
  };

  return {
    state: () => ({ phase, rev, activeManifestSha256: isServing ? (store.read().current?.manifestSha256 ?? null) : null, failure }),
    boot: () => inTurn(boot),
    deploy: (slot, signal) => inTurn(() => deploy(slot, signal)),
  };
}

function noted(
  rev: number,
  { reason, message }: Failure,
): { readonly rev: number; readonly reason: Failure['reason']; readonly message: string } {
  return { rev, reason, message };
}
