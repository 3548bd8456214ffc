// Waits until the process that started it is gone, however it ended, and gives back the settings that it left (steady-settings.ts). The end of
// its input tells: the kernel closes it with the last process that holds the other end, kill -9 included.
import { restoreFor } from './steady-settings.ts';

const [sysfsRoot = '', path = '', pid = '', startTime = ''] = process.argv.slice(2);
let done = false;
const end = (): void => {
  if (done) return;
  done = true;
  restoreFor({ sysfsRoot, path }, { pid: Number(pid), startTime: startTime === '' ? null : startTime });
};
// Whoever ends a whole group of processes politely ends the owner too, and that is what is waited for.
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(signal, () => undefined);
process.stdin.once('end', end).once('error', end).once('close', end).resume();
