// Desired against what is in the slots: fetches the model that the controller wants served, hands it to the slots, reports each phase. The
// newest revision wins; one that failed is not tried again until a newer one comes, one that could only not be fetched yet is.
import type { Clock } from '@ofa-fleet/shared/clock.ts';
import { failed, type Failure, type Reason } from '@ofa-fleet/shared/outcome.ts';
import type { Desired, UpPayload } from '@ofa-fleet/shared/protocol.ts';
import type { Slots, SlotsState } from './slots.ts';
import type { Transfer } from './transfer.ts';

export interface DeploymentHost {
  readonly slots: Slots;
  readonly transfer: Transfer;
  /** Where this device answers inferences itself; null where it does not. */
  readonly serveUrl: string | null;
  readonly report: (reported: UpPayload<'reported'>) => void;
  readonly clock: Clock;
  /** A fetch that did not succeed may be tried again now: `isBehind` says so. */
  readonly onRetry: () => void;
}

/** These pass: the fetch is tried again, what has come stays. */
const PASSING: ReadonlySet<Reason> = new Set(['UNREACHABLE', 'LOW_DISK', 'BUSY']);
const RETRY_MS = 10_000;
const RETRY_LONGEST_MS = 300_000;

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

export function createDeployment({ slots, transfer, serveUrl, report, clock, onRetry }: DeploymentHost): Deployment {
  let wanted: Desired | null = null;
  /** Newest revision that was begun here. */
  let begun = 0;
  /** What stands in the way before the slots know of a revision. */
  let before: { readonly rev: number; readonly phase: 'fetching' | 'failed'; readonly failure: Failure | null } | null = null;
  let onVerified = (): void => undefined;
  /** Aborts the fetch of an older revision; a probation ends by itself, and the next model waits for it. */
  let overtaken = new AbortController();
  /** Fetches of the wanted revision that failed for a passing reason, and when it may be tried again. */
  let fetches = 0;
  let notBefore = -Infinity;

  const rev = () => Math.max(begun, slots.state().rev);

  function tell({
    rev: ofRev,
    phase,
    failure,
  }: Pick<SlotsState, 'rev' | 'failure'> & { readonly phase: UpPayload<'reported'>['phase'] }): void {
    report({
      rev: ofRev,
      phase,
      activeManifestSha256: slots.state().activeManifestSha256,
      serveUrl,
      failure: failure === null ? null : { reason: failure.reason, message: failure.message },
    });
  }

  function reportNow(): void {
    tell(before ?? slots.state());
  }

  return {
    rev,
    reportNow,
    want(desired) {
      if (desired.rev > (wanted?.rev ?? 0)) {
        wanted = desired;
        fetches = 0;
      }
      // the controller speaks: no reason to wait any longer
      notBefore = -Infinity;
      if (desired.rev > begun) overtaken.abort();
    },
    isBehind: () => wanted !== null && wanted.rev > rev() && clock.monotonicMs() >= notBefore,
    onSlots() {
      const state = slots.state();
      if (state.rev === begun && state.phase !== 'verifying') onVerified();
      if (state.rev >= (before?.rev ?? 0)) before = null;
      tell(state);
      // the end of an older model's probation is told, but it is not where things stand
      if (before !== null) reportNow();
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
      if (!manifest.ok && PASSING.has(manifest.reason)) {
        before = { rev: target.rev, phase: 'fetching', failure: failed(manifest.reason, manifest.message) };
        reportNow();
        const waitMs = Math.min(RETRY_LONGEST_MS, RETRY_MS * 2 ** fetches++);
        const retryAt = clock.monotonicMs() + waitMs;
        [begun, notBefore] = [slots.state().rev, retryAt];
        void clock.sleep(waitMs, stop).then(() => {
          // a timer may ring a little early by this clock: it is time all the same, and nobody would ring again
          if (notBefore === retryAt) notBefore = -Infinity;
          onRetry();
        });
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
      const deployed = slots.deploy(slot, stop);
      await Promise.race([verified, deployed]);
    },
  };
}
