// The process in which one measurement happens: it gets a task over IPC, answers with an Outcome and ends. Its event loop may block.
import { PerformanceObserver } from 'node:perf_hooks';
import { systemClock } from '@ofa-fleet/shared/clock.ts';
import type { Measurement, Plan } from '@ofa-fleet/shared/measurement.ts';
import { failed, type Outcome } from '@ofa-fleet/shared/outcome.ts';
import { noEnergy } from '../energy.ts';
import { measureEnergy } from '../energy-run.ts';
import { measure } from '../measure.ts';
import type { ModelSource } from '../ports.ts';
import { createConditions } from './conditions.ts';
import { HOST_ROOTS, type HostRoots } from './host-files.ts';
import { readMachine } from './machine.ts';
import { meterHost } from './meters/discover.ts';
import type { PlugAddress } from './meters/meter.ts';
import { startRecorder } from './meters/recorder.ts';
import { readModel } from './model-source.ts';
import { explainRun } from './runtime/ort-session.ts';
import { loadRuntime, type RuntimeName } from './runtime/runtimes.ts';

export interface RunnerTask {
  readonly source: ModelSource;
  readonly plan: Plan;
  readonly protocolId: string;
  readonly runtime: RuntimeName;
  /** Other roots than the kernel's own are for tests. */
  readonly roots: HostRoots | null;
  readonly plugs: readonly PlugAddress[];
}

/** Counts by observation: entries are delivered between runs, so taking what is pending makes the count exact. */
function countGarbageCollections(): () => number {
  let count = 0;
  const observer = new PerformanceObserver((list) => (count += list.getEntries().length));
  observer.observe({ entryTypes: ['gc'] });
  return () => (count += observer.takeRecords().length);
}

async function runTask(task: RunnerTask): Promise<Outcome<Measurement>> {
  const roots = task.roots ?? HOST_ROOTS;
  const model = readModel(task.source);
  if (!model.ok) return model;
  const runtime = await loadRuntime(task.runtime);
  if (!runtime.ok) return runtime;
  const { plan } = task;
  try {
    return await measure(model.value, plan, {
      runtime: runtime.value,
      clock: systemClock,
      protocolId: task.protocolId,
      machine: readMachine(HOST_ROOTS.procRoot),
      conditions: createConditions({
        ...roots,
        ownCpuMs: () => {
          const { user, system } = process.cpuUsage();
          return (user + system) / 1000;
        },
        garbageCollections: countGarbageCollections(),
      }),
      peakMemoryBytes: () => process.resourceUsage().maxRSS * 1024,
      energy: async (session) => {
        if (plan.energyRelativeHalfWidth === null) return noEnergy('NOT_ASKED', 'Energy was not asked for.');
        const recorder = await startRecorder(meterHost(roots.sysfsRoot, task.plugs));
        if (!recorder.ok) return noEnergy(recorder.reason, recorder.message);
        return measureEnergy(session, recorder.value, { relativeHalfWidth: plan.energyRelativeHalfWidth, clock: systemClock });
      },
    });
  } catch (error) {
    return explainRun(error);
  }
}

process.once('message', (task: RunnerTask) => {
  void runTask(task)
    .catch((error: unknown) =>
      failed('CRASHED', `The runner failed: ${error instanceof Error ? (error.stack ?? error.message) : String(error)}`),
    )
    // Ends at once when the answer is out: what a runtime does at exit is nobody's concern.
    .then((outcome) => process.send?.(outcome, undefined, undefined, () => process.exit(0)));
});
// The parent is gone: nobody waits for the number.
process.on('disconnect', () => process.exit(1));
