// Power monitors of Jetson modules. Everything here is simulated: sysfs trees and shell scripts stand for boards that this machine is not.
// The lines of tegrastats are made up, in the grammar of the Jetson Linux Developer Guide ("tegrastats Utility"); totals are added by hand.
import { chmodSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import fc from 'fast-check';
import { afterEach, describe, expect, it } from 'vitest';
import { windowEnergy } from '../../../../agent/energy.ts';
import { discoverMeters } from '../../../../agent/node/meters/discover.ts';
import { discoverIna3221 } from '../../../../agent/node/meters/ina3221.ts';
import { placeOf, type Discovery, type MeterHost } from '../../../../agent/node/meters/meter.ts';
import { recordMeter } from '../../../../agent/node/meters/recorder.ts';
import { readNow } from '../../../../agent/node/meters/source.ts';
import { discoverTegrastats } from '../../../../agent/node/meters/tegrastats.ts';
import { parseTegrastats, railsOf } from '../../../../agent/node/meters/tegrastats-line.ts';
import { makeTree, type Tree } from '../../../helpers/sysfs-tree.ts';

type Files = Readonly<Record<string, string | number>>;

let trees: Tree[] = [];
afterEach(() => {
  for (const made of trees) made.remove();
  trees = [];
});

function tree(files: Files): Tree {
  const made = makeTree(files);
  trees.push(made);
  return made;
}

const host = (sysfsRoot: string, programDirs: readonly string[] = []): MeterHost => ({
  sysfsRoot,
  programDirs,
  plugs: [],
  computesOn: 'cpu',
});

function wattsOf({ meters }: Discovery): number | null {
  const source = meters[0]?.source;
  return source?.kind === 'files' ? readNow(source) : null;
}

/** Channels of one INA3221 as hwmon shows them: label, mV, mA. */
function hwmonChip(folder: string, channels: readonly (readonly [string, number, number])[], interval = 36): Files {
  return Object.fromEntries([
    [`${folder}/name`, 'ina3221'],
    [`${folder}/update_interval`, interval],
    [`${folder}/in7_label`, 'sum of shunt voltages'],
    [`${folder}/in7_input`, 77_777],
    [`${folder}/curr4_input`, 88_888],
    ...channels.flatMap(([label, millivolts, milliamperes], i): readonly (readonly [string, string | number])[] => [
      [`${folder}/in${i + 1}_label`, label],
      [`${folder}/in${i + 1}_input`, millivolts],
      [`${folder}/curr${i + 1}_input`, milliamperes],
      [`${folder}/in${i + 4}_input`, 9999], // shunt voltage
    ]),
  ]);
}

const BUS = 'bus/i2c/drivers/ina3221';

describe('INA3221 as hwmon shows it (JetPack 5 and 6)', () => {
  it('gives volts times amperes of the module input, and names the rails inside of it', () => {
    const { root } = tree(
      hwmonChip(`${BUS}/1-0040/hwmon/hwmon3`, [
        ['VDD_IN', 5040, 1200],
        ['VDD_CPU_GPU_CV', 5032, 304],
        ['VDD_SOC', 5032, 296],
      ]),
    );
    const found = discoverIna3221(host(root));
    expect(wattsOf(found)).toBeCloseTo(6.048, 9); // 5.040 V · 1.200 A
    expect(found.meters).toHaveLength(1);
    expect(found.meters[0]).toMatchObject({ info: { sensor: 'jetson VDD_IN', boundary: 'module', kind: 'power' }, typicalRefreshMs: 36 });
    expect(found.meters[0]?.info.lsb).toBeCloseTo(0.008 * 5.04, 9);
    expect(found.meters[0]?.scope).toContain('not the carrier board');
    expect(found.unusable.map(({ sensor }) => sensor)).toEqual(['jetson VDD_CPU_GPU_CV', 'jetson VDD_SOC']);
    expect(found.unusable[0]?.message).toContain('lies inside of VDD_IN');
  });

  it('adds three rails of an AGX Orin over two chips, skips NC, and keeps VDDQ out and says so', () => {
    const { root } = tree({
      ...hwmonChip(`${BUS}/1-0040/hwmon/hwmon2`, [
        ['VDD_GPU_SOC', 19_000, 200],
        ['VDD_CPU_CV', 19_000, 100],
        ['VIN_SYS_5V0', 5000, 900],
      ]),
      ...hwmonChip(
        `${BUS}/1-0041/hwmon/hwmon3`,
        [
          ['NC', 0, 0],
          ['VDDQ_VDD2_1V8AO', 5000, 60],
          ['NC', 0, 0],
        ],
        120,
      ),
    });
    const found = discoverIna3221(host(root));
    expect(wattsOf(found)).toBeCloseTo(3.8 + 1.9 + 4.5, 9);
    expect(found.meters[0]?.info.sensor).toBe('jetson VDD_GPU_SOC + VDD_CPU_CV + VIN_SYS_5V0');
    expect(found.meters[0]?.scope).toContain('VDDQ_VDD2_1V8AO is left out');
    expect(found.unusable.map(({ sensor }) => sensor)).toEqual(['jetson VDDQ_VDD2_1V8AO']);
    expect(found.unusable[0]?.message).toContain('not documented');
  });

  it('adds all six rails of an AGX Xavier, and shows no part of them where one cannot be read', () => {
    const chips = {
      ...hwmonChip(`${BUS}/1-0040/hwmon/hwmon0`, [
        ['GPU', 19_000, 50],
        ['CPU', 19_000, 40],
        ['SOC', 19_000, 100],
      ]),
      ...hwmonChip(`${BUS}/1-0041/hwmon/hwmon1`, [
        ['CV', 19_000, 0],
        ['VDDRQ', 19_000, 10],
        ['SYS5V', 5000, 500],
      ]),
    };
    expect(wattsOf(discoverIna3221(host(tree(chips).root)))).toBeCloseTo(0.95 + 0.76 + 1.9 + 0 + 0.19 + 2.5, 9);
    const { root } = tree(chips);
    rmSync(join(root, `${BUS}/1-0041/hwmon/hwmon1/curr2_input`));
    const found = discoverIna3221(host(root));
    expect(found.meters).toEqual([]);
    expect(found.unusable[0]).toMatchObject({ reason: 'SENSOR_MISSING' });
    expect(found.unusable[0]?.message).toContain(`sudo chmod a+r ${join(root, `${BUS}/1-0041/hwmon/hwmon1/curr2_input`)}`);
  });

  it('takes a chip once that the class and the driver show, a chip that only the class shows, and no channel that is switched off', () => {
    const chip = (folder: string) => hwmonChip(folder, [['VDD_IN', 5000, 1000]]);
    const both = tree({ ...chip(`${BUS}/1-0040/hwmon/hwmon3`), ...chip('class/hwmon/hwmon3') });
    expect(wattsOf(discoverIna3221(host(both.root)))).toBeCloseTo(5, 9);
    expect(discoverMeters(host(both.root)).meters).toHaveLength(1);
    expect(wattsOf(discoverIna3221(host(tree(chip('class/hwmon/hwmon3')).root)))).toBeCloseTo(5, 9);
    expect(wattsOf(discoverIna3221(host(tree(chip('bus/i2c/devices/1-0040/hwmon/hwmon3')).root)))).toBeCloseTo(5, 9);
    const off = tree({ ...chip('class/hwmon/hwmon3'), 'class/hwmon/hwmon3/in1_enable': 0 });
    expect(discoverIna3221(host(off.root))).toEqual({ meters: [], unusable: [] });
  });

  it('does not guess the total of a board whose rails it does not know', () => {
    const { root } = tree(
      hwmonChip('class/hwmon/hwmon0', [
        ['VDD_FOO', 5000, 1000],
        ['VDD_BAR', 5000, 500],
      ]),
    );
    const found = discoverIna3221(host(root));
    expect(found.meters).toEqual([]);
    expect(found.unusable[0]?.message).toContain('not known which of these rails contain which');
  });

  it('is null once a file has gone, not the power of the rails that are left', () => {
    const { root } = tree(
      hwmonChip('class/hwmon/hwmon0', [
        ['VDD_GPU_SOC', 19_000, 200],
        ['VDD_CPU_CV', 19_000, 100],
        ['VIN_SYS_5V0', 5000, 900],
      ]),
    );
    const found = discoverIna3221(host(root));
    expect(wattsOf(found)).toBeCloseTo(10.2, 9);
    rmSync(join(root, 'class/hwmon/hwmon0/curr2_input'));
    expect(wattsOf(found)).toBeNull();
  });
});

describe('the recording of an INA3221', () => {
  it('of a load that moves each 100 ms comes to the joules that were drawn', async () => {
    const made = tree(hwmonChip('class/hwmon/hwmon3', [['VDD_IN', 5000, 1000]], 100));
    const drawn: { readonly atMs: number; readonly watts: number }[] = [];
    let n = 0;
    const moving = setInterval(() => {
      const milliamperes = 1000 + ((n++ * 37) % 90);
      made.write({ 'class/hwmon/hwmon3/curr1_input': milliamperes });
      drawn.push({ atMs: performance.now(), watts: (5 * milliamperes) / 1000 });
    }, 100);
    try {
      const [meter] = discoverIna3221(host(made.root)).meters;
      if (meter === undefined) throw new Error('no meter');
      const recorder = await recordMeter(meter);
      expect(recorder.refreshMs).toBeGreaterThan(50); // a writer on a busy machine may be late
      await new Promise((resolve) => setTimeout(resolve, 3000));
      const trace = recorder.trace();
      await recorder.stop();
      const window = {
        startMs: drawn.find(({ atMs }) => atMs > (trace.atMs[0] as number) + 50)?.atMs ?? NaN,
        endMs: drawn.at(-2)?.atMs ?? NaN,
      };
      const truth = drawn.reduce((sum, { atMs, watts }, i) => {
        const until = drawn[i + 1]?.atMs ?? atMs;
        return atMs >= window.startMs && until <= window.endMs ? sum + (watts * (until - atMs)) / 1000 : sum;
      }, 0);
      const got = windowEnergy(trace, recorder.info, window, recorder.refreshMs ?? NaN);
      if (!got.ok) throw new Error(got.message);
      expect(truth).toBeGreaterThan(5);
      expect(Math.abs(got.value.joules - truth)).toBeLessThan(0.02 * truth);
    } finally {
      clearInterval(moving);
    }
  }, 30_000);
});

describe('INA3221 as iio shows it (JetPack 4)', () => {
  const chip = (folder: string, rails: readonly (readonly [string | null, number])[]): Files =>
    Object.fromEntries(
      rails.flatMap(([name, milliwatts], i): readonly (readonly [string, string | number])[] => [
        ...(name === null ? [] : [[`${folder}/rail_name_${i}`, name] as const]),
        [`${folder}/in_power${i}_input`, milliwatts],
        [`${folder}/in_voltage${i}_input`, 4800],
      ]),
    );

  it('reads milliwatts, of a Nano its 5 V input alone', () => {
    const { root } = tree(
      chip('bus/i2c/drivers/ina3221x/6-0040/iio:device0', [
        ['POM_5V_IN', 2345],
        ['POM_5V_GPU', 40],
        ['POM_5V_CPU', 615],
      ]),
    );
    const found = discoverIna3221(host(root));
    expect(wattsOf(found)).toBeCloseTo(2.345, 9);
    expect(found.meters[0]?.info).toMatchObject({ sensor: 'jetson POM_5V_IN', boundary: 'module' });
    expect(found.unusable).toHaveLength(2);
  });

  it('finds the monitors of a TX2 where its early releases have them, named or not', () => {
    const base = 'devices/3160000.i2c/i2c-0';
    const named = tree({
      ...chip(`${base}/0-0040/iio_device`, [
        ['VDD_SYS_GPU', 100],
        ['VDD_SYS_SOC', 500],
        ['VDD_4V0_WIFI', 20],
      ]),
      ...chip(`${base}/0-0041/iio_device`, [
        ['VDD_IN', 4321],
        ['VDD_SYS_CPU', 300],
        ['VDD_SYS_DDR', 600],
      ]),
    });
    expect(wattsOf(discoverIna3221(host(named.root)))).toBeCloseTo(4.321, 9);
    const unnamed = tree(chip(`${base}/0-0041/iio_device`, [[null, 4000]]));
    const found = discoverIna3221(host(unnamed.root));
    expect(wattsOf(found)).toBeCloseTo(4, 9);
    expect(placeOf(found.meters[0]?.source ?? { kind: 'files', terms: [] })).toBe(
      join(unnamed.root, base, '0-0041/iio_device/in_power0_input'),
    );
  });
});

describe('the INA238 of a Jetson Thor', () => {
  const thor = {
    'class/hwmon/hwmon5/name': 'ina238',
    'class/hwmon/hwmon5/in1_label': 'VIN',
    'class/hwmon/hwmon5/power1_input': 31_500_000,
    ...hwmonChip(`${BUS}/2-0040/hwmon/hwmon4`, [
      ['VDD_GPU', 12_000, 500],
      ['VDD_CPU_SOC_MSS', 12_000, 400],
      ['VIN_SYS_5V0', 5000, 900],
    ]),
  };

  it('is the module in microwatts, once, and the rails behind it are not added', () => {
    const { meters, unusable } = discoverMeters(host(tree(thor).root));
    expect(meters.map(({ info }) => [info.sensor, info.boundary])).toEqual([['jetson VIN', 'module']]);
    expect(wattsOf({ meters, unusable })).toBeCloseTo(31.5, 9);
    expect(unusable).toHaveLength(3);
  });

  it('is told from one that somebody wired, also without a label', () => {
    const unlabelled = Object.fromEntries(Object.entries(thor).filter(([path]) => !path.endsWith('hwmon5/in1_label')));
    const compatible = { 'firmware/devicetree/base/compatible': 'nvidia,p3971\0nvidia,tegra264' };
    expect(discoverMeters(host(tree({ ...unlabelled, ...compatible }).root)).meters.map(({ info }) => info.sensor)).toEqual(['jetson VIN']);
    const wired = tree({ 'class/hwmon/hwmon5/name': 'ina238', 'class/hwmon/hwmon5/power1_input': 5_000_000 });
    expect(discoverMeters(host(wired.root)).meters.map(({ info }) => [info.sensor, info.boundary])).toEqual([
      ['hwmon ina238 power1', 'rail'],
    ]);
  });
});

const HEAD = 'RAM 1021/3964MB (lfb 12x4MB) SWAP 5/1982MB (cached 1MB) IRAM 0/252kB(lfb 252kB) CPU [3%@345,off,off,0%@345]';

describe('a line of tegrastats', () => {
  it.each([
    ['Nano', `${HEAD} EMC_FREQ 0% GR3D_FREQ 0% PLL@21C CPU@24C PMIC@100C POM_5V_IN 1820/1790 POM_5V_GPU 40/38 POM_5V_CPU 310/300`, 1.82],
    ['TX2, total not first', `${HEAD} MTS fg 0% bg 0% VDD_CPU 410/400 VDD_IN 5210/5190 VDD_SOC 700/690 NVENC 716 VDD_DDR 900/890`, 5.21],
    ['AGX Xavier', `${HEAD} AUX@27C GPU 100/90 CPU 200/210 SOC 1000/990 CV 0/0 VDDRQ 60/60 SYS5V 1640/1630`, 3.0],
    [
      'AGX Orin with date and unit',
      `02-29-2024 07:00:01 ${HEAD} GR3D2_FREQ 0%@0 CV0@-256C VDD_GPU_SOC 2000mW/1990mW VDD_CPU_CV 500mW/490mW VIN_SYS_5V0 3100mW/3090mW NC 0mW/0mW VDDQ_VDD2_1V8AO 250mW/250mW NC 0mW/0mW`,
      5.6,
    ],
    [
      'AGX Orin, three numbers',
      `${HEAD} cpu@50.1C/50.0C VIN_SYS_5V0 4000mW/3900mW/4100mW VDD_CPU_CV 1200mW/1100mW/1300mW VDD_GPU_SOC 2100mW/2000mW/2200mW`,
      7.3,
    ],
    [
      'Orin Nano',
      `${HEAD} GR3D_FREQ 0%@[305] NVDEC off APE 200 VDD_IN 4480mW/4500mW VDD_CPU_GPU_CV 640mW/650mW VDD_SOC 1300mW/1310mW`,
      4.48,
    ],
    [
      'Thor',
      `${HEAD} GR3D_FREQ @[1000,1000,1000] VDD_GPU 900mW/900mW VDD_CPU_SOC_MSS 5200mW/5100mW VIN_SYS_5V0 4000mW/4000mW VIN 23100mW/23000mW`,
      23.1,
    ],
  ])('of a %s has its total by the first numbers', (_, line, watts) => {
    expect(parseTegrastats(line)).toBeCloseTo(watts, 9);
  });

  it('takes memory for no rail, and skips channels that are not connected', () => {
    expect(railsOf(`${HEAD} NC 0mW/0mW GR3D_FREQ 59%@1300`).size).toBe(0);
  });

  it.each([
    ['without rails (no root)', HEAD],
    ['cut off before its last rail', `${HEAD} VDD_GPU_SOC 2000mW/1990mW VDD_CPU_CV 500mW/49`],
    ['of a sum that is not positive', `${HEAD} VDD_IN -5/0`],
    ['of nothing', ''],
  ])('%s is no reading', (_, line) => {
    expect(parseTegrastats(line)).toBeNull();
  });

  it('of any other kind never throws and never gives anything but a finite number or null', () => {
    const token = fc.oneof(
      fc.string(),
      fc.constantFrom('VDD_IN', 'mW', '/', ' ', '5000', '-', '@', 'NC', 'GPU 1/1', 'VDD_IN 1e9/2', `VDD_IN ${'9'.repeat(400)}/1`),
    );
    fc.assert(
      fc.property(fc.array(token, { maxLength: 12 }), (parts) => {
        const value = parseTegrastats(parts.join(' '));
        return value === null || (Number.isFinite(value) && value > 0);
      }),
      { numRuns: 2000 },
    );
  });
});

/** Of all processes on this machine. */
function commandLines(): readonly string[] {
  return readdirSync('/proc').flatMap((pid) => {
    if (!/^\d+$/.test(pid)) return [];
    try {
      return [readFileSync(`/proc/${pid}/cmdline`, 'utf8')];
    } catch {
      return []; // it has just ended
    }
  });
}

describe('tegrastats as a program', () => {
  /** A script that stands for it: prints `line` ten times a second. */
  function programs(line: string, count = 600): string {
    const made = tree({ tegrastats: `#!/bin/sh\ni=0\nwhile [ $i -lt ${count} ]; do echo "${line} $i/0MB"; i=$((i+1)); sleep 0.1; done` });
    chmodSync(join(made.root, 'tegrastats'), 0o755);
    return made.root;
  }

  it('is a meter of the module where the monitors cannot be read as files', () => {
    const found = discoverTegrastats(host(tree({}).root, [programs('VDD_IN 4000mW/4000mW VDD_SOC 900mW/900mW')]));
    expect(found.meters[0]).toMatchObject({
      info: { sensor: 'tegrastats VDD_IN', boundary: 'module', kind: 'power' },
      source: { kind: 'lines', parser: 'tegrastats', endOfBlock: null },
    });
  });

  it('gives way to the files of the same monitors: one sensor, not two', () => {
    const { root } = tree(hwmonChip('class/hwmon/hwmon3', [['VDD_IN', 5000, 1000]]));
    const { meters, unusable } = discoverMeters(host(root, [programs('VDD_IN 5000mW/5000mW')]));
    expect(meters.map(({ info }) => info.sensor)).toEqual(['jetson VDD_IN']);
    expect(unusable.find(({ sensor }) => sensor === 'tegrastats')?.message).toContain('one sensor, not two');
  });

  it('says what to do where it shows no rails, and where their nesting is not known', () => {
    const silent = discoverTegrastats(host(tree({}).root, [programs(HEAD)]));
    expect(silent.unusable[0]).toMatchObject({ reason: 'SENSOR_MISSING' });
    expect(silent.unusable[0]?.message).toContain('sudo');
    const unknown = discoverTegrastats(host(tree({}).root, [programs('VDD_FOO 1/1')]));
    expect(unknown.unusable[0]?.message).toContain('VDD_FOO');
  });

  it('falls silent when it dies half-way: what was recorded stays, a window after it is refused', async () => {
    const [meter] = discoverTegrastats(host(tree({}).root, [programs('VDD_IN 4000mW/4000mW', 15)])).meters;
    if (meter === undefined) throw new Error('no meter');
    const recorder = await recordMeter(meter);
    await new Promise((resolve) => setTimeout(resolve, 600));
    const trace = recorder.trace();
    await recorder.stop();
    expect(trace.values.length).toBeGreaterThan(5);
    expect([...new Set(trace.values)]).toEqual([4]);
    const last = trace.atMs.at(-1) as number;
    expect(windowEnergy(trace, recorder.info, { startMs: last + 100, endMs: last + 1100 }, 100)).toMatchObject({ ok: false });
    expect(commandLines().filter((line) => line.includes(meter.source.kind === 'lines' ? (meter.source.argv[0] as string) : ' '))).toEqual(
      [],
    );
  }, 30_000);
});
