// Conditions on simulated /proc and /sys trees that change between the ends of a section, for what this machine does not have.
import fc from 'fast-check';
import { afterEach, describe, expect, it } from 'vitest';
import { conditionsSchema } from '../../../shared/measurement.ts';
import { createConditions, readThrottledPeriods } from '../../../agent/node/conditions.ts';
import { HOST_ROOTS } from '../../../agent/node/host-files.ts';
import { readTemperatureC } from '../../../agent/node/temperature.ts';
import { firmwareFile, liveEvents, pastEvents, readFirmwareBits } from '../../../agent/node/throttle.ts';
import { makeTree, type Tree } from '../../helpers/sysfs-tree.ts';

let trees: Tree[] = [];
const tree = (files: Readonly<Record<string, string | number>> = {}) => {
  const made = makeTree(files);
  trees.push(made);
  return made;
};

afterEach(() => {
  for (const made of trees) made.remove();
  trees = [];
});

/** /proc/stat with all times in ticks of 10 ms. */
const stat = (user: number, idle: number, steal = 0) => `cpu  ${user} 0 0 ${idle} 0 0 0 ${steal} 0 0\ncpu0 1 2 3`;

function setup(proc: Tree, sys: Tree) {
  let ownMs = 0;
  const conditions = createConditions({
    procRoot: proc.root,
    sysfsRoot: sys.root,
    ownCpuMs: () => ownMs,
    garbageCollections: () => null,
  });
  conditions.start();
  return { conditions, spend: (ms: number) => (ownMs += ms) };
}

describe('load of others', () => {
  it('is busy time less our own, over the time of all cores; stolen time counts', () => {
    const proc = tree({ stat: stat(1000, 5000) });
    const { conditions, spend } = setup(proc, tree());
    // 2 s on 2 cores: we used 1 s, others 0.2 s, the hypervisor took 0.2 s.
    proc.write({ stat: stat(1120, 5260, 20) });
    spend(1000);
    const seen = conditions.end();
    expect(seen.foreignCpuShare).toBeCloseTo(0.1, 10);
    expect(seen.stolenCpuShare).toBeCloseTo(0.05, 10);
  });

  it('is null where the kernel does not say or no tick has passed, and never negative', () => {
    const unknown = setup(tree(), tree());
    expect(unknown.conditions.end().foreignCpuShare).toBeNull();
    const proc = tree({ stat: stat(1000, 5000) });
    const { conditions, spend } = setup(proc, tree());
    expect(conditions.end().foreignCpuShare).toBeNull();
    proc.write({ stat: stat(1010, 5010) });
    spend(110);
    expect(conditions.end().foreignCpuShare).toBe(0);
  });
});

describe('throttled periods', () => {
  const cpuStat = (throttled: number) => `nr_periods 100\nnr_throttled ${throttled}\nthrottled_time 5`;

  it.each([
    ['v1', '3:cpu,cpuacct:/app/run\n0::/', 'fs/cgroup/cpu/app/run/cpu.stat', 'fs/cgroup/cpu/app/cpu.stat'],
    ['v2', '0::/app/run', 'fs/cgroup/app/run/cpu.stat', 'fs/cgroup/app/cpu.stat'],
    ['hybrid', '1:cpu:/other\n0::/app/run', 'fs/cgroup/unified/app/run/cpu.stat', 'fs/cgroup/unified/app/cpu.stat'],
  ])('are differenced over the own cgroup and those above it (%s)', (_, cgroup, own, above) => {
    const proc = tree({ 'self/cgroup': cgroup });
    const sys = tree({ [own]: cpuStat(7), [above]: cpuStat(2) });
    const { conditions } = setup(proc, sys);
    expect(conditions.end().cgroupThrottledPeriods).toBe(0);
    sys.write({ [own]: cpuStat(9), [above]: cpuStat(3) });
    expect(conditions.end().cgroupThrottledPeriods).toBe(3);
  });

  it('are those of the mounted group where the path leads out of a namespace', () => {
    const sys = tree({ 'fs/cgroup/cpu.stat': cpuStat(4) });
    expect(readThrottledPeriods({ procRoot: tree({ 'self/cgroup': '0::/../../host/app' }).root, sysfsRoot: sys.root })).toBe(4);
  });

  it('are null without a cpu.stat', () => {
    expect(readThrottledPeriods({ procRoot: tree({ 'self/cgroup': '0::/' }).root, sysfsRoot: tree().root })).toBeNull();
  });

  it('are read on this machine, whatever its layout, without failing', () => {
    const periods = readThrottledPeriods(HOST_ROOTS);
    expect(periods === null || periods >= 0).toBe(true);
  });
});

