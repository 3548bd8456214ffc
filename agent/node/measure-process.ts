// Measures in a fresh process: onnxruntime blocks the thread that runs it, each process is a new draw of the memory layout, and a crash or a
// hang of a model must not take the agent with it.
import { fork, type ChildProcess } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { protocolId, type Measurement, type Plan } from '@ofa-fleet/shared/measurement.ts';
import { failed, type Outcome } from '@ofa-fleet/shared/outcome.ts';
import type { Calibration } from '../calibration.ts';
import { LONGEST_ENERGY_MS } from '../energy-run.ts';
import type { Measurer } from '../ports.ts';
import { entryUrl } from './entries.ts';
import { HOST_ROOTS, type HostRoots } from './host-files.ts';
import type { PlugAddress } from './meters/meter.ts';
import type { RunnerTask } from './runner.ts';
import type { RuntimeName } from './runtime/runtimes.ts';

export interface MeasurerSettings {
  readonly runtime: RuntimeName;
  /** Trees that stand for /sys and /proc; the kernel's own where absent. */
  readonly roots?: HostRoots;
  readonly plugs?: readonly PlugAddress[];
  /** Of this device's sensors against these plugs; none where absent. */
  readonly calibrations?: readonly Calibration[];
}

/** Beyond the plan's cap: process start, load, first runs, binding. */
export const OVERHEAD_MS = 60_000;
/** A killed process that has not gone by then is left to the kernel (it waits for a device); the agent goes on. */
const KILL_WAIT_MS = 2000;
const STDERR_KEPT = 2000;

function describeEnd(code: number | null, signal: NodeJS.Signals | null, stderr: string): Outcome<never> {
  const last = stderr.trim().split('\n').slice(-3).join(' | ');
  const said = last === '' ? '' : ` It said: ${last}`;
  // 137 and SIGKILL by another hand is what the kernel's out-of-memory killer does; V8 aborts by itself and says so.
  if (/heap out of memory|bad_alloc|Cannot allocate memory/i.test(stderr)) {
    return failed('OUT_OF_MEMORY', `The measuring process ran out of memory. Free memory or choose a smaller model.${said}`);
  }
  if (signal === 'SIGKILL') {
    return failed(
      'CRASHED',
      `The measuring process was killed from outside (SIGKILL), perhaps for lack of memory: see dmesg. Free memory and try again.${said}`,
    );
  }
  return failed('CRASHED', `The measuring process ended with ${signal ?? `exit code ${code}`} before it answered.${said}`);
}

function ended(child: ChildProcess): Promise<void> {
  return new Promise((resolve) => {
    if (child.exitCode !== null || child.signalCode !== null) resolve();
    else child.once('exit', () => resolve());
  });
}

/** Kills by process id and waits a little for the end. */
async function kill(child: ChildProcess): Promise<void> {
  child.kill('SIGKILL');
  let timer: NodeJS.Timeout | undefined;
  await Promise.race([ended(child), new Promise((resolve) => (timer = setTimeout(resolve, KILL_WAIT_MS)))]);
  clearTimeout(timer);
  child.unref();
  if (child.connected) child.disconnect();
}

/** The answer of a fresh process to `task`; it is killed when the signal aborts, or after `limitMs`. */
export async function runInProcess<T>(task: RunnerTask, limitMs: number, signal: AbortSignal): Promise<Outcome<T>> {
  if (signal.aborted) return failed('CANCELED', 'The measurement was cancelled before it began.');
  const child = fork(fileURLToPath(entryUrl('runner')), [], {
    serialization: 'advanced',
    execArgv: [],
    stdio: ['ignore', 'ignore', 'pipe', 'ipc'],
  });
  let stderr = '';
  child.stderr?.on('data', (chunk: Buffer) => (stderr = (stderr + chunk.toString()).slice(-STDERR_KEPT)));
  let timer: NodeJS.Timeout | undefined;
  let onAbort: (() => void) | undefined;
  try {
    return await new Promise<Outcome<T>>((resolve) => {
      onAbort = () => resolve(failed('CANCELED', 'The measurement was cancelled; its process was killed.'));
      signal.addEventListener('abort', onAbort, { once: true });
      timer = setTimeout(
        () =>
          resolve(
            failed(
              'TIMED_OUT',
              `The measuring process did not answer within ${limitMs / 1000} s and was killed. Try a smaller model or a longer cap.`,
            ),
          ),
        limitMs,
      );
      child.once('message', (outcome) => resolve(outcome as Outcome<T>));
      child.once('error', (error) => resolve(failed('CRASHED', `The measuring process could not be started: ${error.message}`)));
      // 'close', not 'exit': by then what it wrote to stderr has arrived, and an answer sent before the end too.
      child.once('close', (code, signalName) => resolve(describeEnd(code, signalName, stderr)));
      child.send(task);
    });
  } finally {
    clearTimeout(timer);
    if (onAbort !== undefined) signal.removeEventListener('abort', onAbort);
    await kill(child);
  }
}

/** A Measurer whose every measurement is a process of its own. */
export function createMeasurer({ runtime, roots = HOST_ROOTS, plugs = [], calibrations = [] }: MeasurerSettings): Measurer {
  return {
    measure(source, plan: Plan, signal) {
      const limitMs = plan.capMs + OVERHEAD_MS + (plan.energyRelativeHalfWidth === null ? 0 : LONGEST_ENERGY_MS);
      const task: RunnerTask = { kind: 'measure', source, plan, protocolId: protocolId(plan), runtime, roots, plugs, calibrations };
      return runInProcess<Measurement>(task, limitMs, signal);
    },
  };
}
