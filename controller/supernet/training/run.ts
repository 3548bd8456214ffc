// The training loop, read top to bottom: phase after phase, each from the best weights of the one before. Killed at any moment and started
// again, it ends with bitwise the same weights (at equal backend, threads and CPU model).
import * as tf from '@tensorflow/tfjs';
import { ok, type Outcome } from '@ofa-fleet/shared/outcome.ts';
import { canonicalJson, type Space } from '../../space.ts';
import type { Dataset } from '../data/dataset.ts';
import { parametersOf } from '../parameters.ts';
import type { PlainTensor } from '../safetensors.ts';
import { sortChannels } from '../sorting.ts';
import { createBatches } from './batches.ts';
import type { Phase } from './phases.ts';
import { remainingCost, type Plan, type PlannedPhase } from './plan.ts';
import type { Recipe } from './recipe.ts';
import { rehearse } from './rehearsal.ts';
import { machineText, prepareFolder, readBest, readState, writeBest, writeState, type Machine, type Position } from './run-state.ts';
import { learningRate, validationInterval } from './schedule.ts';
import type { Scorer } from './scorer.ts';
import { trainStep, type Trainee } from './step.ts';
import { teacherExitWeights, teacherPhase, type Teacher } from './teacher.ts';
import { dispose, toPlain, toTensors } from './tensors.ts';
import { mean, meanAccuracy, validationTrunks } from './validation.ts';

/** What is trained, by what, from where. */
export interface Course {
  readonly space: Space;
  readonly recipe: Recipe;
  readonly phases: readonly Phase[];
  readonly dataset: Dataset;
  readonly seed: number;
  readonly plan: Plan;
  readonly score: Scorer;
  /** Weights before the first step. */
  readonly initial: () => ReadonlyMap<string, PlainTensor>;
  /** Names that may be trained. */
  readonly trained: readonly string[];
  /** What else makes this run another one; a folder that holds a run of other settings is refused. */
  readonly settings: Readonly<Record<string, unknown>>;
}

export interface RunControl {
  /** Where the run keeps its state, and finds it again. */
  readonly folder: string;
  readonly machine: Machine;
  /** Called before the first step of this process; seconds for each multiply-accumulate of the plan (null: no step is left to measure). */
  readonly onPlan?: (plan: Plan, secondsPerCost: number | null) => void;
  readonly onProgress?: (progress: Progress) => void;
  /** One sentence about something that does not stop the run, but that its user should know. */
  readonly onWarning?: (sentence: string) => void;
  /** Aborted: the state is kept after the step (or the batch of images being scored) under way, and the run returns null. */
  readonly signal?: AbortSignal;
  /** Steps between two written states. */
  readonly stateEverySteps?: number;
}

export interface Progress {
  readonly phase: string;
  readonly phaseNumber: number;
  readonly phases: number;
  /** Steps done in the phase, and its steps. */
  readonly step: number;
  readonly steps: number;
  readonly loss: number;
  /** Training images (each passes through the teacher and one to four subnets); time spent validating left out. */
  readonly imagesPerSecond: number;
  /** To the end of the whole run; rough, since phases differ in cost. */
  readonly etaSeconds: number;
  /** Mean validation accuracy where this report follows a validation, else null. */
  readonly validation: number | null;
}

export interface Finished {
  /** The last phase's best. */
  readonly weights: ReadonlyMap<string, PlainTensor>;
  readonly position: Position;
}

const DEFAULT_STATE_EVERY_STEPS = 100;
const REPORT_EVERY_STEPS = 10;

