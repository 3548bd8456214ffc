// What the published code gets wrong, or leaves to chance, in teaching, scoring and choosing; on whole runs of a tiny supernet.
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import * as tf from '@tensorflow/tfjs';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { Space } from '../../../controller/space.ts';
import { largestSubnet } from '../../../controller/subnet.ts';
import { selectBackend, type Backend } from '../../../controller/supernet/backend.ts';
import { weightsHash, type Checkpoint } from '../../../controller/supernet/checkpoint.ts';
import type { Dataset } from '../../../controller/supernet/data/dataset.ts';
import { isTrained, parametersOf, type ParameterKind } from '../../../controller/supernet/parameters.ts';
import type { PlainTensor } from '../../../controller/supernet/safetensors.ts';
import { sortChannels } from '../../../controller/supernet/sorting.ts';
import { forward } from '../../../controller/supernet/supernet.ts';
import { createBatches } from '../../../controller/supernet/training/batches.ts';
import { phasesOf, type Phase } from '../../../controller/supernet/training/phases.ts';
import { planLines, planOf, remainingCost } from '../../../controller/supernet/training/plan.ts';
import type { PhaseSettings, Recipe } from '../../../controller/supernet/training/recipe.ts';
import { RECIPES } from '../../../controller/supernet/training/recipes.ts';
import { readBest } from '../../../controller/supernet/training/run-state.ts';
import { updateStatistics } from '../../../controller/supernet/training/running-statistics.ts';
import { calibratedStatistics } from '../../../controller/supernet/training/score.ts';
import { trainStep, type Trainee } from '../../../controller/supernet/training/step.ts';
import { teach, teacherExitWeights, teacherPhase } from '../../../controller/supernet/training/teacher.ts';
import { meanAccuracy } from '../../../controller/supernet/training/validation.ts';
import { train, type TrainOptions } from '../../../controller/supernet/training/train.ts';
import { trunksOf, validationSubnets } from '../../../controller/supernet/training/uniform-settings.ts';
import { randomStream } from '../../../controller/supernet/training/random.ts';
import { madeDataset } from '../../helpers/made-dataset.ts';
import { value } from '../../helpers/outcome.ts';
import { randomInput, randomTensors, TINY, toWeights } from './tiny.ts';

const RECIPE: Recipe = {
  ...(RECIPES['fashion-tiny'] as Recipe),
  batch: 8,
  validation: { subnets: 4, images: 24, calibrationImages: 16, timesPerPhase: 1 },
  test: { settings: 16, images: 24 },
};
const SPACE: Space = { ...TINY, kernels: [3, 5], expands: [2, 3], depths: [1, 2], resolutions: [6, 8] };
const bytes = (tensor: tf.Tensor | undefined) => Array.from(tensor?.dataSync() ?? []);

let backend: Backend;
let folder: string;
beforeAll(async () => {
  backend = await selectBackend({ purpose: 'training', only: 'cpu' });
  folder = mkdtempSync(join(tmpdir(), 'method-'));
});
afterAll(() => rmSync(folder, { recursive: true }));

function options(name: string, changes: Partial<TrainOptions> = {}): TrainOptions {
  return {
    space: SPACE,
    recipe: RECIPE,
    dataset: madeDataset(),
    backend,
    seed: 3,
    scale: 0.3,
    folder: join(folder, name),
    command: 'test',
    ...changes,
  };
}

async function trained(name: string, changes: Partial<TrainOptions> = {}): Promise<Checkpoint> {
  const checkpoint = value(await train(options(name, changes)));
  if (checkpoint === null) throw new Error('stopped');
  return checkpoint;
}

function traineeOf(space: Space, recipe: Recipe): Trainee {
  const parameters = parametersOf(space);
  return {
    space,
    recipe,
    trained: parameters.filter(isTrained).map(({ name }) => name),
    kinds: new Map<string, ParameterKind>(parameters.map(({ name, kind }) => [name, kind])),
    weights: toWeights(randomTensors(space, 1)),
    momenta: new Map(),
  };
}

