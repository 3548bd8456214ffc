// What the runner decides: whether a bug can be planted, and what became of it. Pure.
import { z } from 'zod';
import { failed, ok, type Outcome } from '../../shared/outcome.ts';
import type { Mutant } from './mutants.ts';

/** The file's text with the bug in it. Fails where the old text is not there exactly once. */
export function plant(text: string, { file, old, planted }: Mutant): Outcome<string> {
  const times = text.split(old).length - 1;
  if (times === 1) return ok(text.replace(old, () => planted));
  const next = 'Give test/mutants/mutants.ts the line as it is now.';
  return failed('NOT_FOUND', `${JSON.stringify(old)} occurs ${times} times in ${file} (needed 1). ${next}`);
}

/** What Vitest's JSON reporter writes, as far as it is looked at here. */
const reportSchema = z.object({
  success: z.boolean(),
  testResults: z.array(
    z.object({
      name: z.string(),
      message: z.string().optional(),
      assertionResults: z.array(z.object({ status: z.string(), fullName: z.string() })),
    }),
  ),
});

export type Fate =
  /** By the first test that failed, or since the tests did not end any more. */
  | { readonly kind: 'killed'; readonly by: string }
  | { readonly kind: 'survived' }
  /** The program does not start with it: no bug that anybody could write and keep. */
  | { readonly kind: 'broken'; readonly why: string };

/** `report`: text of the JSON report; null where none was written within the time limit. */
export function fateOf(report: string | null): Fate {
  if (report === null) return { kind: 'killed', by: 'the tests do not end with it' };
  const { success, testResults } = reportSchema.parse(JSON.parse(report));
  for (const { assertionResults } of testResults) {
    const first = assertionResults.find(({ status }) => status === 'failed');
    if (first !== undefined) return { kind: 'killed', by: first.fullName };
  }
  if (success) return { kind: 'survived' };
  return { kind: 'broken', why: testResults.find(({ message }) => message !== undefined && message !== '')?.message ?? 'no test ran' };
}
