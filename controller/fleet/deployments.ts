// Desired against reported: which model each device should serve, and waiting until it says that it does.
import { failed, ok, type Outcome } from '@ofa-fleet/shared/outcome.ts';
import type { Desired, UpPayload } from '@ofa-fleet/shared/protocol.ts';
import type { Db } from '../store/database.ts';
import { insertDesired, newestDeployment, saveReported, settleDeployment } from '../store/deployments.ts';
import { findManifestRef } from '../store/manifests.ts';

type Settled = Outcome<{ readonly rev: number }>;

export interface Deployments {
  /** What the device should serve: its newest revision; null where that failed on it, so that it keeps what it serves. */
  desired(deviceId: string): Promise<Desired | null>;
  /** A new revision, told through `announce`; resolves when the device settles it, or the signal aborts. */
  deploy(deviceId: string, manifestSha256: string, announce: (desired: Desired) => void, signal: AbortSignal): Promise<Settled>;
  onReported(deviceId: string, reported: UpPayload<'reported'>): Promise<void>;
}

/** `onChanged`: what is live for the device has changed, and the change is committed. */
export function createDeployments(db: Db, now: () => number, onChanged: (deviceId: string) => void): Deployments {
  const waiting = new Map<string, { readonly rev: number; readonly settle: (end: Settled) => void }>();

  async function desired(deviceId: string): Promise<Desired | null> {
    const newest = await newestDeployment(db, deviceId);
    if (newest === null || newest.state === 'failed') return null;
    const manifest = await findManifestRef(db, newest.manifest_sha256);
    return manifest === null ? null : { rev: newest.rev, manifest };
  }

  return {
    desired,
    async deploy(deviceId, manifestSha256, announce, signal) {
      const rev = await insertDesired(db, deviceId, manifestSha256, now());
      onChanged(deviceId);
      waiting
        .get(deviceId)
        ?.settle(failed('CANCELED', `revision ${rev} took the place of this one on ${deviceId} before it was confirmed`));
      const settled = new Promise<Settled>((resolve) => {
        waiting.set(deviceId, { rev, settle: resolve });
        const abort = () =>
          resolve(
            failed(
              'TIMED_OUT',
              `${deviceId} has not confirmed revision ${rev} yet; it stays desired, and is applied when the device comes back`,
            ),
          );
        if (signal.aborted) abort();
        else signal.addEventListener('abort', abort, { once: true });
      });
      const target = await desired(deviceId);
      if (target?.rev === rev) announce(target);
      const end = await settled;
      if (waiting.get(deviceId)?.rev === rev) waiting.delete(deviceId);
      return end;
    },
    async onReported(deviceId, reported) {
      const { rev, phase, activeManifestSha256, serveUrl, failure } = reported;
      await saveReported(db, {
        device_id: deviceId,
        rev,
        phase,
        active_manifest_sha256: activeManifestSha256,
        serve_url: serveUrl,
        reason: failure?.reason ?? null,
        message: failure?.message ?? null,
        at: now(),
      });
      if (phase !== 'committed' && phase !== 'failed') return;
      await settleDeployment(db, deviceId, rev, {
        state: phase,
        reason: failure?.reason ?? null,
        message: failure?.message ?? null,
        at: now(),
      });
      onChanged(deviceId);
      const waiter = waiting.get(deviceId);
      if (waiter?.rev !== rev) return;
      waiter.settle(
        phase === 'committed'
          ? ok({ rev })
          : failure === null
            ? failed('CRASHED', `${deviceId} gave up revision ${rev}`)
            : failed(failure.reason, failure.message),
      );
    },
  };
}
