// `npm run experiment:ofav2 -- [--minutes N] [--jobs N]`: works through the queue, run by run in processes of their own, and can be stopped
// at any moment: what is finished is a file in results/, and what is not goes on next time.
import { spawn } from 'node:child_process';
import { existsSync, mkdirSync, openSync } from 'node:fs';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { fileURLToPath } from 'node:url';
import { ARMS, resultName, type Arm } from './design.ts';
import { RESULTS } from './results.ts';
import { writeReport } from './report.ts';

const { values } = parseArgs({
  options: { minutes: { type: 'string', default: '60' }, jobs: { type: 'string', default: '2' }, out: { type: 'string', default: 'out/experiments/ofav2' } },
}); // prettier-ignore
const endsAt = Date.now() + Number(values.minutes) * 60_000;
const seeds = Math.max(...ARMS.map((arm) => arm.seeds));
const queue = Array.from({ length: seeds }, (_, i) => i + 1).flatMap((seed) =>
  ARMS.filter((arm) => seed <= arm.seeds).map((arm) => ({ arm, seed })),
);
const waiting = queue.filter(({ arm, seed }) => !existsSync(join(RESULTS, `${resultName(arm, seed)}.json`)));
process.stdout.write(`${queue.length - waiting.length} of ${queue.length} runs are done.\n`);
await Promise.all(Array.from({ length: Number(values.jobs) }, worker));
writeReport();

async function worker(): Promise<void> {
  for (;;) {
    const next = Date.now() < endsAt ? waiting.shift() : undefined;
    if (next === undefined) return;
    const code = await run(next.arm, next.seed);
    process.stdout.write(`${resultName(next.arm, next.seed)}: ${code === 0 ? 'done' : `ended with ${code}, see its log`}\n`);
  }
}

/** Its exit code; null where the time was over first: then it is stopped, and goes on next time. */
function run(arm: Arm, seed: number): Promise<number | null> {
  const folder = join(values.out, resultName(arm, seed));
  mkdirSync(folder, { recursive: true });
  const log = openSync(join(folder, 'log.txt'), 'a');
  const child = spawn(process.execPath, [fileURLToPath(new URL('./one-run.ts', import.meta.url)), arm.name, String(seed), folder], { stdio: ['ignore', log, log] }); // prettier-ignore
  const timer = setTimeout(() => child.kill('SIGKILL'), Math.max(1, endsAt - Date.now()));
  return new Promise((resolve) => {
    child.once('exit', (code) => {
      clearTimeout(timer);
      resolve(code);
    });
  });
}
