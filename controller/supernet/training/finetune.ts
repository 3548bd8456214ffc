// Fine-tunes one subnet of a supernet by the same loop: one phase, the labels alone, a small rate. The result is a supernet file in which
// that subnet is what was trained; the others in it are of no use.
import { join } from 'node:path';
import * as tf from '@tensorflow/tfjs';
import { failed, ok, type Outcome } from '@ofa-fleet/shared/outcome.ts';
import type { Space } from '../../space.ts';
import { subnetId, type Subnet } from '../../subnet.ts';
import type { Backend } from '../backend.ts';
import { weightsHash, writeCheckpoint, type Checkpoint, type Provenance } from '../checkpoint.ts';
import type { Dataset } from '../data/dataset.ts';
import { elasticFilter } from '../elastic.ts';
import { isTrained, kernelMatrixName, parametersOf } from '../parameters.ts';
import type { PlainTensor } from '../safetensors.ts';
import { refuseUntuned } from '../tuned-for.ts';
import { midChannels } from '../widths.ts';
import { machineHere } from './machine-here.ts';
import { misfitOf } from './misfit.ts';
import { allChoices, phasesOf, type Phase } from './phases.ts';
import { planOf } from './plan.ts';
import { dataProvenance } from './provenance.ts';
import type { Recipe } from './recipe.ts';
import { runPhases, type RunControl } from './run.ts';
import { createScorer, scoreAt } from './scorer.ts';
import { dispose, toTensors } from './tensors.ts';

export interface FinetuneOptions extends Omit<RunControl, 'machine'> {
  readonly checkpoint: Checkpoint;
  readonly subnet: Subnet;
  /** Batch, momentum, weight decay, label smoothing, augmentation and how images are looked at; its phases count for their dropout only. */
  readonly recipe: Recipe;
  readonly dataset: Dataset;
  readonly backend: Backend;
  readonly seed: number;
  readonly epochs: number;
  readonly rate: number;
  readonly command: string;
}

export interface Finetuned {
  readonly checkpoint: Checkpoint;
  /** Top-1 of the subnet before and after, batch norms recalibrated. */
  readonly validation: { readonly before: number; readonly after: number };
  readonly test: { readonly before: number; readonly after: number };
}

/** Also in `folder`/finetuned.safetensors; null where the signal ended it early. */
export async function finetune(options: FinetuneOptions): Promise<Outcome<Finetuned | null>> {
  const { checkpoint, subnet, recipe, dataset, backend, seed, epochs, rate, folder, signal, command } = options;
  const { space } = checkpoint;
  const untuned = refuseUntuned(checkpoint, subnet);
  if (!untuned.ok) return untuned;
  const misfit = misfitOf(space, recipe, dataset);
  if (misfit !== null) return failed('INVALID_INPUT', misfit);
  const phase: Phase = {
    name: 'finetune',
    kind: 'finetune',
    choices: allChoices(space),
    epochs,
    warmUpEpochs: 0,
    rate,
    subnetsPerStep: 1,
    dropout: phasesOf(space, recipe).at(-1)?.dropout ?? 0,
    only: subnet,
  };
  const phases = [phase];
  const from = weightsHash(checkpoint);
  const initial = withBakedKernels(space, checkpoint.tensors, subnet);
  const score = createScorer(space, recipe, dataset, signal);
  const tested = [{ subnet, heights: [subnet.stages.length] }];
  const finished = await runPhases(
    {
      space,
      recipe,
      phases,
      dataset,
      seed,
      plan: planOf({ space, recipe, phases, seed, scale: 1 }, dataset, [...tested, ...tested]),
      score,
      initial: () => initial,
      // The matrices that turned large kernels into this subnet's have done their work.
      trained: parametersOf(space)
        .filter((parameter) => isTrained(parameter) && parameter.kind !== 'kernel-matrix')
        .map(({ name }) => name),
      settings: { space, recipe, data: dataset.sha256, seed, epochs, rate, subnet: subnetId(space, subnet), from },
    },
    { ...options, machine: machineHere(backend) },
  );
  if (!finished.ok || finished.value === null) return finished.ok ? ok(null) : finished;

  const { weights: tensors, position } = finished.value;
  const accuracies: { validation: number; test: number }[] = [];
  for (const plain of [initial, tensors]) {
    const weights = toTensors(plain);
    const scores = await score(weights, subnet, [
      { of: 'validation', images: recipe.validation.images },
      { of: 'test', images: recipe.test.images },
    ]);
    dispose(weights);
    const [validation, test] = scores ?? [];
    if (validation === undefined || test === undefined) return ok(null);
    const at = (of: typeof test) => scoreAt(space, of, subnet.stages.length);
    accuracies.push({ validation: at(validation), test: at(test) });
  }
  const [before, after] = accuracies as [{ validation: number; test: number }, { validation: number; test: number }];
  const machine = machineHere(backend);
  const provenance: Provenance = {
    command,
    seed,
    scale: 1,
    data: dataProvenance(dataset),
    ...machine,
    node: process.version,
    startedAt: position.startedAt,
    finishedAt: new Date().toISOString(),
    trainingSeconds: Math.round(position.trainingSeconds),
    machines: position.machines,
    teacher: 'none',
    accuracy: { largest: [], smallest: [] },
    uniform: null,
    finetuned: { subnet, from, before: before.test, after: after.test },
  };
  const { imported } = checkpoint;
  const tuned: Checkpoint = { space, tensors, recipe, provenance, ...(imported === undefined ? {} : { imported }) };
  const written = writeCheckpoint(join(folder, 'finetuned.safetensors'), tuned);
  if (!written.ok) return written;
  return ok({
    checkpoint: tuned,
    validation: { before: before.validation, after: after.validation },
    test: { before: before.test, after: after.test },
  });
}

