// Where a training step's time goes: the seconds inside each operator of the TensorFlow.js backend in use. WebAssembly works when it is called, and
// so does TensorFlow's eager mode; what is left is the bookkeeping of JavaScript.
import * as tf from '@tensorflow/tfjs';

export interface OperatorTimes {
  readonly seconds: number;
  /** Seconds by operator, without those of operators inside it. */
  readonly operators: Readonly<Record<string, number>>;
}

type Execute = (name: string, ...rest: unknown[]) => unknown;

/** Runs `work` with every operator timed. Takes some percent of time itself. */
export async function profiled(work: () => Promise<number>): Promise<OperatorTimes> {
  const operators: Record<string, number> = {};
  let inner = 0; // time of operators that ended since the one under way began
  const timed = <T>(name: string, run: () => T): T => {
    const [outside, began] = [inner, performance.now()];
    inner = 0;
    const result = run();
    const total = (performance.now() - began) / 1000;
    operators[name] = (operators[name] ?? 0) + total - inner;
    inner = outside + total;
    return result;
  };
  const restore = tf.getBackend() === 'tensorflow' ? timeNative(timed) : timeKernels(timed);
  const seconds = await work();
  restore();
  return { seconds, operators };
}

function timeNative(timed: <T>(name: string, run: () => T) => T): () => void {
  const backend = tf.backend() as unknown as Record<'executeSingleOutput' | 'executeMultipleOutputs', Execute>;
  const methods = ['executeSingleOutput', 'executeMultipleOutputs'] as const;
  const originals = methods.map((method) => backend[method].bind(backend));
  methods.forEach((method, i) => {
    backend[method] = (name, ...rest) => timed(name, () => (originals[i] as Execute)(name, ...rest));
  });
  return () => methods.forEach((method, i) => (backend[method] = originals[i] as Execute));
}

function timeKernels(timed: <T>(name: string, run: () => T) => T): () => void {
  const configs = tf.getKernelsForBackend(tf.getBackend());
  for (const config of configs) {
    tf.unregisterKernel(config.kernelName, config.backendName);
    tf.registerKernel({ ...config, kernelFunc: (parameters) => timed(config.kernelName, () => config.kernelFunc(parameters)) });
  }
  return () => {
    for (const config of configs) {
      tf.unregisterKernel(config.kernelName, config.backendName);
      tf.registerKernel(config);
    }
  };
}