describe('the teacher', () => {
  const phases = phasesOf(TINY, RECIPES['ofav2'] as Recipe);
  const names = phases.map(({ name }) => name);
  const withDistillation = (changes: Partial<Recipe['distillation']>): Recipe => ({
    ...RECIPE,
    distillation: { ...RECIPE.distillation, ...changes },
  });

  it('is the full net throughout when fixed, the phase before when progressively extracted, nobody in the full phase', () => {
    const sources = (teacher: 'pet' | 'fixed') =>
      phases.map((_, i) => {
        const from = teacherPhase(withDistillation({ teacher }), phases, i);
        return from === null ? null : names[from];
      });
    expect(sources('fixed')).toEqual([null, 'full', 'full', 'full', 'full', 'full', 'full']);
    expect(sources('pet')).toEqual([null, ...names.slice(0, -1)]);
  });

  it('answers by all exits, or, where asked, by those that the phase before trained', () => {
    const [full, kernel, height] = phases as [Phase, Phase, Phase];
    expect(teacherExitWeights(TINY, RECIPE, kernel)).toEqual([1 / 3, 2 / 3]);
    const restricted = withDistillation({ trainedExitsOnly: true });
    expect(teacherExitWeights(TINY, restricted, full)).toEqual([1 / 3, 2 / 3]);
    expect(teacherExitWeights(TINY, restricted, kernel)).toEqual([0, 1]);
    expect(teacherExitWeights(TINY, restricted, height)).toEqual([1 / 3, 2 / 3]);
  });

  it('normalises by the batch, drops nothing, sums logits, and stays bitwise as it is', () => {
    const weights = toWeights(randomTensors(TINY, 1));
    const before = new Map([...weights].map(([name, tensor]) => [name, bytes(tensor)]));
    const x = randomInput(6, 9, 2);
    const target = bytes(teach({ weights, exitWeights: [1 / 3, 2 / 3] }, TINY, RECIPE, 9, x));
    expect(bytes(teach({ weights, exitWeights: [1 / 3, 2 / 3] }, TINY, RECIPE, 9, x))).toEqual(target);
    const { logits } = forward(weights, TINY, { ...largestSubnet(TINY), resolution: 9 }, x, { kind: 'batch' }, 'all');
    const [one, two] = logits as [tf.Tensor2D, tf.Tensor2D];
    bytes(tf.softmax(tf.add(tf.mul(one, 1 / 3), tf.mul(two, 2 / 3)))).forEach((p, i) => expect(target[i]).toBeCloseTo(p, 6));
    const moved = toWeights(randomTensors(TINY, 1));
    for (const [name, tensor] of moved) if (/\.(mean|variance)$/.test(name)) moved.set(name, tf.add(tensor, 5));
    expect(bytes(teach({ weights: moved, exitWeights: [1 / 3, 2 / 3] }, TINY, RECIPE, 9, x))).toEqual(target); // running statistics do not count
    for (const [name, tensor] of weights) expect(bytes(tensor)).toEqual(before.get(name));
  });

  it('is stated in the metadata', async () => {
    const { provenance, recipe } = await trained('metadata', { scale: 0.01 });
    expect(provenance?.teacher).toMatch(/batch statistics, no dropout, running statistics untouched; weighted sum of logits/);
    expect(recipe).toMatchObject({ distillation: RECIPE.distillation });
  });
});

