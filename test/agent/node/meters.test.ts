// Sensors under a simulated sysfs (no RAPL or hwmon in the test machines): discovery, refusals, and recording of a counter that really moves.
import { join } from 'node:path';
import { Worker } from 'node:worker_threads';
import { afterEach, describe, expect, it } from 'vitest';
import { windowEnergy } from '../../../agent/energy.ts';
import { discoverMeters, explainNoMeter, meterHost } from '../../../agent/node/meters/discover.ts';
import { placeOf } from '../../../agent/node/meters/meter.ts';
import { recordMeter, startRecorder } from '../../../agent/node/meters/recorder.ts';
import type { RaplWriterTask } from '../../helpers/rapl-writer.ts';
import { makeTree, type Tree } from '../../helpers/sysfs-tree.ts';

const RAPL = 'class/powercap';
let trees: Tree[] = [];

function tree(files: Readonly<Record<string, string | number>>): string {
  const made = makeTree(files);
  trees.push(made);
  return made.root;
}

afterEach(() => {
  for (const made of trees) made.remove();
  trees = [];
});

const zone = (folder: string, name: string, energy: number | string = 1000) => ({
  [`${RAPL}/${folder}/name`]: name,
  [`${RAPL}/${folder}/energy_uj`]: energy,
  [`${RAPL}/${folder}/max_energy_range_uj`]: 123456789012,
});

const sensors = (root: string) => discoverMeters(meterHost(root)).meters.map(({ info }) => info.sensor);

describe('sensor discovery', () => {
  it('takes a package once: not its mmio twin, not the zones inside it, beside it or around it', () => {
    const root = tree({
      ...zone('intel-rapl:0', 'package-0'),
      ...zone('intel-rapl:0:0', 'core'),
      ...zone('intel-rapl:0:1', 'uncore'),
      ...zone('intel-rapl:0:2', 'dram'),
      ...zone('intel-rapl:1', 'psys'),
      ...zone('intel-rapl-mmio:0', 'package-0'),
    });
    const { meters, unusable } = discoverMeters(meterHost(root));
    expect(meters).toHaveLength(1);
    expect(meters[0]?.info).toMatchObject({ sensor: 'rapl package-0', boundary: 'package', kind: 'counter', wrapJoules: 123456.789012 });
    expect(meters.map(({ source }) => placeOf(source))).toEqual([join(root, RAPL, 'intel-rapl:0/energy_uj')]);
    expect(unusable.map(({ sensor }) => sensor)).toHaveLength(5);
    expect(unusable.find(({ sensor }) => sensor.includes('mmio'))?.message).toContain('double');
    expect(unusable.find(({ sensor }) => sensor.includes('psys'))?.message).toContain('contains the packages');
  });

  it('takes the mmio twin where the first cannot be read, and the sum of both packages of two sockets', () => {
    const unreadable = tree({ [`${RAPL}/intel-rapl:0/name`]: 'package-0', ...zone('intel-rapl-mmio:0', 'package-0') });
    expect(discoverMeters(meterHost(unreadable)).meters.map(({ source }) => placeOf(source))[0]).toContain('mmio');
    const sockets = tree({ ...zone('intel-rapl:0', 'package-0'), ...zone('intel-rapl:1', 'package-1') });
    expect(sensors(sockets)).toEqual(['rapl package-0 + package-1']);
    expect(discoverMeters(meterHost(sockets)).meters[0]?.info.wrapJoules).toBe(123456.789012);
    const uneven = tree({
      ...zone('intel-rapl:0', 'package-0'),
      ...zone('intel-rapl:1', 'package-1'),
      [`${RAPL}/intel-rapl:1/max_energy_range_uj`]: 5,
    });
    expect(discoverMeters(meterHost(uneven)).meters[0]?.info.wrapJoules).toBeNull();
  });

  it('says how to allow a counter that only root may read', () => {
    const root = tree({ [`${RAPL}/intel-rapl:0/name`]: 'package-0' });
    const discovery = discoverMeters(meterHost(root));
    expect(discovery.meters).toEqual([]);
    expect(discovery.unusable[0]).toMatchObject({ reason: 'SENSOR_MISSING' });
    expect(explainNoMeter(meterHost(root), discovery)).toContain('sudo chmod a+r');
  });

  it('knows no range where the kernel shows 0 or none', () => {
    const root = tree({ ...zone('intel-rapl:0', 'package-0'), [`${RAPL}/intel-rapl:0/max_energy_range_uj`]: 0 });
    expect(discoverMeters(meterHost(root)).meters[0]?.info.wrapJoules).toBeNull();
  });

  it('reads hwmon power as µW and energy as µJ, counters before samples, and trusts no unknown driver', () => {
    const root = tree({
      'class/hwmon/hwmon0/name': 'ina226',
      'class/hwmon/hwmon0/power1_input': 2_500_000,
      'class/hwmon/hwmon1/name': 'amd_energy',
      'class/hwmon/hwmon1/energy1_label': 'Esocket0',
      'class/hwmon/hwmon1/energy1_input': 3_000_000,
      'class/hwmon/hwmon1/energy2_label': 'Ecore000',
      'class/hwmon/hwmon1/energy2_input': 1_000_000,
      'class/hwmon/hwmon2/name': 'nct6775',
      'class/hwmon/hwmon2/power1_input': 9,
      'class/hwmon/hwmon3/name': 'zenergy',
      'class/hwmon/hwmon3/energy1_input': 5,
      'class/hwmon/hwmon3/power1_input': 5,
    });
    const { meters, unusable } = discoverMeters(meterHost(root));
    expect(
      meters.map(({ info, source }) => [info.sensor, info.boundary, info.kind, source.kind === 'files' ? source.terms[0]?.scale : null]),
    ).toEqual([
      ['hwmon ina226 power1', 'rail', 'power', 1e-6],
      ['hwmon amd_energy Esocket0', 'package', 'counter', 1e-6],
      ['hwmon zenergy energy1', 'package', 'counter', 1e-6],
    ]);
    expect(unusable.map(({ sensor }) => sensor)).toEqual([
      'hwmon amd_energy Ecore000 (hwmon1)',
      'hwmon nct6775 power1 (hwmon2)',
      'hwmon zenergy power1 (hwmon3)',
    ]);
  });

  it('does not take a graphics card for what computes on the CPU, and says so', () => {
    const { meters, unusable } = discoverMeters(
      meterHost(tree({ 'class/hwmon/hwmon0/name': 'amdgpu', 'class/hwmon/hwmon0/power1_average': 30_000_000 })),
    );
    expect(meters).toEqual([]);
    expect(unusable[0]?.message).toContain('graphics card');
  });

  it('answers SENSOR_MISSING with a sentence where there is nothing at all', async () => {
    const root = tree({ 'class/nothing': 1 });
    expect(discoverMeters(meterHost(root))).toEqual({ meters: [], unusable: [] });
    const recorder = await startRecorder(meterHost(root));
    expect(recorder).toMatchObject({ ok: false, reason: 'SENSOR_MISSING' });
    expect(recorder.ok ? '' : recorder.message).toContain('class/powercap');
  });
});

