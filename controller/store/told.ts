// What one device class says of one subnet: the number that the search is told and the measurements behind it, or why there is none.
import { z } from 'zod';
import { intervalSchema, latencyOf, type Interval, type Measurement } from '@ofa-fleet/shared/measurement.ts';
import { failed, REASONS, type Outcome, type Reason } from '@ofa-fleet/shared/outcome.ts';

/** A measurement that is suspect or invalid is made again, at most so many times in all. */
const MAX_TRIES = 3;
/** A job that waited in the queue until it expired says that the class was away, not what the subnet is: asked again, so many times. */
const MAX_ABSENCES = 7;

/** One measurement of a subnet on a class, as it ended. */
export interface Try {
  readonly jobId: string;
  readonly outcome: Outcome<Measurement>;
}

export const failureSchema = z.object({ ok: z.literal(false), reason: z.enum(REASONS), message: z.string() });
export const toldSchema = z.union([
  z.object({
    ok: z.literal(true),
    value: z.object({
      objectives: z.object({ error: z.number(), latencyMs: z.number() }),
      latency: z.object({ value: z.number(), ci: intervalSchema.nullable() }),
      state: z.enum(['valid', 'suspect']),
      /** The measurements behind the value. */
      jobIds: z.array(z.string()).min(1),
    }),
  }),
  failureSchema,
]);
/** What one class said of one subnet: the objectives and where they come from, or why it is censored there. */
export type ToldOutcome = Readonly<z.infer<typeof toldSchema>>;
export interface Told {
  readonly jobId: string | null;
  readonly outcome: ToldOutcome;
}

/**
 * What the tries of one measurement come to; null where it has to be made again, as one that expired in the queue has. A valid one stands alone. Tries that stay suspect are kept
 * with an interval as wide as all of theirs together; where none is usable the subnet is censored on that class.
 */
export function settle(tries: readonly Try[], error: number): Told | null {
  const last = tries[tries.length - 1];
  if (last === undefined) return null;
  const absences = tries.filter(({ outcome }) => !outcome.ok && outcome.reason === 'EXPIRED').length;
  const isAbsence = !last.outcome.ok && last.outcome.reason === 'EXPIRED';
  if (isAbsence && absences <= MAX_ABSENCES) return null;
  const usable = tries.flatMap(({ jobId, outcome }) => {
    if (!outcome.ok || outcome.value.verdict.state === 'invalid') return [];
    const { value, ci } = latencyOf(outcome.value);
    return value === null ? [] : [{ jobId, state: outcome.value.verdict.state, value, ci }];
  });
  const valid = usable.find(({ state }) => state === 'valid');
  if (valid === undefined && last.outcome.ok && tries.length - absences < MAX_TRIES) return null;
  if (valid !== undefined) return toldAs(valid.jobId, error, valid.value, valid.ci, 'valid', [valid.jobId]);
  if (usable.length === 0) {
    return { jobId: last.jobId, outcome: last.outcome.ok ? failed(mainReason(last.outcome.value), whyDoubtful(last)) : last.outcome };
  }
  const byValue = [...usable].sort((a, b) => a.value - b.value);
  const middle = byValue[(byValue.length - 1) >> 1] as (typeof byValue)[number];
  const ends = usable.flatMap(({ value, ci }) => [ci?.lo ?? value, ci?.hi ?? value]);
  const ci: Interval = {
    lo: Math.min(...ends),
    hi: Math.max(...ends),
    level: middle.ci?.level ?? 0.95,
    method: `hull of ${usable.length} suspect measurements`,
  };
  return toldAs(middle.jobId, error, middle.value, ci, 'suspect', usable.map(({ jobId }) => jobId)); // prettier-ignore
}

function toldAs(
  jobId: string,
  error: number,
  latencyMs: number,
  ci: Interval | null,
  state: 'valid' | 'suspect',
  jobIds: readonly string[],
): Told {
  return {
    jobId,
    outcome: { ok: true, value: { objectives: { error, latencyMs }, latency: { value: latencyMs, ci }, state, jobIds: [...jobIds] } },
  };
}

function mainReason({ verdict }: Measurement): Reason {
  return verdict.findings.find(({ effect }) => effect === 'invalid')?.reason ?? 'TOO_FEW_SAMPLES';
}

/** The sentences of a verdict that keep a number from being believed. */
export function whyDoubtful({ outcome }: Try): string {
  if (!outcome.ok) return outcome.message;
  const { state, findings } = outcome.value.verdict;
  const because = findings.filter(({ effect }) => effect !== 'information').map(({ message }) => message);
  return because.length > 0 ? because.join(' ') : `the measurement is ${state} without a number.`;
}
