// What the doctor reads, from simulated trees that stand for /sys and /proc of machines that were not at hand, and from small programs that
// stand for those that boards bring.
import { chmodSync } from 'node:fs';
import { afterEach, describe, expect, it } from 'vitest';
import { parseCoreList, readDoctorFacts, type DoctorHost } from '../../../agent/node/doctor-facts.ts';
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

const read = (sys: Tree, proc: Tree, change: Partial<DoctorHost> = {}) =>
  readDoctorFacts({
    sysfsRoot: sys.root,
    procRoot: proc.root,
    programDirs: [],
    threads: 2,
    idleCores: null,
    ownPid: null,
    watch: () => Promise.resolve(),
    ...change,
  });

describe('what the doctor reads', () => {
  it('is null or empty of a tree that holds nothing', async () => {
    expect(await read(tree(), tree())).toEqual({
      policies: [],
      throttledBits: null,
      supplyAlarms: null,
      thermalThrottles: null,
      cooling: [],
      quota: null,
      quotaStops: null,
      powerMode: null,
      platformProfile: null,
      idleCores: null,
      threads: 2,
      onlineCores: null,
      allowedCores: [],
      siblings: [],
      neighbours: null,
      battery: null,
      temperatureC: null,
      maxTemperatureC: 85,
      passiveTripC: null,
      memory: null,
      clockSource: null,
    });
  });

  it('is what a Raspberry Pi shows: clock, marks of throttling, heat and trip points', async () => {
    const policy = 'devices/system/cpu/cpufreq/policy0';
    const facts = await read(
      tree({
        [`${policy}/affected_cpus`]: '0 1 2 3',
        [`${policy}/scaling_governor`]: 'ondemand',
        [`${policy}/scaling_available_governors`]: 'conservative ondemand performance',
        [`${policy}/scaling_min_freq`]: 600000,
        [`${policy}/scaling_max_freq`]: 1800000,
        [`${policy}/cpuinfo_max_freq`]: 1800000,
        [`${policy}/scaling_cur_freq`]: 700000,
        'devices/platform/soc/soc:firmware/get_throttled': '50000',
        'devices/system/cpu/online': '0-3',
        'class/thermal/thermal_zone0/temp': 61234,
        'class/thermal/thermal_zone0/trip_point_0_type': 'critical',
        'class/thermal/thermal_zone0/trip_point_0_temp': 110000,
        'class/thermal/thermal_zone0/trip_point_1_type': 'passive',
        'class/thermal/thermal_zone0/trip_point_1_temp': 80000,
        'class/thermal/cooling_device0/type': 'pwm-fan',
        'class/thermal/cooling_device0/cur_state': 2,
        'class/thermal/cooling_device1/type': 'cpufreq-cpu0',
        'class/thermal/cooling_device1/cur_state': 1,
        'devices/system/clocksource/clocksource0/current_clocksource': 'arch_sys_counter',
        'devices/system/clocksource/clocksource0/available_clocksource': 'arch_sys_counter',
      }),
      tree({ 'self/status': 'Name:\tnode\nCpus_allowed_list:\t1-2', meminfo: 'SwapTotal: 100 kB\nSwapFree: 40 kB\nMemAvailable: 1000 kB' }),
    );
    expect(facts).toMatchObject({
      policies: [
        { name: 'policy0', cores: [0, 1, 2, 3], governor: 'ondemand', minMHz: 600, maxMHz: 1800, hardwareMaxMHz: 1800, nowMHz: 700 },
      ],
      throttledBits: 0x50000,
      cooling: ['cpufreq-cpu0'],
      onlineCores: 4,
      allowedCores: [1, 2],
      temperatureC: 61.234,
      passiveTripC: 80,
      memory: { swapTotalBytes: 102_400, swapUsedBytes: 61_440, availableBytes: 1_024_000 },
      clockSource: { now: 'arch_sys_counter', available: ['arch_sys_counter'] },
    });
  });

  it('asks the programs of a board where the kernel has no file: vcgencmd and nvpmodel', async () => {
    const programs = tree({
      vcgencmd: '#!/bin/sh\n[ "$1" = get_throttled ] && echo "throttled=0x20002"',
      nvpmodel: '#!/bin/sh\n[ "$1" = -q ] && printf "NV Power Mode: MODE_30W\\n2\\n"',
    });
    for (const name of ['vcgencmd', 'nvpmodel']) chmodSync(`${programs.root}/${name}`, 0o755);
    expect(await read(tree(), tree(), { programDirs: [programs.root] })).toMatchObject({ throttledBits: 0x20002, powerMode: 'MODE_30W' });
    programs.write({ vcgencmd: '#!/bin/sh\necho "error=1 error_msg=\\"Command not registered\\""', nvpmodel: '#!/bin/sh\nexit 1' });
    for (const name of ['vcgencmd', 'nvpmodel']) chmodSync(`${programs.root}/${name}`, 0o755);
    expect(await read(tree(), tree(), { programDirs: [programs.root] })).toMatchObject({ throttledBits: null, powerMode: null });
  });

  it('is what a Jetson, a laptop and a server show', async () => {
    const facts = await read(
      tree({
        'class/hwmon/hwmon2/name': 'soctherm_oc',
        'class/hwmon/hwmon2/oc1_event_cnt': 0,
        'class/hwmon/hwmon2/oc3_event_cnt': 27,
        'class/power_supply/BAT0/uevent': 'POWER_SUPPLY_TYPE=Battery\nPOWER_SUPPLY_STATUS=Discharging\nPOWER_SUPPLY_CAPACITY=64',
        'firmware/acpi/platform_profile': 'balanced',
        'firmware/acpi/platform_profile_choices': 'low-power balanced performance',
        'devices/system/cpu/cpu0/thermal_throttle/core_throttle_count': 4,
        'devices/system/cpu/cpu1/thermal_throttle/core_throttle_count': 5,
        'devices/system/cpu/cpu0/topology/thread_siblings_list': '0,2',
        'devices/system/cpu/cpu2/topology/thread_siblings_list': '0,2',
        'devices/system/cpu/cpu1/topology/thread_siblings_list': '1,3',
      }),
      tree(),
    );
    expect(facts).toMatchObject({
      supplyAlarms: [
        { input: 'oc1', events: 0 },
        { input: 'oc3', events: 27 },
      ],
      battery: { status: 'Discharging', percent: 64 },
      platformProfile: { now: 'balanced', choices: ['low-power', 'balanced', 'performance'] },
      thermalThrottles: 9,
      siblings: [
        [0, 2],
        [1, 3],
      ],
    });
  });

  it.each([
    ['v2', '0::/app', { 'fs/cgroup/app/cpu.max': 'max 100000', 'fs/cgroup/cpu.max': '150000 100000' }, 1.5, '/sys/fs/cgroup/cpu.max'],
    [
      'v1',
      '3:cpu,cpuacct:/app',
      {
        'fs/cgroup/cpu/app/cpu.cfs_quota_us': 50000,
        'fs/cgroup/cpu/app/cpu.cfs_period_us': 100000,
        'fs/cgroup/cpu/cpu.cfs_quota_us': -1,
        'fs/cgroup/cpu/cpu.cfs_period_us': 100000,
      },
      0.5,
      '/sys/fs/cgroup/cpu/app/cpu.cfs_quota_us',
    ],
  ])('finds the tightest quota of cgroup %s on the way up', async (_, cgroup, files, cores, file) => {
    expect((await read(tree(files), tree({ 'self/cgroup': cgroup }))).quota).toEqual({ cores, file });
  });

  it('knows the neighbours of a moment: their share of all cores, whose it is, and what a hypervisor took', async () => {
    const stat = (user: number, idle: number, steal: number) => `cpu  ${user} 0 0 ${idle} 0 0 0 ${steal} 0 0\ncpu0 1\ncpu1 1`;
    const ticks = (name: string, user: number) => `1 (${name}) S ${Array.from({ length: 40 }, (_, i) => (i === 10 ? user : 0)).join(' ')}`;
    const proc = tree({
      stat: stat(1000, 5000, 0),
      '7/stat': ticks('we ourselves', 10),
      '8/stat': ticks('a ) b', 500),
      '8/cmdline': '/usr/bin/indexer\0--password=x',
      '9/stat': ticks('quiet', 3),
    });
    const facts = await read(tree(), proc, {
      ownPid: 7,
      watch: () => {
        // 2 s on two cores: 400 ticks, of which we 40, the indexer 100, and 4 stolen.
        proc.write({ stat: stat(1140, 5256, 4), '7/stat': ticks('we ourselves', 50), '8/stat': ticks('a ) b', 600) });
        return Promise.resolve();
      },
    });
    expect(facts.neighbours).toEqual({ foreignShare: 0.25, stealShare: 0.01, busiest: [{ pid: 8, name: 'indexer', coreShare: 0.5 }] });
  });

  it('reads lists of cores as the kernel writes them', () => {
    expect(parseCoreList('0-2,7\n')).toEqual([0, 1, 2, 7]);
    expect(parseCoreList('0 1')).toEqual([0, 1]);
    expect(parseCoreList('none')).toEqual([]);
  });
});
