// A sensor that is lost half-way, on simulated hardware (a sysfs tree) read by the real recorder thread, and by a real runner process.
import { mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Worker } from 'node:worker_threads';
import { describe, it, type TestContext } from 'vitest';
import { systemClock } from '@ofa-fleet/shared/clock.ts';
import { DEFAULT_PLAN } from '@ofa-fleet/shared/measurement.ts';
import { measureEnergy } from '../../agent/energy-run.ts';
import { createMeasurer } from '../../agent/node/measure-process.ts';
import { discoverMeters, meterHost } from '../../agent/node/meters/discover.ts';
import { startRecorder, startWitness } from '../../agent/node/meters/recorder.ts';
import type { Session } from '../../agent/ports.ts';
import { value } from '../helpers/outcome.ts';
import type { RaplWriterTask } from '../helpers/rapl-writer.ts';
import { writeConvStack } from '../helpers/small-models.ts';
import { makeTree, type Tree } from '../helpers/sysfs-tree.ts';

const ZONE = 'class/powercap/intel-rapl:0';
/** A processor of 10 W in a tree; `stop` ends the writer, so that what becomes of its file is final. */
function simulatedRapl(onFinished: TestContext['onTestFinished']): {
  readonly sys: Tree;
  readonly file: string;
  readonly stop: () => Promise<void>;
} {
  const range = 65_532_610_987;
  const sys = makeTree({ [`${ZONE}/name`]: 'package-0', [`${ZONE}/energy_uj`]: 0, [`${ZONE}/max_energy_range_uj`]: range });
  const control = new Int32Array(new SharedArrayBuffer(16));
  control[0] = 10_000;
  const file = join(sys.root, ZONE, 'energy_uj');
  const task: RaplWriterTask = { path: file, startMicrojoules: 0, rangeMicrojoules: range, control };
  const writer = new Worker(new URL('../helpers/rapl-writer.ts', import.meta.url), { workerData: task });
  const stop = async () => {
    Atomics.store(control, 1, 1);
    await writer.terminate();
  };
  onFinished(async () => {
    await stop();
    sys.remove();
  });
  return { sys, file, stop };
}

/** Inferences that wait: nothing here depends on how long they take. */
const session: Session = {
  inputShape: [1],
  outputShape: [1],
  setInput: () => undefined,
  run: () => new Promise((resolve) => setTimeout(resolve, 5)),
  output: () => new Float32Array(1),
  release: () => Promise.resolve(),
};

const LOSSES: readonly (readonly [string, (rapl: ReturnType<typeof simulatedRapl>) => unknown])[] = [
  ['the file is gone', ({ file }) => rmSync(file, { force: true })],
  ['the whole device is gone', ({ sys }) => rmSync(join(sys.root, ZONE), { recursive: true, force: true })],
  // What a read answers to somebody without permission is an error too; root, as whom tests may run, is never refused.
  [
    'reading it is an error',
    ({ file }) => {
      rmSync(file, { force: true });
      mkdirSync(file);
    },
  ],
  ['it holds no number any more', ({ sys }) => sys.write({ [`${ZONE}/energy_uj`]: 'unavailable' })],
  ['it is stuck', () => undefined],
];

describe('a sensor that is lost in the midst of a measurement', () => {
  it.concurrent.for(LOSSES)(
    'leaves no joules and says SENSOR_STALE where %s',
    { timeout: 60_000 },
    async ([, lose], { onTestFinished, expect }) => {
      const rapl = simulatedRapl(onTestFinished);
      const recorder = value(await startRecorder(meterHost(rapl.sys.root)));
      const losing = setTimeout(() => void rapl.stop().then(() => lose(rapl)), 4000);
      onTestFinished(() => clearTimeout(losing));
      const { energy } = await measureEnergy(session, recorder, { relativeHalfWidth: 0.2, clock: systemClock });
      expect(energy.gross).toMatchObject({ value: null, ci: null, reason: 'SENSOR_STALE' });
      expect(energy.net).toMatchObject({ value: null, ci: null, reason: 'SENSOR_STALE' });
      expect(energy.net.message).toContain('ofa-agent meters');
    },
  );

  it.concurrent(
    'takes nothing from the latency',
    async ({ onTestFinished, expect }) => {
      const dir = mkdtempSync(join(tmpdir(), 'ofa-loss-'));
      onTestFinished(() => rmSync(dir, { recursive: true, force: true }));
      const rapl = simulatedRapl(onTestFinished);
      const losing = setTimeout(() => void rapl.stop().then(() => rmSync(rapl.file, { force: true })), 8000);
      onTestFinished(() => clearTimeout(losing));
      const measurer = createMeasurer({ runtime: 'onnxruntime-node', roots: { sysfsRoot: rapl.sys.root, procRoot: '/proc' } });
      const plan = { ...DEFAULT_PLAN, warmUpMs: 100, minTimedMs: 50, relativeHalfWidth: 0.2, capMs: 3000, energyRelativeHalfWidth: 0.2 };
      const model = writeConvStack(join(dir, 'small.onnx'), { channels: 8, size: 16, layers: 2 });
      const { latency, energy } = value(await measurer.measure(model, plan, new AbortController().signal));
      expect(latency.value).toBeGreaterThan(0);
      expect(energy.net).toMatchObject({ value: null, ci: null });
      // On a machine so slow that the sensor was gone before it was looked for, it is missing.
      expect(energy.net.reason).toMatch(/^SENSOR_(STALE|MISSING)$/);
    },
    90_000,
  );

  it.concurrent(
    'has a second one of the same boundary recorded beside it, where the machine has one',
    async ({ onTestFinished, expect }) => {
      const { sys } = simulatedRapl(onTestFinished);
      const host = meterHost(sys.root);
      const alone = value(await startRecorder(host));
      expect(await startWitness(discoverMeters(host), alone)).toBeNull();
      await alone.stop();
      sys.write({
        'class/hwmon/hwmon0/name': 'zenergy',
        'class/hwmon/hwmon0/energy1_label': 'Esocket0',
        'class/hwmon/hwmon0/energy1_input': 5,
      });
      const first = value(await startRecorder(host));
      const second = await startWitness(discoverMeters(host), first);
      expect([first.info.sensor, second?.info.sensor]).toEqual(['rapl package-0', 'hwmon zenergy Esocket0']);
      await Promise.all([first.stop(), second?.stop()]);
    },
    30_000,
  );
});
