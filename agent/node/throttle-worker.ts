// The thread that looks at a board's firmware flags during a run, since a flag that is set already cannot tell that it happened again. Not
// faster than the firmware likes, and only where there are flags to look at.
import { workerData } from 'node:worker_threads';
import { readTemperatureC } from './temperature.ts';
import { readFirmwareBits } from './throttle.ts';
import { BITS, HOTTEST, STOP, type WatchTask } from './throttle-watch.ts';

/** The firmware's own step is 100 ms; asked faster than each 150 ms it may lose events that its driver clears. */
const EVERY_MS = 200;
/** A temperature moves slower. */
const TEMPERATURE_EVERY = 5;
const MILLI = 1000;

const { file, sysfsRoot, memory } = workerData as WatchTask;

for (let n = 0; Atomics.load(memory, STOP) === 0; n++) {
  Atomics.or(memory, BITS, readFirmwareBits(file) ?? 0);
  const celsius = n % TEMPERATURE_EVERY === 0 ? readTemperatureC(sysfsRoot) : null;
  if (celsius !== null) Atomics.store(memory, HOTTEST, Math.max(Atomics.load(memory, HOTTEST), Math.round(celsius * MILLI)));
  Atomics.wait(memory, STOP, 0, EVERY_MS);
}
