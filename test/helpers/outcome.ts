// What a test that expects success does with an Outcome.
import type { Outcome } from '../../shared/outcome.ts';

/** The value, or a test failure that says why there is none. */
export function value<T>(outcome: Outcome<T>): T {
  if (!outcome.ok) throw new Error(`${outcome.reason}: ${outcome.message}`);
  return outcome.value;
}
