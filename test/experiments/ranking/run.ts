// `npm run experiment:ranking -- [--minutes N] [--jobs N]`: three supernets (those of experiment:ofav2, trained where they are missing), and
// every subnet from scratch from three seeds.
import { mkdirSync } from 'node:fs';
import { parseArgs } from 'node:util';
import { fileURLToPath } from 'node:url';
import { workThrough } from '../queue.ts';
import { OUT } from './design.ts';
import { writeReport } from './report.ts';
import { gatherResults, hasResult, RESULTS, RUNS } from './results.ts';

const { values } = parseArgs({ options: { minutes: { type: 'string', default: '60' }, jobs: { type: 'string', default: '2' } } });
const program = fileURLToPath(new URL('./one-run.ts', import.meta.url));
mkdirSync(RESULTS, { recursive: true });
const runs = RUNS.map((run) => ({ name: run.name, command: [program, ...run.args], isDone: () => hasResult(run) }));
await workThrough(runs, OUT, Number(values.minutes), Number(values.jobs));
writeReport(gatherResults());
