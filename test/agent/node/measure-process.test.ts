// Real runner processes on real ONNX Runtimes.
import { spawn } from 'node:child_process';
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmdirSync, rmSync, writeFileSync } from 'node:fs';
import { availableParallelism, tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { Worker } from 'node:worker_threads';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { DEFAULT_PLAN, measurementSchema, type Measurement, type Plan } from '@ofa-fleet/shared/measurement.ts';
import type { Outcome } from '@ofa-fleet/shared/outcome.ts';
import { encodeOnnx } from '../../../agent/onnx-bytes.ts';
import { createMeasurer } from '../../../agent/node/measure-process.ts';
import type { RaplWriterTask } from '../../helpers/rapl-writer.ts';
import { makeTree } from '../../helpers/sysfs-tree.ts';
import { convStack, writeArtifact, writeConvStack } from '../../helpers/small-models.ts';

const SMALL = { channels: 8, size: 16, layers: 2 };
const QUICK: Plan = { ...DEFAULT_PLAN, warmUpMs: 100, minTimedMs: 50, relativeHalfWidth: 0.2, capMs: 5000 };

let dir = '';
beforeAll(() => {
  dir = mkdtempSync(join(tmpdir(), 'ofa-measure-'));
});
afterAll(() => rmSync(dir, { recursive: true, force: true }));

const never = () => new AbortController().signal;
const native = createMeasurer({ runtime: 'onnxruntime-node' });

function value(outcome: Outcome<Measurement>): Measurement {
  if (!outcome.ok) throw new Error(outcome.message);
  return outcome.value;
}

const reasons = (m: Measurement) => m.verdict.findings.map(({ reason }) => reason);

/** Process ids of runners that this process started and that still run. */
function runners(): readonly string[] {
  return readdirSync('/proc').filter((pid) => {
    if (!/^\d+$/.test(pid)) return false;
    try {
      const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
      const [state, parent] = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
      return parent === String(process.pid) && state !== 'Z' && readFileSync(`/proc/${pid}/cmdline`, 'utf8').includes('runner.ts');
    } catch {
      return false;
    }
  });
}

async function waitFor(condition: () => boolean): Promise<void> {
  for (let i = 0; i < 500; i++) {
    if (condition()) return;
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
  throw new Error('not within 5 s');
}

/** A model of one multiplication whose factor is external data, as ONNX writes it: location, in a file of 4 floats. */
function externalised(): { readonly model: (location: string) => Uint8Array; readonly data: Uint8Array } {
  const model = (location: string) =>
    encodeOnnx({
      input: { name: 'x', shape: [1, 4] },
      output: { name: 'y', shape: [1, 4] },
      nodes: [{ op: 'Mul', inputs: ['x', 'w'], outputs: ['y'] }],
      initializers: [{ name: 'w', shape: [1, 4], data: { location } }],
    });
  return { model, data: new Uint8Array(Float32Array.of(1, 2, 3, 4).buffer) };
}

describe('a measurement in a process of its own', () => {
  it.each(['onnxruntime-node', 'onnxruntime-web'] as const)(
    'on %s yields a whole record that passes its schema',
    async (runtime) => {
      const source = writeConvStack(join(dir, 'small.onnx'), SMALL);
      const m = value(await createMeasurer({ runtime }).measure(source, QUICK, never()));
      expect(measurementSchema.safeParse(m).success).toBe(true);
      expect(m.inputShape).toEqual([1, 8, 16, 16]);
      expect(m.latency.value).toBeGreaterThan(0);
      expect(m.latency.ci?.lo).toBeLessThanOrEqual(m.latency.value as number);
      expect(m.bindingMs).toBeGreaterThan(0);
      expect(m.provenance.runtime).toMatchObject({ name: runtime, version: '1.30.0', intraOpThreads: 1, graphOptimisation: 'all' });
      expect(m.energy.net).toMatchObject({ value: null, reason: 'NOT_ASKED' });
    },
    30_000,
  );

  it('from blobs checks the golden output first, and refuses a model that computes something else', async () => {
    const blobsDir = join(dir, 'blobs');
    const good = await writeArtifact(blobsDir, SMALL);
    const m = value(await native.measure(good, QUICK, never()));
    expect(m.modelSha256).toBe(good.manifestSha256);
    const bad = await writeArtifact(blobsDir, SMALL, 0.01);
    expect(await native.measure(bad, QUICK, never())).toMatchObject({ ok: false, reason: 'OUTPUT_MISMATCH' });
  }, 30_000);

  it('loads external data that lies beside the file, in both runtimes, and refuses it elsewhere', async () => {
    const { model, data } = externalised();
    const inside = join(dir, 'external');
    mkdirSync(inside, { recursive: true });
    writeFileSync(join(inside, 'm.onnx'), model('weights.bin'));
    writeFileSync(join(inside, 'weights.bin'), data);
    for (const runtime of ['onnxruntime-node', 'onnxruntime-web'] as const) {
      const outcome = await createMeasurer({ runtime }).measure({ kind: 'file', path: join(inside, 'm.onnx') }, QUICK, never());
      expect(value(outcome).latency.value).toBeGreaterThan(0);
    }
    rmSync(join(inside, 'weights.bin'));
    const missing = await native.measure({ kind: 'file', path: join(inside, 'm.onnx') }, QUICK, never());
    expect(missing).toMatchObject({ ok: false, reason: 'NOT_FOUND' });
    writeFileSync(join(inside, 'out.onnx'), model('../weights.bin'));
    const outside = await native.measure({ kind: 'file', path: join(inside, 'out.onnx') }, QUICK, never());
    expect(outside).toMatchObject({ ok: false, reason: 'CORRUPT_FILE' });
  }, 60_000);

  it('says what is wrong with a file that is missing, cut short or no model', async () => {
    writeFileSync(join(dir, 'text.onnx'), 'not a model');
    writeFileSync(join(dir, 'cut.onnx'), encodeOnnx(convStack(SMALL)).subarray(0, 900));
    expect(await native.measure({ kind: 'file', path: join(dir, 'none.onnx') }, QUICK, never())).toMatchObject({
      ok: false,
      reason: 'NOT_FOUND',
    });
    for (const name of ['text.onnx', 'cut.onnx']) {
      expect(await native.measure({ kind: 'file', path: join(dir, name) }, QUICK, never())).toMatchObject({
        ok: false,
        reason: 'CORRUPT_FILE',
      });
    }
  }, 30_000);

  it('is killed when its signal aborts', async () => {
    const source = writeConvStack(join(dir, 'long.onnx'), { channels: 32, size: 64, layers: 8 });
    const abort = new AbortController();
    const measuring = native.measure(source, { ...QUICK, minTimedMs: 60_000, capMs: 120_000 }, abort.signal);
    setTimeout(() => abort.abort(), 700);
    expect(await measuring).toMatchObject({ ok: false, reason: 'CANCELED' });
    expect(runners()).toEqual([]);
    expect(await native.measure(source, QUICK, AbortSignal.abort())).toMatchObject({ ok: false, reason: 'CANCELED' });
  }, 30_000);

  it('that crashes is an outcome, not the end of the agent', async () => {
    const source = writeConvStack(join(dir, 'crash.onnx'), { channels: 32, size: 64, layers: 8 });
    const measuring = native.measure(source, { ...QUICK, minTimedMs: 30_000, capMs: 60_000 }, never());
    await waitFor(() => runners().length === 1);
    process.kill(Number(runners()[0]), 'SIGSEGV');
    const outcome = await measuring;
    expect(outcome).toMatchObject({ ok: false, reason: 'CRASHED' });
    expect(outcome.ok ? '' : outcome.message).toContain('SIGSEGV');
    expect(value(await native.measure(writeConvStack(join(dir, 'next.onnx'), SMALL), QUICK, never())).latency.value).toBeGreaterThan(0);
  }, 30_000);

  it('without the native addon is RUNTIME_MISSING with a sentence, and no number', async () => {
    const hook = pathToFileURL(fileURLToPath(new URL('../../helpers/without-addons.mjs', import.meta.url))).href;
    const before = process.env['NODE_OPTIONS'];
    process.env['NODE_OPTIONS'] = `--import=${hook}`;
    try {
      const outcome = await native.measure(writeConvStack(join(dir, 'addon.onnx'), SMALL), QUICK, never());
      expect(outcome).toMatchObject({ ok: false, reason: 'RUNTIME_MISSING' });
      expect(outcome.ok ? '' : outcome.message).toContain('--runtime onnxruntime-web');
    } finally {
      if (before === undefined) delete process.env['NODE_OPTIONS'];
      else process.env['NODE_OPTIONS'] = before;
    }
  }, 30_000);

  it('of a model whose input fits no memory is OUT_OF_MEMORY', async () => {
    const path = join(dir, 'huge.onnx');
    const shape = [1, 1, 300_000, 300_000];
    const relu = { op: 'Relu', inputs: ['x'], outputs: ['y'] };
    writeFileSync(path, encodeOnnx({ input: { name: 'x', shape }, output: { name: 'y', shape }, nodes: [relu], initializers: [] }));
    const outcome = await native.measure({ kind: 'file', path }, QUICK, never());
    expect(outcome).toMatchObject({ ok: false, reason: 'OUT_OF_MEMORY' });
    expect(outcome.ok ? '' : outcome.message).toContain('1×1×300000×300000');
  }, 30_000);

  it('says why there are no joules on a machine without a sensor', async () => {
    const sys = makeTree();
    const measurer = createMeasurer({ runtime: 'onnxruntime-node', roots: { sysfsRoot: sys.root, procRoot: '/proc' } });
    const m = value(
      await measurer.measure(writeConvStack(join(dir, 'joules.onnx'), SMALL), { ...QUICK, energyRelativeHalfWidth: 0.1 }, never()),
    );
    expect(m.energy.net).toMatchObject({ value: null, reason: 'SENSOR_MISSING' });
    expect(m.energy.net.message).toContain('No energy sensor');
    sys.remove();
  }, 30_000);
});

describe('joules', () => {
  it('per inference come out right from a simulated RAPL counter that wraps and draws more while the runner runs', async () => {
    const rapl = 'class/powercap/intel-rapl:0';
    const rangeMicrojoules = 90_000_000;
    const sys = makeTree({ [`${rapl}/name`]: 'package-0', [`${rapl}/energy_uj`]: 0, [`${rapl}/max_energy_range_uj`]: rangeMicrojoules });
    const control = new Int32Array(new SharedArrayBuffer(16));
    const [idleMilliwatts, loadMilliwatts] = [10_000, 20_000];
    control[0] = idleMilliwatts;
    control[3] = loadMilliwatts;
    const task: RaplWriterTask = { path: join(sys.root, rapl, 'energy_uj'), startMicrojoules: 0, rangeMicrojoules, control };
    const writer = new Worker(new URL('../../helpers/rapl-writer.ts', import.meta.url), { workerData: task });
    try {
      const measurer = createMeasurer({ runtime: 'onnxruntime-node', roots: { sysfsRoot: sys.root, procRoot: '/proc' } });
      const source = writeConvStack(join(dir, 'rapl.onnx'), { channels: 32, size: 28, layers: 4 });
      const measuring = measurer.measure(source, { ...QUICK, energyRelativeHalfWidth: 0.5 }, never());
      await waitFor(() => runners().length === 1);
      Atomics.store(control, 2, Number(runners()[0]));
      const { energy } = value(await measuring);
      if (energy.net.value === null || energy.windowMs === null || energy.inferences === null)
        throw new Error(energy.net.message ?? 'no joules');
      expect(energy).toMatchObject({ sensor: 'rapl package-0', boundary: 'package' });
      expect(energy.net.ci?.lo).toBeLessThan(energy.net.value);
      // The runner sleeps in the idle windows and runs in the load window, whatever else this machine does.
      const watts = (1000 * energy.net.value * energy.inferences) / energy.windowMs;
      expect(watts).toBeGreaterThan((0.8 * loadMilliwatts) / 1000);
      expect(watts).toBeLessThan((1.05 * loadMilliwatts) / 1000);
      expect(energy.idleWatts?.before).toBeGreaterThan((0.95 * idleMilliwatts) / 1000);
      expect(energy.gross.value).toBeGreaterThan(energy.net.value);
    } finally {
      Atomics.store(control, 1, 1);
      await writer.terminate();
      sys.remove();
    }
  }, 90_000);
});

describe('a disturbed measurement', () => {
  it('is flagged where a neighbour uses the cores', async () => {
    // a quarter of the cores, so that they are seen on a machine of many cores too
    const neighbours = Array.from({ length: Math.ceil(availableParallelism() / 4) }, () =>
      spawn(process.execPath, ['-e', 'for (;;);'], { stdio: 'ignore' }),
    );
    try {
      const m = value(await native.measure(writeConvStack(join(dir, 'neighbour.onnx'), SMALL), DEFAULT_PLAN, never()));
      expect(m.verdict.state).not.toBe('valid');
      expect(reasons(m)).toContain('NEIGHBOUR_LOAD');
      expect(m.provenance.conditions.foreignCpuShare).toBeGreaterThan(0.05);
    } finally {
      for (const neighbour of neighbours) neighbour.kill('SIGKILL');
    }
  }, 30_000);

  it('is invalid where a cgroup quota of a fifth of a core stops it (a real quota if this machine lets us, else its counters on a tree)', async () => {
    const source = writeConvStack(join(dir, 'quota.onnx'), SMALL);
    const cgroup = tryQuota();
    try {
      const sys = cgroup === null ? makeTree({ 'fs/cgroup/cpu.stat': 'nr_throttled 0' }) : null;
      const proc = cgroup === null ? makeTree({ 'self/cgroup': '0::/', stat: 'cpu  0 0 0 0 0 0 0 0 0 0' }) : null;
      const roots = sys === null || proc === null ? {} : { roots: { sysfsRoot: sys.root, procRoot: proc.root } };
      const measuring = createMeasurer({ runtime: 'onnxruntime-node', ...roots }).measure(
        source,
        { ...DEFAULT_PLAN, minTimedMs: 1500 },
        never(),
      );
      await waitFor(() => runners().length === 1);
      if (cgroup !== null) writeFileSync(join(cgroup, 'cgroup.procs'), runners()[0] as string);
      else setTimeout(() => sys?.write({ 'fs/cgroup/cpu.stat': 'nr_throttled 4' }), 1200);
      const m = value(await measuring);
      expect(m.verdict.state).toBe('invalid');
      expect(reasons(m)).toContain('THROTTLED');
      sys?.remove();
      proc?.remove();
    } finally {
      if (cgroup !== null) rmdirSync(cgroup);
    }
  }, 30_000);
});

/** A fresh cgroup with a quota of a fifth of a core, in v1 or v2; null where it may not be made. */
function tryQuota(): string | null {
  const attempts: readonly { readonly folder: string; readonly files: Readonly<Record<string, string>> }[] = [
    { folder: `/sys/fs/cgroup/cpu/ofa-test-${process.pid}`, files: { 'cpu.cfs_period_us': '100000', 'cpu.cfs_quota_us': '20000' } },
    { folder: `/sys/fs/cgroup/ofa-test-${process.pid}`, files: { 'cpu.max': '20000 100000' } },
  ];
  for (const { folder, files } of attempts) {
    try {
      mkdirSync(folder);
      for (const [name, content] of Object.entries(files)) writeFileSync(join(folder, name), content);
      return folder;
    } catch {
      try {
        rmdirSync(folder);
      } catch {
        // Was not made.
      }
    }
  }
  return null;
}