/**
 * The same weights, in which the subnet's kernels stand in the centre of the stored ones and the matrices of its blocks are the identity:
 * the subnet's function does not change, and its filters are trained as such, not through the supernet's transforms.
 */
export function withBakedKernels(
  space: Space,
  tensors: ReadonlyMap<string, PlainTensor>,
  subnet: Subnet,
): ReadonlyMap<string, PlainTensor> {
  const baked = new Map(tensors);
  const { kernels } = space;
  const largest = kernels[kernels.length - 1] as number;
  let inputs = space.stem.channels;
  subnet.stages.forEach((blocks, s) => {
    blocks.forEach((block, b) => {
      if (block.kernel !== undefined) {
        const depthwise = `stages.${s}.${b}.depthwise`;
        const names = [
          `${depthwise}.weight`,
          ...kernels.slice(1).map((from, i) => kernelMatrixName(depthwise, from, kernels[i] as number)),
        ];
        const weights = toTensors(new Map(names.map((name) => [name, tensors.get(name) as PlainTensor])));
        const channels = midChannels(inputs, block.expand);
        const { kernel } = block;
        const data = Float32Array.from(tf.tidy(() => elasticFilter(weights, depthwise, kernels, kernel, channels).dataSync()));
        const stored = tensors.get(`${depthwise}.weight`) as PlainTensor;
        baked.set(`${depthwise}.weight`, { ...stored, data: inCentre(stored, data, largest, block.kernel, channels) });
        for (const name of names.slice(1)) baked.set(name, identityLike(tensors.get(name) as PlainTensor));
        dispose(weights);
      }
      inputs = (space.stages[s] as Space['stages'][number]).channels;
    });
  });
  return baked;
}

/** `filter` [kernel, kernel, channels, 1] in the middle of the stored [largest, largest, stored channels, 1]. */
function inCentre({ shape, data }: PlainTensor, filter: Float32Array, largest: number, kernel: number, channels: number): Float32Array {
  const stored = shape[2] as number;
  const centred = data.slice();
  const start = (largest - kernel) / 2;
  for (let y = 0; y < kernel; y++) {
    for (let x = 0; x < kernel; x++) {
      const from = (y * kernel + x) * channels;
      centred.set(filter.subarray(from, from + channels), ((start + y) * largest + start + x) * stored);
    }
  }
  return centred;
}

function identityLike({ shape, data }: PlainTensor): PlainTensor {
  const side = shape[0] as number;
  return { shape, data: data.map((_, i) => (i % (side + 1) === 0 ? 1 : 0)) };
}