describe('clock and temperature', () => {
  const policy = 'devices/system/cpu/cpufreq/policy1';
  const base = {
    'devices/system/cpu/cpufreq/policy0/scaling_cur_freq': 600000,
    'devices/system/cpu/cpufreq/policy0/affected_cpus': '0',
    [`${policy}/scaling_cur_freq`]: 2000000,
    [`${policy}/scaling_governor`]: 'schedutil',
    [`${policy}/affected_cpus`]: '1 2',
    [`${policy}/stats/time_in_state`]: '1000000 500\n1500000 100\n2000000 900',
    'class/thermal/thermal_zone0/temp': 45000,
    'class/thermal/thermal_zone1/temp': -256000,
  };
  // Field 39 of /proc/self/stat, after a name with a space: the core it ran on last.
  const proc = { 'self/stat': `12 (a b) S ${Array.from({ length: 49 }, (_, i) => (i === 35 ? 2 : 0)).join(' ')}` };

  it('are those of the core that measured: the lowest clock it spent time at, not an idle core', () => {
    const sys = tree(base);
    const { conditions } = setup(tree(proc), sys);
    conditions.timed();
    sys.write({ [`${policy}/stats/time_in_state`]: '1000000 500\n1500000 120\n2000000 1080', 'class/thermal/thermal_zone0/temp': 52000 });
    expect(conditions.end()).toMatchObject({
      governor: 'schedutil',
      clockMHz: { start: 2000, min: 1500, median: 2000, max: 2000, end: 2000 },
      temperatureC: { start: 45, max: 52, end: 52 },
    });
  });

  it('take no notice of a state visited for a moment', () => {
    const sys = tree(base);
    const { conditions } = setup(tree(proc), sys);
    conditions.timed();
    sys.write({ [`${policy}/stats/time_in_state`]: '1000000 500\n1500000 104\n2000000 1096' });
    expect(conditions.end().clockMHz).toEqual({ start: 2000, min: 2000, median: 2000, max: 2000, end: 2000 });
  });

  it('have a median by the time spent in each state, and a highest that no spot reading would have seen', () => {
    const sys = tree(base);
    const { conditions } = setup(tree(proc), sys);
    conditions.timed();
    sys.write({ [`${policy}/stats/time_in_state`]: '1000000 530\n1500000 160\n2000000 910', [`${policy}/scaling_cur_freq`]: 1500000 });
    // 300 ms at 1000 MHz, 600 at 1500, 100 at 2000
    expect(conditions.end().clockMHz).toEqual({ start: 2000, min: 1000, median: 1500, max: 2000, end: 1500 });
  });

  it('are those of the ends alone where the kernel keeps no times or the process moved to other cores', () => {
    const untimed = Object.fromEntries(Object.entries(base).filter(([path]) => !path.endsWith('time_in_state')));
    const sys = tree(untimed);
    const { conditions } = setup(tree(proc), sys);
    conditions.timed();
    sys.write({ [`${policy}/scaling_cur_freq`]: 1800000 });
    expect(conditions.end().clockMHz).toEqual({ start: 2000, min: 1800, median: null, max: 2000, end: 1800 });
  });

  it('leave out zones that do not mean the processor: a power chip that always shows 100 °C, a radio, a sensor that is off', () => {
    const { root } = tree({
      'class/thermal/thermal_zone0/type': 'PMIC-Die',
      'class/thermal/thermal_zone0/temp': 100000,
      'class/thermal/thermal_zone1/type': 'iwlwifi_1',
      'class/thermal/thermal_zone1/temp': 70000,
      'class/thermal/thermal_zone2/type': 'CPU-therm',
      'class/thermal/thermal_zone2/temp': 41500,
      'class/thermal/thermal_zone3/type': 'GPU-therm',
      'class/thermal/thermal_zone3/temp': -256000,
    });
    expect(readTemperatureC(root)).toBe(41.5);
  });

  it('are null where the machine does not tell', () => {
    expect(setup(tree(), tree()).conditions.end()).toMatchObject({ governor: null, clockMHz: null, temperatureC: null, loadAverage: null });
  });
});

