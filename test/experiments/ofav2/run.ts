// `npm run experiment:ofav2 -- [--minutes N] [--jobs N]`: works through the queue of arms and seeds; what is finished is a file in results/.
// On other images: `-- --data DIR --results DIR [--preset ofav2-64-w1.0] [--scale 0.02] [--arms SE_B,EE_D-pet] [--seeds 1]`.
import { existsSync, mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { fileURLToPath } from 'node:url';
import { workThrough } from '../queue.ts';
import { argumentsOf, SETTING_OPTIONS, settingOf } from './arguments.ts';
import { ARMS, OUT, resultName } from './design.ts';
import { writeReport } from './report.ts';

const { values } = parseArgs({
  options: {
    ...SETTING_OPTIONS,
    minutes: { type: 'string', default: '60' },
    jobs: { type: 'string', default: '2' },
    out: { type: 'string', default: OUT },
    arms: { type: 'string' },
    seeds: { type: 'string' },
  },
});
const named = values.arms?.split(',');
const arms = ARMS.filter(({ name }) => named?.includes(name) !== false);
const most = Math.min(Math.max(...arms.map((arm) => arm.seeds)), Number(values.seeds ?? Infinity));
mkdirSync(values.results, { recursive: true });
const program = fileURLToPath(new URL('./one-run.ts', import.meta.url));
const runs = Array.from({ length: most }, (_, i) => i + 1).flatMap((seed) =>
  arms
    .filter((arm) => seed <= arm.seeds)
    .map((arm) => ({
      name: resultName(arm, seed),
      command: [program, ...argumentsOf(values), arm.name, String(seed)],
      isDone: () => existsSync(join(values.results, `${resultName(arm, seed)}.json`)),
    })),
);
await workThrough(runs, values.out, Number(values.minutes), Number(values.jobs));
writeReport(settingOf(values), values.results);
