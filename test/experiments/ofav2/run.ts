// `npm run experiment:ofav2 -- [--minutes N] [--jobs N]`: works through the queue of arms and seeds; what is finished is a file in results/.
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { fileURLToPath } from 'node:url';
import { workThrough } from '../queue.ts';
import { ARMS, OUT, resultName } from './design.ts';
import { RESULTS } from './results.ts';
import { writeReport } from './report.ts';

const { values } = parseArgs({
  options: { minutes: { type: 'string', default: '60' }, jobs: { type: 'string', default: '2' }, out: { type: 'string', default: OUT } },
});
const seeds = Math.max(...ARMS.map((arm) => arm.seeds));
const runs = Array.from({ length: seeds }, (_, i) => i + 1).flatMap((seed) =>
  ARMS.filter((arm) => seed <= arm.seeds).map((arm) => ({
    name: resultName(arm, seed),
    command: [fileURLToPath(new URL('./one-run.ts', import.meta.url)), arm.name, String(seed)],
    isDone: () => existsSync(join(RESULTS, `${resultName(arm, seed)}.json`)),
  })),
);
await workThrough(runs, values.out, Number(values.minutes), Number(values.jobs));
writeReport();
