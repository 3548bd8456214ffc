// Thread that stands for RAPL hardware: every millisecond it writes a growing counter that wraps at its range, at a power that a shared word sets.
import { readFileSync, renameSync, writeFileSync } from 'node:fs';
import { workerData } from 'node:worker_threads';

export interface RaplWriterTask {
  readonly path: string;
  readonly startMicrojoules: number;
  readonly rangeMicrojoules: number;
  /** [0]: milliwatts while idle; [1]: 1 to stop; [2]: id of the process whose running main thread draws [3] milliwatts more, or 0. */
  readonly control: Int32Array;
}

function isRunning(pid: number): boolean {
  if (pid === 0) return false;
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
    return stat.slice(stat.lastIndexOf(')') + 2).startsWith('R');
  } catch {
    return false;
  }
}

const { path, startMicrojoules, rangeMicrojoules, control } = workerData as RaplWriterTask;
let microjoules = startMicrojoules;
let last = process.hrtime.bigint();
while (Atomics.load(control, 1) === 0) {
  const now = process.hrtime.bigint();
  const milliwatts = Atomics.load(control, 0) + (isRunning(Atomics.load(control, 2)) ? Atomics.load(control, 3) : 0);
  microjoules += (Number(now - last) / 1e9) * milliwatts * 1000;
  last = now;
  writeFileSync(`${path}.new`, `${Math.floor(microjoules) % rangeMicrojoules}\n`);
  renameSync(`${path}.new`, path);
  Atomics.wait(control, 1, 0, 1);
}
