// Trains a supernet from nothing to the last phase of progressive shrinking: one loop, read top to bottom. Killed at any moment and
// started again, it ends with bitwise the same weights (at equal backend, threads and CPU model).
import { cpus } from 'node:os';
import { join } from 'node:path';
import * as tf from '@tensorflow/tfjs';
import { failed, ok, type Outcome } from '@ofa-fleet/shared/outcome.ts';
import { canonicalJson, type Space } from '../../space.ts';
import { largestSubnet, smallestSubnet, uniformSubnet, type Subnet } from '../../subnet.ts';
import type { Backend } from '../backend.ts';
import { writeCheckpoint, type Checkpoint, type Provenance } from '../checkpoint.ts';
import { permutation, type Dataset } from '../data/dataset.ts';
import type { View } from '../data/preprocess.ts';
import { initialValue, isTrained, parametersOf } from '../parameters.ts';
import type { PlainTensor } from '../safetensors.ts';
import { sortChannels } from '../sorting.ts';
import { forward, type Mode, type Pass } from '../supernet.ts';
import { distillationLoss, ensembleTarget, jointLoss, smoothedTargets } from './distill.ts';
import { lossAndGradients } from './gradients.ts';
import { drawSubnet, phasesOf, validationSubnets, type Phase } from './phases.ts';
import { randomStream, streamSeed } from './random.ts';
import type { Recipe } from './recipe.ts';
import { prepareFolder, readBest, readState, writeBest, writeState, type Position } from './run-state.ts';
import { accuracyOf, calibratedStatistics, disposeStatistics, inputOf } from './score.ts';
import { sgdStep } from './sgd.ts';

