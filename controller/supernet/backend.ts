// Picks what TensorFlow.js computes on and says which: the native addon (tfjs-node) where it loads, else WebAssembly, which learns to train
// from `wasm-gradients.ts`. Plain JavaScript computes only where it is asked for by name.
import { createRequire } from 'node:module';
import * as tf from '@tensorflow/tfjs';
import { registerTrainingKernels } from './wasm-gradients.ts';

type BackendName = 'tensorflow' | 'wasm' | 'cpu';

export interface Backend {
  readonly name: BackendName;
  /** Threads inside one operation; 0 = the library's own choice (all cores). Always 1 outside `tensorflow`. */
  readonly threads: number;
  /** One sentence for the user: what computes, and how to get a faster one. */
  readonly description: string;
}

export interface BackendWish {
  readonly purpose: 'training' | 'inference';
  /** For `tensorflow`: threads inside one operation, 0 = all cores. Training repeats bitwise only at an equal number. */
  readonly threads?: number;
  /** Take exactly this one; throws if it cannot be had. */
  readonly only?: BackendName;
}

const SETUP_HINT = 'for a native backend run `npm run setup:tfjs-node` (linux x64)';

/** Selects the backend of this process's one copy of TensorFlow.js. Threads count only before the first call in a process. */
export async function selectBackend(wish: BackendWish): Promise<Backend> {
  const threads = wish.threads ?? 0;
  if (wish.only === undefined || wish.only === 'tensorflow') {
    const missing = await loadNative(threads);
    if (missing === null) {
      return {
        name: 'tensorflow',
        threads,
        description: `TensorFlow native addon (tfjs-node), threads: ${threads === 0 ? 'all' : threads}`,
      };
    }
    if (wish.only === 'tensorflow') throw new Error(`tfjs-node has no usable native addon (${missing}); ${SETUP_HINT}.`);
  }
  if (wish.only !== 'cpu') {
    await import('@tensorflow/tfjs-backend-wasm');
    await select('wasm');
    if (wish.purpose === 'training') registerTrainingKernels();
    const speed = wish.purpose === 'training' ? ', about as fast as the native addon on one thread (`npm run bench:train` tells here)' : '';
    return { name: 'wasm', threads: 1, description: `TensorFlow.js on WebAssembly, one thread${speed}; ${SETUP_HINT}` };
  }
  await select('cpu');
  return { name: 'cpu', threads: 1, description: `TensorFlow.js in plain JavaScript, about 100 times slower than native; ${SETUP_HINT}` };
}

/** null, or why the addon cannot be used. */
async function loadNative(threads: number): Promise<string | null> {
  // libtensorflow reads its settings from the environment of the process, when the addon is first loaded.
  process.env['TF_CPP_MIN_LOG_LEVEL'] ??= '2';
  // The calling thread does its share of an operator: else even the smallest waits until two others have woken.
  process.env['TF_ONEDNN_THREADPOOL_USE_CALLER_THREAD'] ??= '1';
  if (threads > 0) {
    process.env['TF_NUM_INTRAOP_THREADS'] = String(threads);
    process.env['TF_NUM_INTEROP_THREADS'] = '1';
  }
  // tfjs-node 4.22 calls a helper that Node 23 removed, and one whose use Node warns about.
  const util = createRequire(import.meta.url)('node:util') as Record<'isNullOrUndefined' | 'isArray', (value: unknown) => boolean>;
  util.isNullOrUndefined = (value) => value === null || value === undefined;
  util.isArray = Array.isArray;
  try {
    await import('@tensorflow/tfjs-node');
    await select('tensorflow');
    return null;
  } catch (error) {
    return error instanceof Error ? (error.message.split('\n')[0] ?? '') : String(error);
  }
}

async function select(name: BackendName): Promise<void> {
  if (!(await tf.setBackend(name))) throw new Error(`TensorFlow.js cannot start its backend "${name}".`);
  await tf.ready();
}