describe('one step', () => {
  it('moves only what its subnets use: in the kernel phase no early exit, and nothing is decayed unseen', async () => {
    const trainee = traineeOf(TINY, { ...RECIPE, weightDecay: 0.1 });
    const before = new Map([...trainee.weights].map(([name, tensor]) => [name, bytes(tensor)]));
    const kernel = phasesOf(TINY, RECIPE)[1] as Phase;
    const batch = createBatches(TINY, RECIPE, madeDataset().train, 1)(kernel, 0);
    await trainStep(trainee, kernel, 0, batch, null, 0.1, 1);
    const changed = (name: string) => bytes(trainee.weights.get(name)).some((v, i) => v !== before.get(name)?.[i]);
    const names = [...trainee.weights.keys()];
    expect(names.filter((name) => name.startsWith('exits.0.') && changed(name))).toEqual([]);
    expect(names.filter((name) => name.startsWith('exits.1.') && !changed(name))).toEqual([]);
  });

  it('of a sandwich trains the largest by all exits, the smallest and random ones by its answer; no tensor is left over', async () => {
    const recipe: Recipe = { ...RECIPE, phases: (RECIPES['sandwich'] as Recipe).phases };
    const trainee = traineeOf(TINY, recipe);
    const phase = phasesOf(TINY, recipe)[0] as Phase;
    const batchOf = createBatches(TINY, recipe, madeDataset().train, 1);
    const run = async (step: number) => {
      const batch = batchOf(phase, step);
      const losses = await trainStep(trainee, phase, step, batch, null, 0.01, 1);
      tf.dispose([batch.x, batch.targets]);
      return losses;
    };
    // A parameter's momentum comes with its first gradient; nothing else may stay.
    let losses = await run(0);
    const others = () => tf.memory().numTensors - trainee.momenta.size;
    const before = others();
    for (let step = 1; step < 4; step++) losses = await run(step);
    expect(losses.length).toBe(4);
    expect(losses.every(Number.isFinite)).toBe(true);
    expect([...trainee.momenta.keys()].filter((name) => name.startsWith('exits.0.')).length).toBeGreaterThan(0);
    expect(others()).toBe(before);
  });
});

describe('statistics', () => {
  it('run with momentum 0.1 and unbiased variance, on the active prefix alone', () => {
    const weights = new Map<string, tf.Tensor>([
      ['n.mean', tf.tensor1d([1, 1, 1])],
      ['n.variance', tf.tensor1d([2, 2, 2])],
    ]);
    updateStatistics(weights, new Map([['n', { mean: tf.tensor1d([3, 5]), variance: tf.tensor1d([4, 8]), count: 5 }]]));
    [1.2, 1.4, 1].forEach((v, i) => expect(bytes(weights.get('n.mean'))[i]).toBeCloseTo(v, 6));
    [1.8 + 0.5, 1.8 + 1, 2].forEach((v, i) => expect(bytes(weights.get('n.variance'))[i]).toBeCloseTo(v, 6));
  });

  it('are recalibrated to biased variances averaged by batch size', async () => {
    const weights = toWeights(randomTensors(TINY, 1));
    const subnet = { ...largestSubnet(TINY), resolution: 9 };
    const set = madeDataset().train;
    const views = Array.from({ length: 88 }, (_, index) => ({ index }));
    const statistics = await calibratedStatistics(weights, TINY, subnet, set, views);
    const { x } = {
      x: tf.tensor4d(
        Float32Array.from(set.pixels.subarray(0, 88 * 81), (p) => (p / 255 - 0.3) / 0.4),
        [88, 9, 9, 1],
      ),
    };
    const y = tf.conv2d(x, weights.get('stem.weight') as tf.Tensor4D, 1, 'same');
    const { variance } = tf.moments(y, [0, 1, 2]); // divides by the count
    bytes(variance).forEach((v, i) => expect(bytes(statistics?.get('stem.norm')?.variance)[i]).toBeCloseTo(v, 4));
  });
});

it('recalibrated statistics weigh batches by their size, also where the last is smaller', async () => {
  const weights = toWeights(randomTensors(TINY, 1));
  const subnet = { ...largestSubnet(TINY), resolution: 9 };
  const set = madeDataset().train;
  const views = Array.from({ length: 150 }, (_, i) => ({ index: (7 * i) % 88 }));
  const [all, hundred, fifty] = await Promise.all(
    [views, views.slice(0, 100), views.slice(100)].map((some) => calibratedStatistics(weights, TINY, subnet, set, some)),
  );
  for (const [name, { mean, variance }] of all ?? []) {
    for (const [kind, got] of Object.entries({ mean, variance }) as ['mean' | 'variance', tf.Tensor1D][]) {
      const [a, b] = [hundred, fifty].map((part) => bytes(part?.get(name)?.[kind])) as [number[], number[]];
      bytes(got).forEach((v, i) => expect(v).toBeCloseTo((2 * (a[i] as number) + (b[i] as number)) / 3, 4));
    }
  }
  expect(all?.size).toBeGreaterThan(3);
});

