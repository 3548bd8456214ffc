// Loads a runtime by its name.
import { RUNTIME_NAMES, type RuntimeName } from '@ofa-fleet/shared/device.ts';
import type { Outcome } from '@ofa-fleet/shared/outcome.ts';
import type { Runtime } from '../../ports.ts';
import { onnxRuntimeNode } from './onnxruntime-node.ts';
import { onnxRuntimeWeb } from './onnxruntime-web.ts';

export { RUNTIME_NAMES, type RuntimeName };

/** Fails with RUNTIME_MISSING where it is not there. That it has no such provider shows when a model is loaded. */
export function loadRuntime(name: RuntimeName): Promise<Outcome<Runtime>> {
  if (name === 'onnxruntime-web') return onnxRuntimeWeb();
  const [, provider = 'cpu'] = name.split(':');
  return onnxRuntimeNode({ provider });
}
