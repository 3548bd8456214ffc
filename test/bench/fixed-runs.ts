// What others' rules come to: one run to warm up, then a fixed number, and their median; a process of its own, of this runtime and settings.
import { execFile } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';

const PROGRAM = fileURLToPath(new URL('./plain-loop.ts', import.meta.url));

/** Median of `runs` runs, ms. */
export async function fixedRunsMs(path: string, runs: number): Promise<number> {
  const { stdout } = await promisify(execFile)(process.execPath, [PROGRAM, path, String(runs)]);
  return Number(stdout);
}