describe('choosing', () => {
  it('asks for accuracies on validation images alone', async () => {
    const phase = phasesOf(SPACE, RECIPE).at(-1) as Phase;
    const asked: string[] = [];
    const accuracy = await meanAccuracy(
      new Map(),
      SPACE,
      RECIPE,
      phase,
      trunksOf(validationSubnets(SPACE, phase, 4, randomStream(0))),
      (_weights, _subnet, splits) => {
        asked.push(...splits.map(({ of }) => of));
        return Promise.resolve(splits.map(() => ({ exits: [0.25, 0.75], ensemble: 1 })));
      },
    );
    expect(new Set(asked)).toEqual(new Set(['validation']));
    expect(accuracy).toBeGreaterThan(0.2);
  });

  /** The same images with other pixels in one part. */
  const withOther = (part: 'validation' | 'test'): Dataset => {
    const dataset = madeDataset();
    return {
      ...dataset,
      [part]: { ...dataset[part], pixels: dataset[part].pixels.map((p) => 255 - p), labels: dataset[part].labels.map((l) => 2 - l) },
    };
  };

  it('never looks at test images: others change no weight and not the setting that is picked', async () => {
    const [one, other] = [await trained('one'), await trained('other test', { dataset: withOther('test') })];
    expect(weightsHash(other)).toBe(weightsHash(one));
    const genes = ({ provenance }: Checkpoint) => ({ ...provenance?.uniform?.picked, test: null });
    expect(genes(other)).toEqual(genes(one));
    expect(other.provenance?.uniform?.highest.test).not.toBe(one.provenance?.uniform?.highest.test);
  });

  it('recalibrates on training images only: other validation images change no weight where one validation leaves nothing to choose', async () => {
    const [one, other] = [await trained('one'), await trained('other validation', { dataset: withOther('validation') })];
    expect(weightsHash(other)).toBe(weightsHash(one));
    expect(other.provenance?.accuracy).toEqual(one.provenance?.accuracy);
  });

  it('sees each uniform setting once, and sums them up', async () => {
    const { provenance } = await trained('one');
    const uniform = provenance?.uniform;
    expect(uniform?.settings).toBe(16);
    expect(uniform?.lowest.test).toBeLessThanOrEqual(uniform?.meanTest ?? 0);
    expect(uniform?.highest.test).toBeGreaterThanOrEqual(uniform?.meanTest ?? 1);
  });
});

describe('channel sorting before the last width phase', () => {
  // Stages wide enough that squeeze-and-excitation has more hidden units the wider the block: 32, 40 and 64 for ratios of 3, 4 and 6.
  const wide: Space = {
    ...TINY,
    stem: { channels: 40, stride: 1 },
    stages: [{ channels: 40, stride: 2, activation: 'relu', squeezeExcite: true }],
    expands: [3, 4, 6],
    depths: [1, 2],
  };
  const tensors = randomTensors(wide, 4);
  const [units, channels] = [
    [32, 40, 64],
    [120, 160, 240],
  ] as const;
  type Tensors = ReadonlyMap<string, PlainTensor>;
  const hidden = (of: Tensors, b: number) => [...(of.get(`stages.0.${b}.squeeze.reduce.bias`)?.data ?? [])];
  const mids = (of: Tensors, b: number) => [...(of.get(`stages.0.${b}.squeeze.expand.bias`)?.data ?? [])];
  /** Sum of |weight| over what each hidden unit drives. */
  const importance = (of: Tensors, b: number) => {
    const { shape, data } = of.get(`stages.0.${b}.squeeze.expand.weight`) as PlainTensor;
    const outputs = shape[3] as number;
    return Array.from({ length: shape[2] as number }, (_, h) =>
      data.subarray(h * outputs, (h + 1) * outputs).reduce((sum, x) => sum + Math.abs(x), 0),
    );
  };
  const descends = (values: readonly number[]) => values.every((value, i) => i === 0 || value <= (values[i - 1] as number) + 1e-5);
  const sameSet = (a: readonly number[], b: readonly number[]) => expect([...a].sort()).toEqual([...b].sort());

  it('keeps the 4x prefix of channels and of hidden units, and puts the best of it first', () => {
    const sorted = sortChannels(wide, tensors, [4, 6]);
    for (const b of [0, 1]) {
      expect(hidden(sorted, b)).toHaveLength(units[2]);
      expect(hidden(sorted, b)).not.toEqual(hidden(tensors, b));
      sameSet(hidden(sorted, b).slice(0, units[1]), hidden(tensors, b).slice(0, units[1]));
      sameSet(mids(sorted, b).slice(0, channels[1]), mids(tensors, b).slice(0, channels[1]));
      const order = importance(sorted, b);
      expect(descends(order.slice(0, units[1])) && descends(order.slice(units[1]))).toBe(true);
      expect(descends(order)).toBe(false);
    }
  });

  it('keeps no prefix of hidden units as the published code does it, which is for comparison only', () => {
    const sorted = sortChannels(wide, tensors, [4, 6], { hiddenRings: false });
    for (const b of [0, 1]) {
      expect(hidden(sorted, b).slice(0, units[1]).sort()).not.toEqual(hidden(tensors, b).slice(0, units[1]).sort());
      expect(descends(importance(sorted, b))).toBe(true);
      sameSet(mids(sorted, b).slice(0, channels[1]), mids(tensors, b).slice(0, channels[1]));
    }
  });
});

