// The process in which models are run to be timed: it gets one task over IPC, answers with an Outcome and ends. Its event loop may block.
import { PerformanceObserver } from 'node:perf_hooks';
import { systemClock } from '@ofa-fleet/shared/clock.ts';
import type { Measurement, Plan } from '@ofa-fleet/shared/measurement.ts';
import { failed, ok, type Outcome } from '@ofa-fleet/shared/outcome.ts';
import { noEnergy } from '../energy.ts';
import type { Calibration } from '../calibration.ts';
import { measureEnergy } from '../energy-run.ts';
import { interleave, type ProcessRounds } from '../compare.ts';
import { measure, type ModelUnderTest } from '../measure.ts';
import type { ModelSource, Runtime } from '../ports.ts';
import { createConditions } from './conditions.ts';
import { HOST_ROOTS, type HostRoots } from './host-files.ts';
import { readMachine } from './machine.ts';
import { discoverMeters, meterHost } from './meters/discover.ts';
import type { PlugAddress } from './meters/meter.ts';
import { startCalibrated, startRecorder, startWitness } from './meters/recorder.ts';
import { readModel } from './model-source.ts';
import { profileModel, providersOf, type Profile } from './profile.ts';
import { explainRun } from './runtime/ort-session.ts';
import { loadRuntime, type RuntimeName } from './runtime/runtimes.ts';

interface CommonTask {
  readonly runtime: RuntimeName;
  /** Other roots than the kernel's own are for tests. */
  readonly roots: HostRoots;
}

export interface MeasureTask extends CommonTask {
  readonly kind: 'measure';
  readonly source: ModelSource;
  readonly plan: Plan;
  readonly protocolId: string;
  readonly plugs: readonly PlugAddress[];
  /** Of this device's sensors against these plugs. */
  readonly calibrations: readonly Calibration[];
}

export interface CompareTask extends CommonTask {
  readonly kind: 'compare';
  readonly sources: readonly ModelSource[];
  readonly threads: number;
  readonly budgetMs: number;
}

export interface ProfileTask extends CommonTask {
  readonly kind: 'profile';
  readonly source: ModelSource;
  readonly threads: number;
}

export type RunnerTask = MeasureTask | CompareTask | ProfileTask;

/** Counts by observation: entries are delivered between runs, so taking what is pending makes the count exact. */
function countGarbageCollections(): () => number {
  let count = 0;
  const observer = new PerformanceObserver((list) => (count += list.getEntries().length));
  observer.observe({ entryTypes: ['gc'] });
  return () => (count += observer.takeRecords().length);
}

async function runMeasure(task: MeasureTask): Promise<Outcome<Measurement>> {
  const { roots } = task;
  const model = readModel(task.source);
  if (!model.ok) return model;
  const loaded = await loadRuntime(task.runtime);
  if (!loaded.ok) return loaded;
  const runtime = await withObtained(loaded.value, model.value, task);
  if (!runtime.ok) return runtime;
  const { plan } = task;
  return measure(model.value, plan, {
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
      const host = meterHost(roots.sysfsRoot, task.plugs);
      const discovery = discoverMeters(host);
      const recorder = await startRecorder(host, discovery);
      if (!recorder.ok) return noEnergy(recorder.reason, recorder.message);
      const second = await startWitness(discovery, recorder.value);
      const witness =
        second === null ? await startCalibrated(host, recorder.value, task.calibrations) : { recorder: second, calibration: null };
      return measureEnergy(session, recorder.value, { relativeHalfWidth: plan.energyRelativeHalfWidth, clock: systemClock, witness });
    },
  });
}

/** A provider that cannot run an operator leaves it to the CPU without a word; its own profile tells. */
async function withObtained(runtime: Runtime, model: ModelUnderTest, { plan }: MeasureTask): Promise<Outcome<Runtime>> {
  const { identity } = runtime;
  if (identity.providerAsked === 'cpu' || identity.providerAsked === 'wasm') return ok(runtime);
  const profile = await profileModel(model, runtime, plan.intraOpThreads);
  if (!profile.ok) return profile;
  return ok({ ...runtime, identity: { ...identity, providerObtained: providersOf(profile.value, identity.providerAsked) } });
}

async function runCompare({ sources, runtime: name, threads, budgetMs }: CompareTask): Promise<Outcome<ProcessRounds>> {
  const models: ModelUnderTest[] = [];
  for (const source of sources) {
    const model = readModel(source);
    if (!model.ok) return model;
    models.push(model.value);
  }
  const runtime = await loadRuntime(name);
  if (!runtime.ok) return runtime;
  return interleave(models, threads, budgetMs, { runtime: runtime.value, clock: systemClock, random: Math.random });
}

async function runProfile({ source, runtime: name, threads }: ProfileTask): Promise<Outcome<Profile>> {
  const model = readModel(source);
  if (!model.ok) return model;
  const runtime = await loadRuntime(name);
  return runtime.ok ? profileModel(model.value, runtime.value, threads) : runtime;
}

async function runTask(task: RunnerTask): Promise<Outcome<unknown>> {
  try {
    switch (task.kind) {
      case 'measure':
        return await runMeasure(task);
      case 'compare':
        return await runCompare(task);
      case 'profile':
        return await runProfile(task);
    }
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
