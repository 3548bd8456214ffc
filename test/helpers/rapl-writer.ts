// Thread that stands for RAPL hardware: every millisecond it writes a growing counter that wraps at its range, at a power that a shared word sets.
import { renameSync, writeFileSync } from 'node:fs';
import { workerData } from 'node:worker_threads';

export interface RaplWriterTask {
  readonly path: string;
  readonly startMicrojoules: number;
  readonly rangeMicrojoules: number;
  /** [0]: milliwatts now; [1]: 1 to stop. */
  readonly control: Int32Array;
}

const { path, startMicrojoules, rangeMicrojoules, control } = workerData as RaplWriterTask;
let microjoules = startMicrojoules;
let last = process.hrtime.bigint();
while (Atomics.load(control, 1) === 0) {
  const now = process.hrtime.bigint();
  microjoules += (Number(now - last) / 1e9) * Atomics.load(control, 0) * 1000;
  last = now;
  writeFileSync(`${path}.new`, `${Math.floor(microjoules) % rangeMicrojoules}\n`);
  renameSync(`${path}.new`, path);
  Atomics.wait(control, 1, 0, 1);
}