export interface TrainOptions {
  readonly space: Space;
  readonly recipe: Recipe;
  readonly dataset: Dataset;
  /** As `selectBackend` gave it; already selected in this process. */
  readonly backend: Backend;
  readonly seed: number;
  /** Multiplies the length of every phase; 1 = the recipe's own. */
  readonly scale: number;
  /** Where the run keeps its state (and finds it again) and leaves `supernet.safetensors`. */
  readonly folder: string;
  /** What the user typed, for the provenance. */
  readonly command: string;
  readonly onProgress?: (progress: Progress) => void;
  /** Aborted: the state is kept after the step (or the batch of images being scored) under way, and `train` returns null. */
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

type Tensors = Map<string, tf.Tensor>;

const DEFAULT_STATE_EVERY_STEPS = 100;
const REPORT_EVERY_STEPS = 10;
const BATCH_NORM_MOMENTUM = 0.1;
/** Views of training images that recalibrate batch norms are drawn with the once-for-all code's seed. */
const CALIBRATION_SEED = 937162211;

/** The trained supernet, also in `folder`/supernet.safetensors; null where `signal` ended the run early. */
export async function train(options: TrainOptions): Promise<Outcome<Checkpoint | null>> {
  const { space, recipe, dataset, backend, seed, scale, folder, signal } = options;
  const misfit = misfitOf(space, recipe, dataset);
  if (misfit !== null) return failed('INVALID_INPUT', misfit);
  const prepared = prepareFolder(folder);
  if (!prepared.ok) return prepared;
  const parameters = parametersOf(space);
  const kinds = new Map(parameters.map(({ name, kind }) => [name, kind]));
  const trained = parameters.filter(isTrained).map(({ name }) => name);
  const phases = phasesOf(space, recipe);
  const largest = largestSubnet(space);
  const stepsPerEpoch = Math.floor(dataset.train.count / recipe.batch);
  const stepsOf = (epochs: number) => Math.round(epochs * scale * stepsPerEpoch);
  const lengths = phases.map(({ epochs, warmUpEpochs }) => Math.max(1, stepsOf(epochs) + stepsOf(warmUpEpochs)));

  const settings = canonicalJson({ space, recipe, data: dataset.sha256, seed, scale, backend: backend.name, threads: backend.threads });
  const found = readState(folder, settings);
  if (!found.ok) return found;

  let position: Position;
  let weights: Tensors;
  let momenta: Tensors = new Map();
  if (found.value === null) {
    position = { settings, phase: 0, step: 0, best: null, validationDue: false, startedAt: new Date().toISOString(), trainingSeconds: 0 };
    weights = toTensors(
      new Map(
        parameters.map((parameter) => {
          const random = randomStream(seed, 'initial', parameter.name);
          return [parameter.name, { shape: parameter.shape, data: initialValue(parameter, () => random.uniform()) }];
        }),
      ),
    );
  } else {
    position = found.value.position;
    weights = toTensors(found.value.weights);
    momenta = toTensors(found.value.momenta);
  }
  let accountedAt = performance.now();
  const saveState = () => {
    const now = performance.now();
    position = { ...position, trainingSeconds: position.trainingSeconds + (now - accountedAt) / 1000 };
    accountedAt = now;
    return writeState(folder, { position, weights: toPlain(weights), momenta: toPlain(momenta) });
  };

  const calibration = augmentedViews(
    dataset,
    recipe.shift,
    recipe.validation.calibrationImages,
    randomStream(CALIBRATION_SEED, 'calibration'),
  );
  const accuracy = async (subnet: Subnet, of: 'validation' | 'test', images: number): Promise<number | null> => {
    const statistics = await calibratedStatistics(weights, space, subnet, dataset.train, calibration, signal);
    if (statistics === null) return null;
    const score = await accuracyOf(weights, space, subnet, statistics, dataset[of], images, signal);
    disposeStatistics(statistics);
    return score;
  };
  /** Keeps the weights where they score best in their phase; the mean accuracy, or null where `signal` aborted: then it is still due. */
  const validate = async (phase: Phase): Promise<Outcome<number | null>> => {
    const scores: number[] = [];
    for (const subnet of validationSubnets(space, phase, recipe.validation.subnets, randomStream(seed, 'validation', phase.name))) {
      const score = await accuracy(subnet, 'validation', recipe.validation.images);
      if (score === null) return ok(null);
      scores.push(score);
    }
    const validation = mean(scores);
    if (position.best === null || validation > position.best) {
      const kept = writeBest(folder, position.phase, phase.name, toPlain(weights));
      if (!kept.ok) return kept;
      position = { ...position, best: validation };
    }
    position = { ...position, validationDue: false };
    return ok(validation);
  };

  for (; position.phase < phases.length; position = { ...position, phase: position.phase + 1, step: 0, best: null }) {
    const phase = phases[position.phase] as Phase;
    const steps = lengths[position.phase] as number;

    // Start from the previous phase's best weights, sorted where widths are about to shrink; they are also the teacher.
    let teacher: Tensors | null = null;
    if (position.phase > 0) {
      const previous = phases[position.phase - 1] as Phase;
      const best = readBest(folder, position.phase - 1, previous.name);
      if (!best.ok) return best;
      const alreadyElastic = previous.kind === 'width' ? previous.choices.expands : [];
      teacher = toTensors(phase.kind === 'width' ? sortChannels(space, best.value, alreadyElastic) : best.value);
      if (position.step === 0) {
        dispose(weights);
        weights = new Map([...teacher].map(([name, tensor]) => [name, tensor.clone()]));
      }
    }
    if (position.step === 0) {
      dispose(momenta);
      momenta = new Map();
    }

    if (position.validationDue) {
      const validated = await validate(phase);
      if (!validated.ok) return validated;
      if (validated.value === null) return ok(null);
      const saved = saveState();
      if (!saved.ok) return saved;
    }

    let order = new Uint32Array();
    let orderEpoch = -1;
    let clock = performance.now();
    let validationMs = 0;
    let losses: number[] = [];
    while (position.step < steps) {
      const { step } = position;
      const epoch = Math.floor(step / stepsPerEpoch);
      if (epoch !== orderEpoch) {
        order = permutation(dataset.train.count, streamSeed(seed, 'order', phase.name, epoch)) as typeof order;
        orderEpoch = epoch;
      }
      const indices = order.subarray((step % stepsPerEpoch) * recipe.batch, ((step % stepsPerEpoch) + 1) * recipe.batch);
      const views = augment(indices, recipe.shift, randomStream(seed, 'augmentation', phase.name, step));
      const resolution = randomStream(seed, 'resolution', phase.name, step).of(space.resolutions);
      const x = inputOf(dataset.train, views, space, resolution);
      const targets = smoothedTargets(
        Uint8Array.from(indices, (i) => dataset.train.labels[i] as number),
        space.classes,
        recipe.labelSmoothing,
      );

      // The teacher sees the same batch, with its statistics; its own running statistics stay as they are.
      const target = teacher === null ? null : teach(teacher, space, { ...largest, resolution }, x);

      const subnets = randomStream(seed, 'subnets', phase.name, step);
      const gradients = new Map<string, tf.Tensor>();
      for (let i = 0; i < phase.subnetsPerStep; i++) {
        const subnet = phase.kind === 'full' ? { ...largest, resolution } : drawSubnet(phase.choices, resolution, subnets);
        const mode: Mode = { kind: 'train', dropout: dropoutMasks(phase.dropout, randomStream(seed, 'dropout', phase.name, step, i)) };
        let pass: Pass | null = null;
        const result = lossAndGradients(weights, trained, () => {
          pass = forward(weights, space, subnet, x, mode, target === null ? 'all' : 'own');
          return target === null ? jointLoss(targets, pass.logits) : distillationLoss(target, targets, pass.logits[0] as tf.Tensor2D);
        });
        losses.push((await result.loss.data<'float32'>())[0] as number);
        result.loss.dispose();
        addTo(gradients, result.gradients);
        updateStatistics(weights, (pass as unknown as Pass).statistics);
      }
      sgdStep(weights, momenta, gradients, kinds, learningRate(phase, step, steps, stepsOf(phase.warmUpEpochs)), recipe);
      tf.dispose([x, targets, ...(target === null ? [] : [target]), ...gradients.values()]);
      position = { ...position, step: step + 1 };

      // After every epoch and at the end of the phase; the state comes first, since validating takes long and may be stopped.
      let validation: number | null = null;
      if (position.step === steps || position.step % stepsPerEpoch === 0) {
        const begun = performance.now();
        position = { ...position, validationDue: true };
        const saved = saveState();
        if (!saved.ok) return saved;
        const validated = await validate(phase);
        if (!validated.ok) return validated;
        validation = validated.value;
        validationMs += performance.now() - begun;
      }
      const stopping = signal?.aborted === true;
      const writing = stopping || validation !== null || position.step % (options.stateEverySteps ?? DEFAULT_STATE_EVERY_STEPS) === 0;
      if (writing || position.step % REPORT_EVERY_STEPS === 0) {
        const elapsedMs = performance.now() - clock;
        clock = performance.now();
        const stepSeconds = (elapsedMs - validationMs) / 1000 / (losses.length / phase.subnetsPerStep);
        validationMs = 0;
        options.onProgress?.({
          phase: phase.name,
          phaseNumber: position.phase + 1,
          phases: phases.length,
          step: position.step,
          steps,
          loss: mean(losses),
          imagesPerSecond: recipe.batch / stepSeconds,
          etaSeconds: stepSeconds * remainingSteps(phases, lengths, position),
          validation,
        });
        losses = [];
      }
      if (writing) {
        const saved = saveState();
        if (!saved.ok) return saved;
      }
      if (stopping) return ok(null);
      await new Promise(setImmediate); // lets signals and other work in
    }
    if (teacher !== null) dispose(teacher);
  }

  const lastPhase = phases.length - 1;
  const best = readBest(folder, lastPhase, (phases[lastPhase] as Phase).name);
  if (!best.ok) return best;
  dispose(weights);
  weights = toTensors(best.value);
  const perExit = async (net: Subnet) => {
    const [[gene]] = net.stages as [[Subnet['stages'][number][number]]];
    const heights = space.exits === 'early' ? space.stages.map((_, s) => s + 1) : [space.stages.length];
    const depth = (net.stages[0] as readonly unknown[]).length;
    const scores: { exit: number; resolution: number; accuracy: number }[] = [];
    for (const stages of heights) {
      const subnet = uniformSubnet(space, { resolution: net.resolution, ...gene, depth, stages });
      const score = await accuracy(subnet, 'test', dataset.test.count);
      if (score === null) return null;
      scores.push({ exit: stages, resolution: net.resolution, accuracy: score });
    }
    return scores;
  };
  const ofLargest = await perExit(largest);
  const ofSmallest = ofLargest === null ? null : await perExit(smallestSubnet(space));
  if (ofLargest === null || ofSmallest === null) return ok(null); // the last state leads here again
  const provenance: Provenance = {
    command: options.command,
    seed,
    scale,
    data: {
      name: dataset.name,
      sha256: dataset.sha256,
      trainingImages: dataset.train.count,
      validationImages: dataset.validation.count,
      testImages: dataset.test.count,
    },
    backend: backend.name,
    threads: backend.threads,
    cpu: cpus()[0]?.model.trim() ?? 'unknown',
    node: process.version,
    startedAt: position.startedAt,
    finishedAt: new Date().toISOString(),
    trainingSeconds: Math.round(position.trainingSeconds),
    accuracy: { largest: ofLargest, smallest: ofSmallest },
  };
  const checkpoint: Checkpoint = { space, tensors: toPlain(weights), recipe, provenance };
  dispose(weights);
  dispose(momenta);
  const written = writeCheckpoint(join(folder, 'supernet.safetensors'), checkpoint);
  return written.ok ? ok(checkpoint) : written;
}

/** Why these images cannot train this space, or null. */
function misfitOf(space: Space, recipe: Recipe, { name, train: images }: Dataset): string | null {
  if (images.channels !== space.inputChannels) {
    return `The images of ${name} have ${images.channels} channel(s), space ${space.name} takes ${space.inputChannels}; change its inputChannels, mean and std.`;
  }
  if (images.classes > space.classes) {
    return `${name} has labels up to ${images.classes - 1}, space ${space.name} has ${space.classes} classes; set its classes to ${images.classes}.`;
  }
  if (images.count < recipe.batch) {
    return `${name} has ${images.count} training images, one batch of recipe ${recipe.name} needs ${recipe.batch}: give more images.`;
  }
  return null;
}

/** Constant during the warm-up, then half a cosine down to 0. */
function learningRate(phase: Phase, step: number, steps: number, warmUpSteps: number): number {
  if (step < warmUpSteps) return phase.rate;
  return 0.5 * phase.rate * (1 + Math.cos((Math.PI * (step - warmUpSteps)) / Math.max(1, steps - warmUpSteps)));
}

function teach(teacher: Tensors, space: Space, largest: Subnet, x: tf.Tensor4D): tf.Tensor2D {
  let statistics: Pass['statistics'] = new Map();
  const target = tf.tidy(() => {
    const pass = forward(teacher, space, largest, x, { kind: 'batch' }, 'all');
    ({ statistics } = pass);
    return ensembleTarget(pass.logits);
  });
  disposeStatistics(statistics);
  return target;
}

/** Running statistics of each active prefix move a tenth of the way to the batch's mean and unbiased variance. Disposes of the batch's. */
function updateStatistics(weights: Tensors, statistics: Pass['statistics']): void {
  for (const [name, { mean: batchMean, variance, count }] of statistics) {
    const unbiased = count / Math.max(1, count - 1);
    for (const [key, value, factor] of [
      [`${name}.mean`, batchMean, 1],
      [`${name}.variance`, variance, unbiased],
    ] as const) {
      const running = weights.get(key) as tf.Tensor1D;
      const updated = tf.tidy(() => {
        const active = value.shape[0];
        const head = tf.slice(running, [0], [active]);
        const moved = tf.add(tf.mul(head, 1 - BATCH_NORM_MOMENTUM), tf.mul(value, BATCH_NORM_MOMENTUM * factor));
        return active === running.shape[0] ? moved : tf.concat([moved, tf.slice(running, [active], [-1])]);
      });
      weights.set(key, updated);
      tf.dispose([running, value]);
    }
  }
}

function dropoutMasks(rate: number, random: { uniform(): number }): (shape: [number, number]) => tf.Tensor2D | null {
  if (rate === 0) return () => null;
  return ([rows, columns]) =>
    tf.tensor2d(
      Float32Array.from({ length: rows * columns }, () => (random.uniform() < rate ? 0 : 1 / (1 - rate))),
      [rows, columns],
    );
}

/** Adds and disposes of `more`. */
function addTo(sums: Map<string, tf.Tensor>, more: ReadonlyMap<string, tf.Tensor>): void {
  for (const [name, gradient] of more) {
    const sum = sums.get(name);
    sums.set(name, sum === undefined ? gradient : tf.add(sum, gradient));
    if (sum !== undefined) tf.dispose([sum, gradient]);
  }
}

function augment(indices: Uint32Array, shift: number, random: ReturnType<typeof randomStream>): View[] {
  return Array.from(indices, (index) => ({
    index,
    shiftX: random.integer(-shift, shift),
    shiftY: random.integer(-shift, shift),
    flip: random.integer(0, 1) === 1,
  }));
}

function augmentedViews(dataset: Dataset, shift: number, count: number, random: ReturnType<typeof randomStream>): View[] {
  const indices = permutation(dataset.train.count, CALIBRATION_SEED).subarray(0, count);
  return augment(indices, shift, random);
}

/** Steps to go, those of later phases weighed by their subnets a step (a subnet is about half the largest net, the teacher a third). */
function remainingSteps(phases: readonly Phase[], lengths: readonly number[], position: Position): number {
  const cost = ({ kind, subnetsPerStep }: Phase) => (kind === 'full' ? 1 : 0.3 + 0.5 * subnetsPerStep);
  const here = cost(phases[position.phase] as Phase);
  return phases.reduce((sum, phase, i) => {
    if (i < position.phase) return sum;
    const steps = (lengths[i] as number) - (i === position.phase ? position.step : 0);
    return sum + (steps * cost(phase)) / here;
  }, 0);
}

function mean(values: readonly number[]): number {
  return values.reduce((sum, value) => sum + value, 0) / values.length;
}

function toTensors(plain: ReadonlyMap<string, PlainTensor>): Tensors {
  return new Map([...plain].map(([name, { shape, data }]) => [name, tf.tensor(data, [...shape])]));
}

function toPlain(tensors: ReadonlyMap<string, tf.Tensor>): Map<string, PlainTensor> {
  return new Map([...tensors].map(([name, tensor]) => [name, { shape: tensor.shape, data: Float32Array.from(tensor.dataSync()) }]));
}

function dispose(tensors: Tensors): void {
  tf.dispose([...tensors.values()]);
}
