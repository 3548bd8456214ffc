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
    const updated = tf.tidy(() => {
      const g = decays ? tf.add(gradient, tf.mul(old, settings.weightDecay)) : gradient;
      const momentum = oldMomentum === undefined ? g.clone() : tf.add(tf.mul(oldMomentum, settings.momentum), g);
      return { weight: tf.sub(old, tf.mul(tf.add(g, tf.mul(momentum, settings.momentum)), rate)), momentum };
    });
    weights.set(name, updated.weight);
    momenta.set(name, updated.momentum);
    old.dispose();
    oldMomentum?.dispose();
  }
}