describe("a Raspberry Pi's firmware flags", () => {
  const file = 'devices/platform/soc/soc:firmware/get_throttled';
  const run = (before: string, after: string) => {
    const sys = tree({ [file]: before });
    const { conditions } = setup(tree(), sys);
    conditions.timed();
    sys.write({ [file]: after });
    return conditions.end().firmwareEvents;
  };

  it('are bits in hexadecimal, with or without 0x, under any name of the bus', () => {
    expect(liveEvents(0x5)).toEqual(['under-voltage', 'throttled']);
    expect(pastEvents(0xa0000)).toEqual(['frequency-capped', 'soft-temperature-limit']);
    const later = 'devices/platform/soc@107c000000/soc@107c000000:firmware/get_throttled';
    const { root } = tree({ [later]: '0x50005', 'devices/platform/soc@107c000000/other/x': 1 });
    expect(firmwareFile(root)).toContain(later);
    expect(readFirmwareBits(firmwareFile(root) ?? '')).toBe(0x50005);
    expect(readFirmwareBits(`${tree({ bits: 'error=1 error_msg="Command not registered"' }).root}/bits`)).toBeNull();
    expect(firmwareFile(tree().root)).toBeNull();
    fc.assert(
      fc.property(fc.string(), (text) => {
        const bits = readFirmwareBits(`${tree({ bits: text }).root}/bits`);
        return bits === null || (Number.isInteger(bits) && bits >= 0 && bits < 2 ** 32);
      }),
      { numRuns: 100 },
    );
  });

  it('tell an event where one that was clear is set, and nothing where it was set before', () => {
    expect(run('0', '0')).toEqual({ seen: [], unproven: [] });
    expect(run('0', '50000')).toEqual({ seen: ['under-voltage', 'throttled'], unproven: [] });
    expect(run('50000', '50000')).toEqual({ seen: [], unproven: ['under-voltage', 'throttled'] });
    expect(run('50000', 'd0000')).toEqual({ seen: ['soft-temperature-limit'], unproven: ['under-voltage', 'throttled'] });
    expect(run('50000', '50005')).toEqual({ seen: ['under-voltage', 'throttled'], unproven: [] });
  });

  it('are looked at during the run too, by another thread: what came and went again is seen, and the highest temperature with it', async () => {
    const sys = tree({ [file]: '50000', 'class/thermal/thermal_zone0/temp': 50000 });
    const { conditions } = setup(tree(), sys);
    await new Promise((resolve) => setTimeout(resolve, 500)); // the thread is up
    conditions.start();
    conditions.timed();
    sys.write({ [file]: '50005', 'class/thermal/thermal_zone0/temp': 83000 });
    await new Promise((resolve) => setTimeout(resolve, 2500));
    sys.write({ [file]: '50000', 'class/thermal/thermal_zone0/temp': 60000 });
    const seen = conditions.end();
    expect(seen.firmwareEvents).toEqual({ seen: ['under-voltage', 'throttled'], unproven: [] });
    expect(seen.temperatureC).toEqual({ start: 50, max: 83, end: 60 });
  });

  it('are replaced by its voltage alarm on kernels that show only that', () => {
    const alarm = 'class/hwmon/hwmon0/in0_lcrit_alarm';
    const sys = tree({ 'class/hwmon/hwmon0/name': 'rpi_volt', [alarm]: 0 });
    const { conditions } = setup(tree(), sys);
    conditions.timed();
    sys.write({ [alarm]: 1 });
    expect(conditions.end().firmwareEvents).toEqual({ seen: ['under-voltage'], unproven: [] });
  });
});

describe("a Jetson's supply alarms", () => {
  const files = (event: string, oc1: number, oc2: number, oc3: number) => ({
    'class/hwmon/hwmon4/name': 'soctherm_oc',
    [`class/hwmon/hwmon4/oc1_${event}_cnt`]: oc1,
    [`class/hwmon/hwmon4/oc2_${event}_cnt`]: oc2,
    [`class/hwmon/hwmon4/oc3_${event}_cnt`]: oc3,
    'class/hwmon/hwmon4/oc1_throt_en': 1,
  });

  it.each([
    ['Orin', 'event', 'nvidia,p3767\0nvidia,tegra234', ['under-voltage', 'over-current', 'over-current']],
    ['Xavier NX', 'event', 'nvidia,p3509-0000+p3668-0001\0nvidia,tegra194', ['over-current', 'under-voltage', 'over-current']],
    ['another', 'irq', 'nvidia,tegra186', ['over-current', 'over-current', 'over-current']],
  ])('are counted over the run, by what each input watches on a board of the kind %s', (_, event, compatible, kinds) => {
    const sys = tree({ ...files(event, 7, 5, 27_000), 'firmware/devicetree/base/compatible': compatible });
    const { conditions } = setup(tree(), sys);
    sys.write(files(event, 7, 6, 27_390));
    expect(conditions.end().supplyAlarms).toEqual([
      { input: 'oc1', kind: kinds[0], events: 0 },
      { input: 'oc2', kind: kinds[1], events: 1 },
      { input: 'oc3', kind: kinds[2], events: 390 },
    ]);
  });

  it('that began anew count from there, and are null where there are none', () => {
    const sys = tree(files('event', 100, 0, 0));
    const { conditions } = setup(tree(), sys);
    sys.write(files('event', 3, 0, 0));
    expect(conditions.end().supplyAlarms?.[0]).toMatchObject({ input: 'oc1', events: 3 });
    expect(setup(tree(), tree()).conditions.end().supplyAlarms).toBeNull();
  });
});