it('resuming on another machine goes on, warns, and keeps both in the provenance', async () => {
  const warnings: string[] = [];
  const stop = new AbortController();
  await train({ ...options('moved', { signal: stop.signal, onProgress: () => stop.abort() }) });
  const moved = await trained('moved', { backend: { ...backend, name: 'wasm' }, onWarning: (sentence) => warnings.push(sentence) });
  expect(warnings).toHaveLength(1);
  expect(warnings[0]).toMatch(/^This run began on cpu, 1 thread\(s\), .* and goes on with wasm, 1 thread\(s\)/);
  expect(moved.provenance?.machines.map(({ backend: name }) => name)).toEqual(['cpu', 'wasm']);
});

describe('the plan', () => {
  const recipe: Recipe = { ...RECIPE, phases: (RECIPES['ofav2'] as Recipe).phases };
  const phases = phasesOf(SPACE, recipe);
  const plan = planOf(
    { space: SPACE, recipe, phases, seed: 0, scale: 1 },
    madeDataset(),
    trunksOf(validationSubnets(SPACE, phases.at(-1) as Phase, 32, randomStream(0))),
  );

  it('counts passes as steps times subnets, and the teacher apart', () => {
    const full = plan.phases[0]?.steps ?? 0;
    const others = plan.phases.slice(1);
    expect(full).toBe(180 * 11);
    expect(plan.imagePasses.subnets).toBe(8 * (full + others.reduce((sum, { steps, phase }) => sum + steps * phase.subnetsPerStep, 0)));
    expect(plan.imagePasses.teacher).toBe(8 * others.reduce((sum, { steps }) => sum + steps, 0));
  });

  it('has less and less left, down to the final test', () => {
    const left = plan.phases.map((_, i) => remainingCost(plan, i, 0));
    expect(left).toEqual([...left].sort((a, b) => b - a));
    expect(remainingCost(plan, plan.phases.length, 0)).toBe(plan.testCost);
  });

  it('says each phase, its steps, subnets and rate, and the time where it was measured', () => {
    const lines = planLines(plan, 1e-9);
    expect(lines.find((line) => line.startsWith('kernel'))).toMatch(/^kernel +1375 +55 +1 +0\.03 +1 +\d+ (s|min)$/);
    expect(lines.at(-1)).toMatch(/^About .* in all, of which .* for the final test: measured on the first steps/);
    const untimed = planLines(plan, null);
    expect(untimed.at(-2)).toMatch(/^Batches of 8, 11 steps an epoch/);
    // two kernels and two ratios a block, stages of one or two blocks, one or two stages: 20 + 20 ^ 2
    expect(untimed.at(-1)).toBe('One set of weights for 420 subnets at each of 2 resolutions.');
    expect(planLines({ ...plan, nets: 21_761_742_112_800_000_000n }, null).at(-1)).toMatch(/^One set of weights for 2\.18e19 subnets/);
    expect(planLines({ ...plan, nets: 1n }, null).at(-1)).toMatch(/^Batches/);
  });

  it('is given with a measured time before the first step, which it does not change', async () => {
    const seen: string[] = [];
    const watched = await trained('planned', {
      onPlan: (_plan, secondsPerCost) => seen.push(secondsPerCost !== null && secondsPerCost > 0 ? 'plan' : 'no time'),
      onProgress: () => seen.push('step'),
    });
    expect(seen.slice(0, 2)).toEqual(['plan', 'step']);
    expect(weightsHash(watched)).toBe(weightsHash(await trained('one')));
  });
});

