// Measurements outside a search: a baseline for the comparison, joules of a member of the front. Same fleet, same rules for doubtful ones,
// and names under which a restart finds what was measured already.
import type { Measurement, Plan } from '@ofa-fleet/shared/measurement.ts';
import { failed, type Outcome } from '@ofa-fleet/shared/outcome.ts';
import type { Fleet, JobEnd } from '../fleet/fleet.ts';
import { measurementKey, type MeasurementName } from '../store/campaigns.ts';
import { settle, type Told, type Try } from '../store/told.ts';

export interface BesideJob {
  readonly name: Omit<MeasurementName, 'attempt'>;
  readonly manifestSha256: string;
  readonly plan: Plan;
}

/** The end of one measurement; CANCELED, and taken back from the fleet, where the signal aborts first. */
export async function measureOnce(fleet: Fleet, job: BesideJob, attempt: number, signal: AbortSignal): Promise<Try> {
  const { name, manifestSha256, plan } = job;
  const ends = new Map<string, JobEnd>();
  let wake = () => {};
  const stopListening = fleet.onJobEnd((end) => {
    ends.set(end.jobId, end);
    wake();
  });
  try {
    const jobId = await fleet.enqueue({ key: measurementKey({ ...name, attempt }), deviceClass: name.deviceClass, manifestSha256, plan });
    const known = await fleet.jobEnd(jobId);
    if (known !== null) return known;
    while (!ends.has(jobId) && !signal.aborted) {
      const woken = new Promise<void>((resolve) => (wake = resolve));
      signal.addEventListener('abort', wake, { once: true });
      await woken;
      signal.removeEventListener('abort', wake);
    }
    const end = ends.get(jobId);
    if (end !== undefined) return end;
    await fleet.cancel(jobId);
    return { jobId, outcome: failed('CANCELED', 'Stopped before it was measured.') };
  } finally {
    stopListening();
  }
}

/** Measures until it is valid, or as often as a search would. */
export async function measureSettled(fleet: Fleet, job: BesideJob, error: number, signal: AbortSignal): Promise<Told> {
  const tries: Try[] = [];
  for (;;) {
    const next: { jobId: string; outcome: Outcome<Measurement> } = await measureOnce(fleet, job, tries.length + 1, signal);
    tries.push(next);
    const told = settle(tries, error);
    if (told !== null) return told;
  }
}
