// A queue of runs, each in a process of its own, that can be stopped at any moment: a run keeps its state, and goes on next time.
import { spawn } from 'node:child_process';
import { mkdirSync, openSync } from 'node:fs';
import { join } from 'node:path';

export interface QueuedRun {
  readonly name: string;
  /** Program and arguments; the run's folder is added as the last one. */
  readonly command: readonly string[];
  readonly isDone: () => boolean;
}

/** Works through the runs that are not done, `jobs` at a time, each in `out`/its name with its log there, until `minutes` have passed. */
export async function workThrough(runs: readonly QueuedRun[], out: string, minutes: number, jobs: number): Promise<void> {
  const endsAt = Date.now() + minutes * 60_000;
  const waiting = runs.filter((run) => !run.isDone());
  process.stdout.write(`${runs.length - waiting.length} of ${runs.length} runs are done.\n`);
  const worker = async (): Promise<void> => {
    for (;;) {
      const next = Date.now() < endsAt ? waiting.shift() : undefined;
      if (next === undefined) return;
      const code = await runOne(next, join(out, next.name), endsAt);
      process.stdout.write(`${next.name}: ${code === 0 ? 'done' : `ended with ${code}, see ${join(out, next.name, 'log.txt')}`}\n`);
    }
  };
  await Promise.all(Array.from({ length: jobs }, worker));
}

/** Its exit code; null where the time was over first and it was killed. */
function runOne({ command }: QueuedRun, folder: string, endsAt: number): Promise<number | null> {
  mkdirSync(folder, { recursive: true });
  const log = openSync(join(folder, 'log.txt'), 'a');
  const child = spawn(process.execPath, [...command, folder], { stdio: ['ignore', log, log] });
  const timer = setTimeout(() => child.kill('SIGKILL'), Math.max(1, endsAt - Date.now()));
  return new Promise((resolve) => {
    child.once('exit', (code) => {
      clearTimeout(timer);
      resolve(code);
    });
  });
}
