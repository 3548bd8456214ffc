// Desired against what is in the slots: fetches the model that the controller wants served, hands it to the slots, reports each phase. The
// newest revision wins; one that failed is not tried again until a newer one comes.
import { failed, type Failure } from '@ofa-fleet/shared/outcome.ts';
import type { Desired, UpPayload } from '@ofa-fleet/shared/protocol.ts';
import type { Slots } from './slots.ts';
import type { Transfer } from './transfer.ts';

export interface DeploymentHost {
  readonly slots: Slots;
  readonly transfer: Transfer;
  /** Where this device answers inferences itself; null where it does not. */
  readonly serveUrl: string | null;
  readonly report: (reported: UpPayload<'reported'>) => void;
}

export interface Deployment {
  want(desired: Desired): void;
  isBehind(): boolean;
  /** Fetches and verifies what is wanted; resolves when it is active (its probation goes on by itself), or has failed. */
  apply(stop: AbortSignal): Promise<void>;
  /** Says how things stand: at each change and each new session. */
  reportNow(): void;
  /** The slots have changed. */
  onSlots(): void;
  rev(): number;
}

export function createDeployment({ slots, transfer, serveUrl, report }: DeploymentHost): Deployment {
  let wanted: Desired | null = null;
  /** Newest revision that was begun here. */
  let begun = 0;
  /** What stands in the way before the slots know of a revision. */
  let before: { readonly rev: number; readonly phase: 'fetching' | 'failed'; readonly failure: Failure | null } | null = null;
  let onVerified = (): void => undefined;
  let overtaken = new AbortController();

  const rev = () => Math.max(begun, slots.state().rev);

  function reportNow(): void {
    const state = slots.state();
    const { phase, failure } = before ?? state;
    report({
      rev: before?.rev ?? state.rev,
      phase,
      activeManifestSha256: state.activeManifestSha256,
      serveUrl,
      failure: failure === null ? null : { reason: failure.reason, message: failure.message },
    });
  }

  return {
    rev,
    reportNow,
    want(desired) {
      if (desired.rev > (wanted?.rev ?? 0)) wanted = desired;
      if (desired.rev > begun) overtaken.abort();
    },
    isBehind: () => wanted !== null && wanted.rev > rev(),
    onSlots() {
      before = null;
      if (slots.state().phase !== 'verifying') onVerified();
      reportNow();
    },
    async apply(stop) {
      const target = wanted;
      if (target === null || target.rev <= rev()) return;
      begun = target.rev;
      overtaken = new AbortController();
      const signal = AbortSignal.any([stop, overtaken.signal]);
      before = { rev: target.rev, phase: 'fetching', failure: null };
      reportNow();
      const manifest = await transfer.fetch(target.manifest, signal, () => undefined);
      if (signal.aborted) {
        before = null;
        return;
      }
      if (!manifest.ok) {
        before = { rev: target.rev, phase: 'failed', failure: failed(manifest.reason, manifest.message) };
        reportNow();
        return;
      }
      const verified = new Promise<void>((resolve) => (onVerified = resolve));
      const slot = { rev: target.rev, manifestSha256: target.manifest.sha256, manifest: manifest.value };
      // probation outlives this call; its end is reported through onSlots
      const deployed = slots.deploy(slot, signal);
      await Promise.race([verified, deployed]);
    },
  };
}