describe('a recorder', () => {
  it('takes the step that the sensor shows, not the unit in which its driver counts', async () => {
    const file = 'class/hwmon/hwmon0/power1_input';
    const sys = makeTree({ 'class/hwmon/hwmon0/name': 'ina226', [file]: 2_500_000 });
    trees.push(sys);
    let n = 0;
    const moving = setInterval(() => sys.write({ [file]: 2_500_000 + 25_000 * (n++ % 4) ** 2 }), 20);
    try {
      const recorder = await startRecorder(meterHost(sys.root));
      if (!recorder.ok) throw new Error(recorder.message);
      expect(recorder.value.info.lsb).toBeCloseTo(0.025, 9);
      await recorder.value.stop();
    } finally {
      clearInterval(moving);
    }
  }, 20_000);

  it('records a counter that moves each millisecond and wraps meanwhile, and its joules come out right', async () => {
    const root = tree(zone('intel-rapl:0', 'package-0', 0));
    const range = 40_000_000; // µJ; at 10 W it wraps after 4 s, and starts 1.5 s before that
    const control = new Int32Array(new SharedArrayBuffer(16));
    control[0] = 10_000;
    const task: RaplWriterTask = {
      path: join(root, RAPL, 'intel-rapl:0/energy_uj'),
      startMicrojoules: range - 15_000_000,
      rangeMicrojoules: range,
      control,
    };
    const writer = new Worker(new URL('../../helpers/rapl-writer.ts', import.meta.url), { workerData: task });
    try {
      await new Promise((resolve) => writer.once('online', resolve));
      const [meter] = discoverMeters(meterHost(root)).meters;
      if (meter === undefined) throw new Error('no meter');
      const recorder = await recordMeter({ ...meter, info: { ...meter.info, wrapJoules: range * 1e-6 } });
      // A writer on a busy machine may be late, never early.
      expect(recorder.refreshMs).toBeGreaterThan(0.5);
      await new Promise((resolve) => setTimeout(resolve, 200));
      const startMs = performance.now();
      await new Promise((resolve) => setTimeout(resolve, 1000));
      const endMs = performance.now();
      await new Promise((resolve) => setTimeout(resolve, 200));
      const trace = recorder.trace();
      await recorder.stop();
      const fell = trace.values.some((value, i) => i > 0 && value < (trace.values[i - 1] as number));
      expect(fell).toBe(true);
      const got = windowEnergy(trace, recorder.info, { startMs, endMs }, recorder.refreshMs ?? NaN);
      if (!got.ok) throw new Error(got.message);
      // 10 W for the window; what both edges may hide is in u.
      const truth = (10 * (endMs - startMs)) / 1000;
      expect(Math.abs(got.value.joules - truth)).toBeLessThan(Math.max(0.05 * truth, 4 * got.value.u));
    } finally {
      Atomics.store(control, 1, 1);
      await writer.terminate();
    }
  }, 20_000);
});
