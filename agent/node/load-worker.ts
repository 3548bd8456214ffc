// A thread that keeps one core busy for a share of each period, shorter than any sensor averages over, until it is ended.
import { workerData } from 'node:worker_threads';

const PERIOD_MS = 20;
/** Of 1000 parts. */
const control = workerData as Int32Array;

for (;;) {
  const until = performance.now() + (PERIOD_MS * Atomics.load(control, 0)) / 1000;
  const next = performance.now() + PERIOD_MS;
  let x = 1.1;
  while (performance.now() < until) for (let i = 0; i < 1000; i++) x = Math.sqrt(x * 1.7 + 0.3);
  Atomics.wait(control, 1, 0, Math.max(0, next - performance.now()));
}
