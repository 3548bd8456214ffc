// ONNX Runtime's native build. `run()` blocks the thread that calls it, so this is loaded in runners and workers only.
import { failed, ok, type Outcome } from '@ofa-fleet/shared/outcome.ts';
import type { Runtime } from '../../ports.ts';
import { readText } from '../host-files.ts';
import { loadSession, type OrtModule } from './ort-session.ts';

/** Which file the runtime's code came from: a build of one's own is taken by LD_LIBRARY_PATH. null where the system does not tell. */
function loadedLibrary(): string | null {
  return /(\/\S*libonnxruntime\.so\S*)/.exec(readText('/proc/self/maps') ?? '')?.[1] ?? null;
}

/** Pool threads that spin between runs buy latency with power and disturb others; off unless asked. */
export async function onnxRuntimeNode({
  spinning = false,
  provider = 'cpu',
}: { readonly spinning?: boolean; readonly provider?: string } = {}): Promise<Outcome<Runtime>> {
  let ort: OrtModule & { readonly env: { readonly versions: { readonly node?: string } } };
  try {
    ort = await import('onnxruntime-node');
  } catch (error) {
    const message = (error as Error).message.split('\n')[0] ?? '';
    return failed(
      'RUNTIME_MISSING',
      `onnxruntime-node cannot be loaded on ${process.platform}-${process.arch} (${message}). Reinstall it (npm ci), or take --runtime onnxruntime-web.`,
    );
  }
  return ok({
    identity: {
      name: 'onnxruntime-node',
      version: ort.env.versions.node ?? 'unknown',
      providerAsked: provider,
      // On the CPU there is nothing to fall back to; elsewhere whoever measures looks where the operators ran (providersOf).
      providerObtained: provider,
      library: loadedLibrary(),
      interOpThreads: 1,
      spinning,
      graphOptimisation: 'all',
      executionMode: 'sequential',
    },
    load: (model, { intraOpThreads, profilePrefix }) =>
      loadSession(ort, model, {
        executionProviders: [provider],
        intraOpNumThreads: intraOpThreads,
        interOpNumThreads: 1,
        graphOptimizationLevel: 'all',
        executionMode: 'sequential',
        ...(profilePrefix === undefined ? {} : { enableProfiling: true, profileFilePrefix: profilePrefix }),
        // Values must be strings, nested by the dots of the key.
        extra: { session: { intra_op: { allow_spinning: spinning ? '1' : '0' } } },
      }),
  });
}
