// Tensors by parameter name: between plain values and TensorFlow.js.
import * as tf from '@tensorflow/tfjs';
import type { PlainTensor } from '../safetensors.ts';

/** A supernet's weights, or their momenta, while they are trained; whoever replaces an entry disposes of the old one. */
export type Tensors = Map<string, tf.Tensor>;

export function toTensors(plain: ReadonlyMap<string, PlainTensor>): Tensors {
  return new Map([...plain].map(([name, { shape, data }]) => [name, tf.tensor(data, [...shape])]));
}

export function toPlain(tensors: ReadonlyMap<string, tf.Tensor>): Map<string, PlainTensor> {
  return new Map([...tensors].map(([name, tensor]) => [name, { shape: tensor.shape, data: Float32Array.from(tensor.dataSync()) }]));
}

export function cloned(tensors: Tensors): Tensors {
  return new Map([...tensors].map(([name, tensor]) => [name, tensor.clone()]));
}

export function dispose(tensors: ReadonlyMap<string, tf.Tensor>): void {
  tf.dispose([...tensors.values()]);
}
