// Conditions on simulated /proc and /sys trees that change between the ends of a section, for what this machine does not have.
import { afterEach, describe, expect, it } from 'vitest';
import { createConditions, readThrottledPeriods } from '../../../agent/node/conditions.ts';
import { HOST_ROOTS } from '../../../agent/node/host-files.ts';
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
    expect(conditions.end().foreignCpuShare).toBeCloseTo(0.1, 10);
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
      clockMHz: { start: 2000, min: 1500, end: 2000 },
      temperatureC: { start: 45, end: 52 },
    });
  });

  it('take no notice of a state visited for a moment', () => {
    const sys = tree(base);
    const { conditions } = setup(tree(proc), sys);
    conditions.timed();
    sys.write({ [`${policy}/stats/time_in_state`]: '1000000 500\n1500000 104\n2000000 1096' });
    expect(conditions.end().clockMHz).toEqual({ start: 2000, min: 2000, end: 2000 });
  });

  it('are null where the machine does not tell', () => {
    expect(setup(tree(), tree()).conditions.end()).toMatchObject({ governor: null, clockMHz: null, temperatureC: null, loadAverage: null });
  });
});
