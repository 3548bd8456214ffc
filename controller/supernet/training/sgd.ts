// SGD with Nesterov momentum, keyed by parameter name: a step touches exactly the parameters that got a gradient, and finds their
// momentum again whatever subnet the step before trained. (TensorFlow.js optimizers index their slots by position.)
import * as tf from '@tensorflow/tfjs';
import type { ParameterKind } from '../parameters.ts';

export interface SgdSettings {
  readonly momentum: number;
  /** Applied to `conv`, `linear` and `offset` parameters only, by kind and not by name: no batch norm and no bias is ever decayed. */
  readonly weightDecay: number;
  /** Whether kernel matrices are decayed too. */
  readonly decayKernelMatrices: boolean;
}

/**
 * One step: g' = g + decay·w; m <- momentum·m + g'; w <- w - rate·(g' + momentum·m), as PyTorch's Nesterov SGD.
 * Replaces the tensors in `weights` and `momenta` and disposes of the old ones; `gradients` stay the caller's.
 */
export function sgdStep(
  weights: Map<string, tf.Tensor>,
  momenta: Map<string, tf.Tensor>,
  gradients: ReadonlyMap<string, tf.Tensor>,
  kinds: ReadonlyMap<string, ParameterKind>,
  rate: number,
  settings: SgdSettings,
): void {
  for (const [name, gradient] of gradients) {
    const old = weights.get(name) as tf.Tensor;
    const kind = kinds.get(name);
    const decays = kind === 'conv' || kind === 'linear' || kind === 'offset' || (kind === 'kernel-matrix' && settings.decayKernelMatrices);
    const oldMomentum = momenta.get(name);
    const moved = move(
      old.dataSync<'float32'>(),
      oldMomentum?.dataSync<'float32'>() ?? null,
      gradient.dataSync<'float32'>(),
      decays ? settings.weightDecay : 0,
      settings.momentum,
      rate,
    );
    weights.set(name, tf.tensor(moved.weights, old.shape));
    momenta.set(name, tf.tensor(moved.momenta, old.shape));
    old.dispose();
    oldMomentum?.dispose();
  }
}

/**
 * The arithmetic, as one pass in plain JavaScript: a supernet has hundreds of parameters, most of them small, and seven operators for each took
 * longer than this, on the native backend too. Rounded once where a value is stored.
 */
function move(
  weights: Float32Array,
  momenta: Float32Array | null,
  gradients: Float32Array,
  decay: number,
  momentum: number,
  rate: number,
): { readonly weights: Float32Array; readonly momenta: Float32Array } {
  const [newWeights, newMomenta] = [new Float32Array(weights.length), new Float32Array(weights.length)];
  for (let i = 0; i < weights.length; i++) {
    const weight = weights[i] as number;
    const g = (gradients[i] as number) + decay * weight;
    const m = momenta === null ? g : momentum * (momenta[i] as number) + g;
    newMomenta[i] = m;
    newWeights[i] = weight - rate * (g + momentum * m);
  }
  return { weights: newWeights, momenta: newMomenta };
}
