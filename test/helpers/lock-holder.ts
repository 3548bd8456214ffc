// A process that takes the host lock at the given path, says so on stdout, and holds it until it is told to let go (any line on stdin).
import { once } from 'node:events';
import { acquireHostLock } from '@ofa-fleet/shared/node/host-lock.ts';

const path = process.argv[2] as string;
process.stdout.write('waiting\n');
const lock = await acquireHostLock({ path, signal: new AbortController().signal });
process.stdout.write(`held after ${lock.waitedMs.toFixed(0)} ms\n`);
await once(process.stdin, 'data');
lock.release();
process.stdout.write('released\n');
process.exit(0);