describe('throttling for heat', () => {
  const count = (cpu: number, kind: string) => `devices/system/cpu/cpu${cpu}/thermal_throttle/${kind}_throttle_count`;

  it('is counted on x86 over all cores, and once for a package that they share', () => {
    const sys = tree({
      ...Object.fromEntries([0, 1].flatMap((cpu) => [[count(cpu, 'core'), 10], [count(cpu, 'package'), 40]])), // prettier-ignore
      'devices/system/cpu/cpu0/topology/physical_package_id': 0,
      'devices/system/cpu/cpu1/topology/physical_package_id': 0,
    });
    const { conditions } = setup(tree(), sys);
    sys.write({ [count(1, 'core')]: 12, [count(0, 'package')]: 43, [count(1, 'package')]: 43 });
    expect(conditions.end().thermalThrottles).toBe(5);
    expect(setup(tree(), tree()).conditions.end().thermalThrottles).toBeNull();
  });

  it('shows in cooling devices of the processor, fans left out, with the strongest state seen', () => {
    const device = (n: number, type: string, state: number) => ({
      [`class/thermal/cooling_device${n}/type`]: type,
      [`class/thermal/cooling_device${n}/cur_state`]: state,
    });
    const sys = tree({ ...device(0, 'pwm-fan', 3), ...device(1, 'thermal-cpufreq-0', 2), ...device(2, 'Processor', 0) });
    const { conditions } = setup(tree(), sys);
    conditions.timed();
    sys.write(device(1, 'thermal-cpufreq-0', 1));
    expect(conditions.end().cooling).toEqual([{ device: 'thermal-cpufreq-0', state: 2 }]);
    const cool = setup(tree(), tree(device(2, 'Processor', 0))).conditions;
    expect(cool.end().cooling).toEqual([]);
    expect(setup(tree(), tree(device(0, 'pwm-fan', 3))).conditions.end().cooling).toBeNull();
  });
});

describe('battery and cores', () => {
  const uevent = (status: string, capacity: number) =>
    `POWER_SUPPLY_TYPE=Battery\nPOWER_SUPPLY_STATUS=${status}\nPOWER_SUPPLY_CAPACITY=${capacity}`;

  it('are said with the status at both ends, and not those of a mouse', () => {
    const sys = tree({
      'class/power_supply/BAT0/uevent': uevent('Discharging', 64),
      'class/power_supply/hidpp_battery_0/uevent': `${uevent('Discharging', 5)}\nPOWER_SUPPLY_SCOPE=Device`,
      'class/power_supply/AC/uevent': 'POWER_SUPPLY_TYPE=Mains\nPOWER_SUPPLY_ONLINE=0',
    });
    const { conditions } = setup(tree({ 'self/status': 'Name:\tnode\nCpus_allowed_list:\t0,2-3' }), sys);
    sys.write({ 'class/power_supply/BAT0/uevent': uevent('Charging', 64) });
    expect(conditions.end()).toMatchObject({
      battery: { startStatus: 'Discharging', endStatus: 'Charging', percent: 64 },
      affinity: '0,2-3',
    });
    expect(setup(tree(), tree()).conditions.end()).toMatchObject({ battery: null, affinity: null });
  });
});

describe('records', () => {
  it('of agents that did not ask for all of this are still read, and new ones are whole', () => {
    const old = { foreignCpuShare: 0, cgroupThrottledPeriods: 0, governor: null, clockMHz: { start: 1, min: 1, end: 1 }, temperatureC: { start: 1, end: 1 }, loadAverage: 0, freeMemoryBytes: 1, garbageCollections: 0 }; // prettier-ignore
    expect(conditionsSchema.parse(old)).toEqual(old);
    const now = createConditions({ ...HOST_ROOTS, ownCpuMs: () => 0, garbageCollections: () => 0 }).end();
    expect(conditionsSchema.parse(now)).toEqual(now);
  });
});
