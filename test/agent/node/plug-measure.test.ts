// Joules of a whole measurement from a smart plug (simulated) over a real broker: what `ofa-agent measure --plug` says, and what it says when the plug falls silent.
import { execFile } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { Worker } from 'node:worker_threads';
import { describe, it, type TestContext } from 'vitest';
import { DEFAULT_PLAN, measurementSchema, type Measurement } from '../../../shared/measurement.ts';
import type { Calibration } from '../../../agent/calibration.ts';
import { createMeasurer } from '../../../agent/node/measure-process.ts';
import { startPlugBroker, type PlugBroker } from '../../helpers/plug-broker.ts';
import { value } from '../../helpers/outcome.ts';
import type { RaplWriterTask } from '../../helpers/rapl-writer.ts';
import { writeConvStack } from '../../helpers/small-models.ts';
import { makeTree } from '../../helpers/sysfs-tree.ts';

const CLI = fileURLToPath(new URL('../../../agent/node/cli.ts', import.meta.url));
const PASSWORD = 'geheim-1';

interface Bench {
  readonly dir: string;
  readonly broker: PlugBroker;
  /** Each 40 ms until the test's end. */
  readonly publish: (work: (broker: PlugBroker) => void) => void;
}

async function setUp(onTestFinished: TestContext['onTestFinished']): Promise<Bench> {
  const dir = mkdtempSync(join(tmpdir(), 'ofa-plug-'));
  const broker = await startPlugBroker({ user: 'me', password: PASSWORD });
  const timers: NodeJS.Timeout[] = [];
  onTestFinished(async () => {
    for (const timer of timers) clearInterval(timer);
    await broker.close();
    rmSync(dir, { recursive: true });
  });
  return { dir, broker, publish: (work) => timers.push(setInterval(() => work(broker), 40)) };
}