describe('a training run', () => {
  it('draws other subnets in each step, and the same ones again in the same step', async () => {
    const phase = phasesOf(SPACE, RECIPE).at(-1) as Phase;
    const drawn: string[][] = [];
    const batch = createBatches(SPACE, RECIPE, madeDataset().train, 3)(phase, 0);
    for (const step of [0, 1, 2, 0]) {
      const weights = toWeights(randomTensors(SPACE, 1));
      const kinds = new Map(parametersOf(SPACE).map(({ name, kind }): [string, ParameterKind] => [name, kind]));
      const trained = parametersOf(SPACE).filter(isTrained).map(({ name }) => name); // prettier-ignore
      const trainee: Trainee = { space: SPACE, recipe: RECIPE, trained, kinds, weights, momenta: new Map() };
      const losses = await trainStep(trainee, phase, step, batch, null, 0.01, 3);
      drawn.push(losses.map((loss) => loss.toFixed(5)));
    }
    const [first, second, third, again] = drawn.map((losses) => losses.join());
    expect(again).toBe(first);
    expect(new Set([first, second, third]).size).toBe(3);
  });

  it.each([
    ['the first', [1e-12, 1e-12]],
    ['the second (the first having moved)', [2, 1e-12]],
  ])('sorts channels before %s width phase, keeps the prefixes that were trained, and sorts nowhere else', async (name, widthRates) => {
    // rates so small that weights stay where a phase found them: what differs from the phase before is what was done between them
    const still = (settings: PhaseSettings, rates = [1e-12]): PhaseSettings => ({ ...settings, rates, epochs: [1], warmUpEpochs: [0] });
    const { full, kernel, level, height, depth, width } = RECIPE.phases as Extract<Recipe['phases'], { full: unknown }>;
    const phases = { full: still(full, [0.3]), kernel: still(kernel), level, height: still(height), depth: still(depth), width: { ...still(width, widthRates), epochs: [8, 1], subnetsPerStep: 1 } }; // prettier-ignore
    const space: Space = { ...SPACE, expands: [2, 3, 4] };
    const recipe: Recipe = { ...RECIPE, phases };
    const given = options(name, { space, recipe });
    value(await train(given));
    const trained = parametersOf(space).filter(isTrained);
    const differing = (a: ReadonlyMap<string, PlainTensor>, b: ReadonlyMap<string, PlainTensor>) =>
      trained.filter(({ name: key }) => a.get(key)?.data.some((x, i) => Math.abs(x - ((b.get(key) as PlainTensor).data[i] as number)) > 1e-6)); // prettier-ignore
    const best = phasesOf(space, recipe).map((phase, i) => ({ phase, weights: value(readBest(given.folder, i, phase.name)) }));
    let seen = 0;
    for (const [i, { phase, weights }] of best.entries()) {
      const before = best[i - 1];
      if (before === undefined || phase.rate > 1e-12) continue;
      const elastic = before.phase.kind === 'width' ? before.phase.choices.expands : [];
      const expected = phase.kind === 'width' ? sortChannels(space, before.weights, elastic) : before.weights;
      expect(differing(weights, expected), `after ${phase.name}`).toEqual([]);
      if (phase.kind !== 'width' || (before.phase.kind === 'width' && widthRates[0] === 1e-12)) continue;
      seen++;
      // not sorting, or forgetting which prefixes were trained, would have given others
      expect(differing(expected, before.weights)).not.toEqual([]);
      if (elastic.length > 0) expect(differing(sortChannels(space, before.weights, []), expected)).not.toEqual([]);
    }
    expect(seen).toBe(1);
  });
});
