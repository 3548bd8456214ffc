// From token to identity: asks the controller once, with a password of this device's own making that is on the disk before it is sent, so
// that an answer lost to a crash can be asked for again.
import { openBus } from '@ofa-fleet/shared/bus.ts';
import type { Clock } from '@ofa-fleet/shared/clock.ts';
import type { DeviceInfo } from '@ofa-fleet/shared/device.ts';
import { randomSecret } from '@ofa-fleet/shared/ids.ts';
import { failed, ok, type Outcome } from '@ofa-fleet/shared/outcome.ts';
import type { DownPayload } from '@ofa-fleet/shared/protocol.ts';
import { enrolAddress } from '@ofa-fleet/shared/topics.ts';
import type { CheckedSettings } from './settings.ts';
import type { Identity, StateDir } from './state-dir.ts';

export interface Enrolled extends Identity {
  readonly device: NonNullable<Identity['device']>;
}

export interface EnrolHost {
  readonly state: StateDir;
  readonly info: DeviceInfo;
  readonly bootId: string;
  readonly clock: Clock;
  readonly random: () => number;
  /** The broker cannot be reached yet. */
  readonly onDown: (message: string, nextAttemptMs: number) => void;
}

const ASK_AGAIN_MS = 5000;

/** Keeps trying while the broker is away. NOT_AUTHORISED or EXPIRED where the token is no good; CANCELED when the signal aborts. */
export async function enrol(settings: CheckedSettings, host: EnrolHost, signal: AbortSignal): Promise<Outcome<Enrolled>> {
  const { state, clock, random } = host;
  const { claim, url } = settings;
  const before = readAsked(state);
  const asked: Identity =
    before !== null && before.claimId === claim.claimId
      ? { ...before, url }
      : { url, claimId: claim.claimId, password: randomSecret(), device: null };
  state.writeIdentity('enrolling.json', asked);

  const done = new AbortController();
  let answer: DownPayload<'enrol'> | null = null;
  let refused = false;
  const bus = openBus(
    { url, address: enrolAddress(claim.claimId), password: claim.secret, bootId: host.bootId, birth: null, backoff: settings.backoff },
    {
      onUp: () => void askUntilAnswered(),
      onDown(down) {
        if (down.refused) {
          refused = true;
          done.abort();
        } else host.onDown(down.message, down.nextAttemptMs);
      },
      onMessage(message) {
        if (message.t !== 'enrol') return;
        answer = message.p;
        done.abort();
      },
      onFrame: () => undefined,
      onTrouble: () => undefined,
    },
    { clock, random },
  );
  const either = AbortSignal.any([signal, done.signal]);
  async function askUntilAnswered(): Promise<void> {
    while (bus.isUp() && !either.aborted) {
      await bus.send('enrol', { name: settings.name, info: host.info, password: asked.password });
      await clock.sleep(ASK_AGAIN_MS, either);
    }
  }
  await new Promise<void>((resolve) => {
    if (either.aborted) resolve();
    else either.addEventListener('abort', () => resolve(), { once: true });
  });
  await bus.close('enrolled');

  if (refused) {
    return failed(
      'NOT_AUTHORISED',
      `the broker at ${url} does not know the token ${claim.claimId}.…: check it, or ask the controller for a new one`,
    );
  }
  const got = answer as DownPayload<'enrol'> | null;
  if (got === null) return failed('CANCELED', 'stopped before the controller answered');
  if (!got.ok) return failed(got.reason, got.message);
  const enrolled: Enrolled = { ...asked, device: { deviceId: got.deviceId, fleet: got.fleet, shard: got.shard } };
  state.writeIdentity('identity.json', enrolled);
  state.removeIdentity('enrolling.json');
  return ok(enrolled);
}

/** What was asked before a crash; a damaged file costs only a new password. */
function readAsked(state: StateDir): Identity | null {
  const asked = state.readIdentity('enrolling.json');
  return asked.ok ? asked.value : null;
}