/** null where the signal ended it early; the same call goes on from there. */
export async function runPhases(course: Course, control: RunControl): Promise<Outcome<Finished | null>> {
  const { space, recipe, phases, dataset, seed, plan, score } = course;
  const { folder, machine, signal } = control;
  const prepared = prepareFolder(folder);
  if (!prepared.ok) return prepared;
  const settings = canonicalJson(course.settings);
  const found = readState(folder, settings);
  if (!found.ok) return found;

  let position: Position = found.value?.position ?? {
    settings,
    phase: 0,
    step: 0,
    best: null,
    validationDue: false,
    startedAt: new Date().toISOString(),
    trainingSeconds: 0,
    machines: [machine],
  };
  const before = position.machines.at(-1) as Machine;
  if (machineText(before) !== machineText(machine)) {
    control.onWarning?.(
      `This run began on ${machineText(before)} and goes on with ${machineText(machine)}: its weights will not be bitwise those of a run on one of them.`,
    );
    const others = position.machines.filter((known) => machineText(known) !== machineText(machine));
    position = { ...position, machines: [...others, machine] };
  }
  const trainee: Trainee = {
    space,
    recipe,
    trained: course.trained,
    kinds: new Map(parametersOf(space).map(({ name, kind }) => [name, kind])),
    weights: toTensors(found.value?.weights ?? course.initial()),
    momenta: toTensors(found.value?.momenta ?? new Map<string, PlainTensor>()),
  };
  const { weights, momenta } = trainee;
  const batchOf = createBatches(space, recipe, dataset.train, seed);
  let accountedAt = performance.now();
  const saveState = () => {
    const now = performance.now();
    position = { ...position, trainingSeconds: position.trainingSeconds + (now - accountedAt) / 1000 };
    accountedAt = now;
    return writeState(folder, { position, weights: toPlain(weights), momenta: toPlain(momenta) });
  };
  /** Keeps the weights where they score best in their phase; the mean accuracy, or null where `signal` aborted: then it is still due. */
  const validate = async (phase: Phase): Promise<Outcome<number | null>> => {
    const validation = await meanAccuracy(weights, space, recipe, phase, validationTrunks(space, recipe, phase, seed), score);
    if (validation === null) return ok(null);
    if (position.best === null || validation > position.best) {
      const kept = writeBest(folder, position.phase, phase.name, toPlain(weights));
      if (!kept.ok) return kept;
      position = { ...position, best: validation };
    }
    position = { ...position, validationDue: false };
    return ok(validation);
  };
  const end = (): void => {
    dispose(weights);
    dispose(momenta);
  };

  let planned = false;
  let costDone = 0;
  let begunAt = performance.now();
  for (; position.phase < phases.length; position = { ...position, phase: position.phase + 1, step: 0, best: null }) {
    const row = plan.phases[position.phase] as PlannedPhase;
    const { phase, steps } = row;
    const interval = validationInterval(steps, plan.stepsPerEpoch, recipe.validation.timesPerPhase);

    // Start from the previous phase's best weights, sorted where widths are about to shrink.
    if (position.phase > 0 && position.step === 0) {
      const best = bestOf(course, folder, position.phase - 1, position.phase);
      if (!best.ok) return best;
      replace(weights, best.value);
    }
    if (position.step === 0) {
      dispose(momenta);
      momenta.clear();
    }
    const teacher = readTeacher(course, folder, position.phase);
    if (!teacher.ok) return teacher;

    if (!planned && control.onPlan !== undefined) {
      control.onPlan(plan, await rehearse(trainee, row, (step) => batchOf(phase, step), teacher.value, seed));
      begunAt = accountedAt = performance.now();
    }
    planned = true;

    if (position.validationDue) {
      const validated = await validate(phase);
      if (!validated.ok) return validated;
      if (validated.value === null) return ok(null);
      const saved = saveState();
      if (!saved.ok) return saved;
    }

    let clock = performance.now();
    let validationMs = 0;
    let losses: number[] = [];
    let stepsTimed = 0;
    while (position.step < steps) {
      const { step } = position;
      const batch = batchOf(phase, step);
      losses.push(...(await trainStep(trainee, phase, step, batch, teacher.value, learningRate(phase.rate, step, row), seed)));
      tf.dispose([batch.x, batch.targets]);
      position = { ...position, step: step + 1 };
      stepsTimed++;
      costDone += row.stepCost;

      // The state comes first, since validating takes long and may be stopped.
      let validation: number | null = null;
      if (position.step === steps || position.step % interval === 0) {
        const begun = performance.now();
        position = { ...position, validationDue: true };
        const saved = saveState();
        if (!saved.ok) return saved;
        const validated = await validate(phase);
        if (!validated.ok) return validated;
        validation = validated.value;
        validationMs += performance.now() - begun;
        costDone += row.validationCost;
      }
      const stopping = signal?.aborted === true;
      const writing = stopping || validation !== null || position.step % (control.stateEverySteps ?? DEFAULT_STATE_EVERY_STEPS) === 0;
      if (writing || position.step % REPORT_EVERY_STEPS === 0) {
        const now = performance.now();
        control.onProgress?.({
          phase: phase.name,
          phaseNumber: position.phase + 1,
          phases: phases.length,
          step: position.step,
          steps,
          loss: mean(losses),
          imagesPerSecond: (recipe.batch * stepsTimed * 1000) / (now - clock - validationMs),
          etaSeconds: ((now - begunAt) / 1000 / costDone) * remainingCost(plan, position.phase, position.step),
          validation,
        });
        clock = now;
        validationMs = 0;
        stepsTimed = 0;
        losses = [];
      }
      if (writing) {
        const saved = saveState();
        if (!saved.ok) return saved;
      }
      if (stopping) {
        end();
        return ok(null);
      }
      await new Promise(setImmediate); // lets signals and other work in
    }
    if (teacher.value !== null) dispose(teacher.value.weights);
  }

  if (!planned) control.onPlan?.(plan, null);
  end();
  const lastPhase = phases.length - 1;
  const best = readBest(folder, lastPhase, (phases[lastPhase] as Phase).name);
  return best.ok ? ok({ weights: best.value, position }) : best;
}

function replace(weights: Trainee['weights'], by: ReadonlyMap<string, PlainTensor>): void {
  dispose(weights);
  for (const [name, tensor] of toTensors(by)) weights.set(name, tensor);
}

/** Best weights of phase `from` for phase `to`, which starts by sorting channels where it shrinks widths; those that were elastic before keep their prefixes. */
function bestOf({ space, phases }: Course, folder: string, from: number, to: number): Outcome<ReadonlyMap<string, PlainTensor>> {
  const source = phases[from] as Phase;
  const best = readBest(folder, from, source.name);
  if (!best.ok || (phases[to] as Phase).kind !== 'width') return best;
  return ok(sortChannels(space, best.value, source.kind === 'width' ? source.choices.expands : []));
}

/** The teacher of the phase; null where it has none. A progressively extracted one is the net that the phase starts from. */
function readTeacher(course: Course, folder: string, phase: number): Outcome<Teacher | null> {
  const { space, recipe, phases } = course;
  const from = teacherPhase(recipe, phases, phase);
  if (from === null) return ok(null);
  const best = bestOf(course, folder, from, phase);
  if (!best.ok) return best;
  return ok({ weights: toTensors(best.value), exitWeights: teacherExitWeights(space, recipe, phases[from] as Phase) });
}
