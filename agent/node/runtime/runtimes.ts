// Loads a runtime by its name.
import type { Outcome } from '@ofa-fleet/shared/outcome.ts';
import type { Runtime, RuntimeIdentity } from '../../ports.ts';
import { onnxRuntimeNode } from './onnxruntime-node.ts';
import { onnxRuntimeWeb } from './onnxruntime-web.ts';

export type RuntimeName = RuntimeIdentity['name'];

export const RUNTIME_NAMES: readonly RuntimeName[] = ['onnxruntime-node', 'onnxruntime-web'];

export function loadRuntime(name: RuntimeName): Promise<Outcome<Runtime>> {
  return name === 'onnxruntime-web' ? onnxRuntimeWeb() : onnxRuntimeNode();
}
