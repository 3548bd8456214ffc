// ONNX Runtime's WebAssembly build under Node: what a phone's browser runs. One thread, SIMD.
import { failed, ok, type Outcome } from '@ofa-fleet/shared/outcome.ts';
import type { Runtime } from '../../ports.ts';
import { loadSession, type OrtModule } from './ort-session.ts';

interface WebModule extends OrtModule {
  readonly env: { readonly versions: { readonly web?: string }; readonly wasm: { numThreads?: number } };
}

export async function onnxRuntimeWeb(): Promise<Outcome<Runtime>> {
  let ort: WebModule;
  try {
    ort = await import('onnxruntime-web/wasm');
  } catch (error) {
    const message = (error as Error).message.split('\n')[0] ?? '';
    return failed(
      'RUNTIME_MISSING',
      `onnxruntime-web cannot be loaded (${message}). Reinstall it (npm ci), or take --runtime onnxruntime-node.`,
    );
  }
  ort.env.wasm.numThreads = 1;
  return ok({
    identity: {
      name: 'onnxruntime-web',
      version: ort.env.versions.web ?? 'unknown',
      providerAsked: 'wasm',
      providerObtained: 'wasm',
      library: null,
      interOpThreads: 1,
      spinning: null,
      graphOptimisation: 'all',
      executionMode: 'sequential',
    },
    load: (model, { intraOpThreads }) => {
      if (intraOpThreads !== 1) {
        return Promise.resolve(
          failed(
            'INCOMPATIBLE',
            `${intraOpThreads} threads asked; onnxruntime-web runs on 1 thread here. Ask for 1, or take --runtime onnxruntime-node.`,
          ),
        );
      }
      return loadSession(ort, model, { executionProviders: ['wasm'], graphOptimizationLevel: 'all', executionMode: 'sequential' });
    },
  });
}