// side by side: they mostly wait
describe('measuring with a plug', () => {
  /** Publishes as a plug that is faster than any, so that a test takes seconds; `watts` may fall silent. */
  async function measure(
    { dir, broker, publish }: Bench,
    watts: (sinceMs: number) => number | null,
  ): Promise<{ readonly record: Measurement; readonly said: string }> {
    const model = join(dir, 'model.onnx');
    writeConvStack(model, { channels: 8, size: 16, layers: 2 });
    let began: number | null = null;
    broker.onMessage(() => (began ??= performance.now())); // the first question
    publish(() => {
      const power = began === null ? null : watts(performance.now() - began);
      if (power !== null) broker.publish('tele/desk/SENSOR', { Time: '2026-02-03T04:05:06', ENERGY: { Power: power } });
    });
    const args = [
      'measure',
      model,
      '--json',
      '--precision',
      '20%',
      '--energy-precision',
      '50%',
      '--plug',
      `tasmota:desk@mqtt://me:${PASSWORD}@127.0.0.1:${broker.port}`,
    ];
    return new Promise((resolve, reject) => {
      execFile(process.execPath, [CLI, ...args], { env: { ...process.env, TMPDIR: dir } }, (error, stdout, stderr) => {
        if (error !== null) reject(new Error(`${error.message} ${stderr}`));
        else resolve({ record: measurementSchema.parse(JSON.parse(stdout)), said: stdout + stderr });
      });
    });
  }

  const wobble = () => 12 + 0.1 * Math.round(10 * Math.random());

  it.concurrent(
    'gives joules at the wall, and never the password',
    async ({ expect, onTestFinished }) => {
      const { record, said } = await measure(await setUp(onTestFinished), wobble);
      expect(record.energy).toMatchObject({ sensor: 'tasmota desk power', boundary: 'wall' });
      const { gross, windowMs, inferences } = record.energy;
      // 12 to 13 W, whatever ran
      const watts = ((gross.value ?? NaN) * (inferences ?? NaN)) / ((windowMs ?? NaN) / 1000);
      expect(watts).toBeGreaterThan(12);
      expect(watts).toBeLessThan(13);
      expect(said).not.toContain(PASSWORD);
    },
    90_000,
  );

  it.concurrent(
    'gives latency all the same, and SENSOR_STALE instead of joules, where the plug falls silent half-way',
    async ({ expect, onTestFinished }) => {
      const { record } = await measure(await setUp(onTestFinished), (sinceMs) => (sinceMs < 6000 ? wobble() : null));
      expect(record.latency.value).toBeGreaterThan(0);
      expect(record.energy.gross).toMatchObject({ value: null, reason: 'SENSOR_STALE' });
      expect(record.energy.gross.message).toContain('tasmota desk power');
    },
    90_000,
  );

  it.concurrent(
    'is held against the own sensor where that was calibrated: METERS_DISAGREE where the plug shows what the line does not',
    async ({ expect, onTestFinished }) => {
      const { dir, broker, publish } = await setUp(onTestFinished);
      const zone = 'class/powercap/intel-rapl:0';
      const rangeMicrojoules = 65_532_610_987;
      const sys = makeTree({ [`${zone}/name`]: 'package-0', [`${zone}/energy_uj`]: 0, [`${zone}/max_energy_range_uj`]: rangeMicrojoules });
      const control = new Int32Array(new SharedArrayBuffer(16));
      control[0] = 10_000; // milliwatts
      const task: RaplWriterTask = { path: join(sys.root, zone, 'energy_uj'), startMicrojoules: 0, rangeMicrojoules, control };
      const writer = new Worker(new URL('../../helpers/rapl-writer.ts', import.meta.url), { workerData: task });
      const line = (name: string): Calibration => ({
        rail: { sensor: 'rapl package-0', boundary: 'package' },
        plug: `tasmota ${name} power`,
        madeAt: '2026-01-02T03:04:05.000Z',
        interceptWatts: 5,
        slope: 1.2,
        interceptU: 0.1,
        slopeU: 0.01,
        covariance: -0.0005,
        residualWatts: 0.4,
        r2: 0.999,
        lagMs: 1000,
        blocks: 5,
        levels: [0, 1, 0.5].map((share) => ({ share, railWatts: 5 + 20 * share, wallWatts: 11 + 24 * share })),
      });
      // 5 + 1.2 × 10 = 17 W is what the line expects
      const wobbling = (watts: number) => ({ ENERGY: { Power: watts + 0.05 * Math.round(4 * Math.random()) } });
      publish(() => {
        broker.publish('tele/right/SENSOR', wobbling(17));
        broker.publish('tele/wrong/SENSOR', wobbling(29));
      });
      const source = writeConvStack(join(dir, 'model.onnx'), { channels: 8, size: 16, layers: 2 });
      const findingsWith = async (name: string) => {
        const url = `mqtt://me:${PASSWORD}@127.0.0.1:${broker.port}`;
        const plugs = [{ make: 'tasmota', name, url } as const];
        const roots = { sysfsRoot: sys.root, procRoot: '/proc' };
        const measurer = createMeasurer({ runtime: 'onnxruntime-node', roots, plugs, calibrations: [line('right'), line('wrong')] });
        const plan = { ...DEFAULT_PLAN, relativeHalfWidth: 0.2, energyRelativeHalfWidth: 0.5 };
        const { energy, verdict } = value(await measurer.measure(source, plan, new AbortController().signal));
        expect(energy).toMatchObject({ sensor: 'rapl package-0', boundary: 'package' });
        return verdict.findings.filter(({ reason }) => reason === 'METERS_DISAGREE').map(({ message }) => message);
      };
      try {
        const [right, wrong] = await Promise.all([findingsWith('right'), findingsWith('wrong')]);
        expect(right).toEqual([]);
        expect(wrong).toHaveLength(1);
        expect(wrong[0]).toMatch(/tasmota wrong power shows 29\.\d+ W where rapl package-0 at \d+\.\d+ W makes 1\d\.\d+ W expected/);
      } finally {
        Atomics.store(control, 1, 1);
        await writer.terminate();
        sys.remove();
      }
    },
    120_000,
  );
});
