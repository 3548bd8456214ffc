// Both real runtimes behind the one port.
import { execFile } from 'node:child_process';
import { copyFileSync, mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { promisify } from 'node:util';
import { describe, expect, it } from 'vitest';
import type { Outcome } from '@ofa-fleet/shared/outcome.ts';
import { arbitraryInput } from '../../../agent/measure.ts';
import { encodeEmptyModel, encodeOnnx, type OnnxModel } from '../../../agent/onnx-bytes.ts';
import { providersOf, summarise } from '../../../agent/node/profile.ts';
import { onnxRuntimeNode } from '../../../agent/node/runtime/onnxruntime-node.ts';
import { loadRuntime, type RuntimeName } from '../../../agent/node/runtime/runtimes.ts';
import type { Session } from '../../../agent/ports.ts';
import { convStack } from '../../helpers/small-models.ts';

async function load(name: RuntimeName, graph: Uint8Array): Promise<Outcome<Session>> {
  const runtime = await loadRuntime(name);
  if (!runtime.ok) throw new Error(runtime.message);
  return runtime.value.load({ graph, externalData: [] }, { intraOpThreads: 1 });
}

function value<T>(outcome: Outcome<T>): T {
  if (!outcome.ok) throw new Error(outcome.message);
  return outcome.value;
}

/** Those that need no hardware. */
const RUNTIME_NAMES = ['onnxruntime-node', 'onnxruntime-web'] as const;
const STACK = { channels: 8, size: 12, layers: 3 };

describe('the runtimes', () => {
  it('compute the same, and each run overwrites nothing of the input', async () => {
    const graph = encodeOnnx(convStack(STACK));
    const input = arbitraryInput(8 * 12 * 12);
    const outputs: Float32Array[] = [];
    for (const name of RUNTIME_NAMES) {
      const session = value(await load(name, graph));
      expect(session.inputShape).toEqual([1, 8, 12, 12]);
      session.setInput(input);
      await session.run();
      const first = session.output().slice();
      await session.run();
      expect(session.output()).toEqual(first);
      expect(session.outputShape).toEqual([1, 8, 1, 1]);
      outputs.push(first);
      await session.release();
    }
    const [native = new Float32Array(), wasm = new Float32Array()] = outputs;
    expect(Math.max(...native)).toBeGreaterThan(0.01);
    expect(Math.max(...native.map((v, i) => Math.abs(v - (wasm[i] as number))))).toBeLessThan(1e-5);
  });

  it.each(RUNTIME_NAMES)('%s runs the model that does nothing, with any two shapes', async (name) => {
    const session = value(await load(name, encodeEmptyModel([1, 3, 8, 8], [1, 10])));
    await session.run();
    expect(session.inputShape).toEqual([1, 3, 8, 8]);
    expect(session.output()).toEqual(new Float32Array(10));
    await session.release();
  });

  const twoInputs = (model: OnnxModel): Uint8Array => {
    // A second graph input is a second field 11; the encoder writes one, so an unused one is appended as a graph of its own: messages merge.
    const extra = encodeOnnx({ ...model, nodes: [], initializers: [], input: { name: 'second', shape: [1] } });
    return Uint8Array.from([...encodeOnnx(model), ...extra]);
  };

  it.each(RUNTIME_NAMES)('%s refuses in words: an unknown operator, two inputs, bytes that are no model', async (name) => {
    const stack = convStack(STACK);
    const unknown = encodeOnnx({ ...stack, nodes: [{ op: 'NoSuchOperator', inputs: ['x'], outputs: ['y'] }], initializers: [] });
    const refusals: Outcome<Session>[] = [];
    for (const bytes of [unknown, twoInputs(stack), new TextEncoder().encode('hello')]) refusals.push(await load(name, bytes));
    expect(refusals.map((refusal) => (refusal.ok ? 'loaded' : refusal.reason))).toEqual(['UNSUPPORTED_OP', 'INCOMPATIBLE', 'CORRUPT_FILE']);
  });

  it('with spinning off leave the cores alone between runs', async () => {
    const cpuMs = async (spinning: boolean): Promise<number> => {
      const runtime = value(await onnxRuntimeNode({ spinning }));
      const graph = encodeOnnx(convStack({ channels: 32, size: 28, layers: 2 }));
      const session = value(await runtime.load({ graph, externalData: [] }, { intraOpThreads: 2 }));
      for (let i = 0; i < 20; i++) await session.run();
      const before = process.cpuUsage();
      for (let i = 0; i < 40; i++) {
        await session.run();
        await new Promise((resolve) => setTimeout(resolve, 5));
      }
      const { user, system } = process.cpuUsage(before);
      await session.release();
      return (user + system) / 1000;
    };
    const off = await cpuMs(false);
    const on = await cpuMs(true);
    // Six times as much on an idle machine.
    expect(on).toBeGreaterThan(1.5 * off);
  });
});

describe('a provider other than the CPU', () => {
  it('that cannot start here is refused in words, with the next step', async () => {
    const graph = encodeOnnx(convStack(STACK));
    for (const name of ['onnxruntime-node:cuda', 'onnxruntime-node:tensorrt'] as const) {
      const outcome = await load(name, graph);
      expect(outcome).toMatchObject({ ok: false, reason: 'RUNTIME_MISSING' });
      expect(outcome.ok ? '' : outcome.message).toContain('or take --runtime onnxruntime-node');
    }
  });

  it('is told from the CPU by the trace of the runtime, operator by operator', () => {
    const node = (name: string, op: string, provider: string) => ({
      cat: 'Node',
      name: `${name}_kernel_time`,
      dur: 40,
      args: { op_name: op, provider },
    });
    const trace = (events: readonly object[]) => summarise(JSON.stringify([{ cat: 'Session', name: 'model_run', dur: 90 }, ...events]));
    const [conv, relu] = [node('c0', 'Conv', 'WebGpuExecutionProvider'), node('r0', 'Relu', 'CPUExecutionProvider')];
    expect(providersOf(trace([conv]), 'webgpu')).toBe('webgpu');
    expect(providersOf(trace([conv, relu]), 'webgpu')).toBe(
      'WebGpuExecutionProvider 1 of 2 operators, CPUExecutionProvider 1 of 2 operators',
    );
  });

  it('may come with a build of its own: the library that LD_LIBRARY_PATH leads to is the one that is loaded, and named', async (context) => {
    if (process.platform !== 'linux') return context.skip('LD_LIBRARY_PATH is read on Linux');
    // a copy of the package's own library stands for a build of one's own
    const packaged = join(
      dirname(createRequire(import.meta.url).resolve('onnxruntime-node/package.json')),
      'bin/napi-v6/linux',
      process.arch,
    );
    const own = mkdtempSync(join(tmpdir(), 'own-runtime-'));
    const library = readdirSync(packaged).find((name) => name.startsWith('libonnxruntime.so')) ?? '';
    copyFileSync(join(packaged, library), join(own, library));
    const program = `const { onnxRuntimeNode } = await import(${JSON.stringify(new URL('../../../agent/node/runtime/onnxruntime-node.ts', import.meta.url).href)}); const runtime = await onnxRuntimeNode(); console.log(runtime.value.identity.library);`;
    const run = promisify(execFile)(process.execPath, ['--input-type=module', '-e', program], {
      env: { ...process.env, LD_LIBRARY_PATH: own },
    });
    const { stdout } = await run.finally(() => rmSync(own, { recursive: true }));
    expect(stdout.trim()).toBe(join(own, library));
  });
});
