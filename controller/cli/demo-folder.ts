// Where the demo keeps its results. Only folders that a demo made are ever moved or deleted, however `--out` was given.
import { existsSync, renameSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { failed, ok, type Outcome } from '@ofa-fleet/shared/outcome.ts';

/** Written last: a demo's folder that holds it is that of a demo which came to its end. */
export const END_MARK = 'summary.txt';
const DATABASE = 'fleet.sqlite';

const isFinishedDemo = (folder: string) => existsSync(join(folder, END_MARK)) && existsSync(join(folder, DATABASE));

/** Moves a finished demo's folder to `<out>.previous`, in place of the one before. True where it did; INVALID_INPUT where others' files are in the way. */
export function setAsidePrevious(out: string): Outcome<boolean> {
  if (!existsSync(join(out, END_MARK))) return ok(false);
  const previous = `${out}.previous`;
  for (const folder of [out, previous]) {
    if (existsSync(folder) && !isFinishedDemo(folder)) {
      return failed('INVALID_INPUT', `${folder} holds files, and no ${DATABASE} with ${END_MARK} as a demo leaves them: move it away, or give another folder with --out.`); // prettier-ignore
    }
  }
  rmSync(previous, { recursive: true, force: true });
  renameSync(out, previous);
  return ok(true);
}
