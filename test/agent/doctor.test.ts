// What the doctor says of a machine: each fact alone, on an otherwise quiet one.
import { describe, expect, it } from 'vitest';
import { diagnose } from '../../agent/doctor.ts';
import { coreList, type ClockPolicy, type DoctorFacts } from '../../agent/doctor-facts.ts';

const STEADY: ClockPolicy = {
  name: 'policy0',
  cores: [0, 1, 2, 3],
  governor: 'performance',
  governors: ['performance', 'schedutil'],
  minMHz: 600,
  maxMHz: 1800,
  hardwareMaxMHz: 1800,
  nowMHz: 1800,
};

const GIB = 2 ** 30;
const QUIET: DoctorFacts = {
  policies: [STEADY],
  throttledBits: 0,
  supplyAlarms: null,
  thermalThrottles: null,
  cooling: [],
  quota: null,
  quotaStops: 0,
  powerMode: null,
  platformProfile: null,
  idleCores: 0.02,
  threads: 1,
  onlineCores: 4,
  allowedCores: [0, 1, 2, 3],
  siblings: [[0], [1], [2], [3]],
  neighbours: { foreignShare: 0.01, stealShare: 0, busiest: [] },
  battery: null,
  temperatureC: 45,
  maxTemperatureC: 85,
  passiveTripC: 80,
  memory: { swapTotalBytes: 0, swapUsedBytes: 0, availableBytes: 2 * GIB },
  clockSource: { now: 'arch_sys_counter', available: ['arch_sys_counter'] },
};

const doubts = (change: Partial<DoctorFacts>) => diagnose({ ...QUIET, ...change }).filter(({ state }) => state === 'doubtful');
const policy = (change: Partial<ClockPolicy>) => ({ policies: [{ ...STEADY, ...change }] });
const seen = (change: Partial<NonNullable<DoctorFacts['neighbours']>>) => ({
  neighbours: { foreignShare: 0.01, stealShare: 0, busiest: [], ...change },
});

describe('the doctor', () => {
  it('has no doubt of a quiet, steady machine, and says of everything what it saw', () => {
    const findings = diagnose(QUIET);
    expect(findings.filter(({ state }) => state !== 'fine')).toEqual([]);
    for (const topic of ['governor', 'clocks', 'throttling', 'temperature', 'neighbours', 'threads', 'spinning', 'swap', 'clock source'])
      expect(findings.map((finding) => finding.topic)).toContain(topic);
  });

  it.each<[string, Partial<DoctorFacts>, string, RegExp, RegExp | null]>([
    ['a governor that follows the load', policy({ governor: 'schedutil' }), 'governor', /core 0-3 follows the load \(governor schedutil\)/, /^echo performance \| sudo tee \S+scaling_governor$/],
    ['one that cannot be performance', policy({ governor: 'interactive', governors: ['interactive'] }), 'governor', /interactive/, /scaling_min_freq/],
    ['a capped clock', policy({ maxMHz: 1200, nowMHz: 1200 }), 'clocks', /capped the clock of core 0-3 at 1200 of 1800 MHz/, /cpuinfo_max_freq .*policy0\/scaling_max_freq$/],
    ['a clock that something holds down', policy({ nowMHz: 1500 }), 'clocks', /should run at 1800 MHz and runs at 1500/, null],
    ['two kinds of cores', { policies: [STEADY, { ...STEADY, name: 'policy4', cores: [4, 5], maxMHz: 2400, hardwareMaxMHz: 2400, nowMHz: 2400 }] }, 'clocks', /2 kinds of cores/, /^taskset -c 4-5 ofa-agent/],
    ['a Pi that is short of voltage now', { throttledBits: 0x50005 }, 'throttling', /right now: the supply voltage is too low; it is throttled\./, /reboot/],
    ['a Pi that was', { throttledBits: 0x20000 }, 'throttling', /Since it was started .*the clock is capped\./, /reboot/],
    ['alarms of a Jetson', { supplyAlarms: [{ input: 'oc2', kind: 'over-current', events: 0 }, { input: 'oc3', kind: 'over-current', events: 12 }] }, 'throttling', /: over-current 12 times \(oc3\) since/, /nvpmodel -p/],
    ['cooling at work', { cooling: ['Processor'] }, 'throttling', /to cool it \(Processor\)/, null],
    ['an x86 that slowed for heat', { thermalThrottles: 7 }, 'throttling', /slowed 7 times/, /thermal_throttle/],
    ['a quota below the threads', { threads: 2, quota: { cores: 1.5, file: '/sys/fs/cgroup/app/cpu.max' } }, 'quota', /1\.50 cores' worth/, /^echo max \| sudo tee \/sys\/fs\/cgroup\/app\/cpu\.max$/],
    ['a quota that has stopped programs', { quotaStops: 3, quota: { cores: 2, file: '/sys/fs/cgroup/cpu/cpu.cfs_quota_us' } }, 'quota', /stopped programs here 3 times/, /^echo -1 \|/],
    ['a small power mode', { powerMode: '15W' }, 'power mode', /power mode 15W/, /nvpmodel -m NUMBER/],
    ['a saving power profile', { platformProfile: { now: 'low-power', choices: ['low-power', 'performance'] } }, 'power mode', /profile is low-power/, /platform_profile$/],
    ['heat', { temperatureC: 75 }, 'temperature', /75 °C is too hot to begin with \(limit 70 °C; it begins to slow at 80 °C\)/, null],
    ['a battery at work', { battery: { status: 'Discharging', percent: 77 } }, 'battery', /feeds the machine \(77 %\)/, null],
    ['a low battery', { battery: { status: 'Discharging', percent: 29 } }, 'battery', /29 % \(limit 30 %\)/, null],
    ['a battery being charged', { battery: { status: 'Charging', percent: 50 } }, 'battery', /being charged/, null],
    ['neighbours', seen({ foreignShare: 0.4, busiest: [{ pid: 812, name: 'chrome', coreShare: 0.9 }] }), 'neighbours', /40 % of all cores' time \(limit 5\.0 %\): chrome \(process 812, 90 % of a core\)/, /-p 812$/],
    ['stolen time', seen({ stealShare: 0.03 }), 'neighbours', /3\.0 % of its time/, null],
    ['more threads than cores', { threads: 4, allowedCores: [2, 3] }, 'threads', /4 threads are asked, but 2 core\(s\) may be used \(2-3 of 4 online\)/, /--threads 2$/],
    ['threads on second halves of cores', { threads: 3, siblings: [[0, 1], [2, 3]] }, 'threads', /there are 2 whole cores/, /--threads 2$/],
    ['threads that may share a core', { threads: 2, siblings: [[0, 2], [1, 3]] }, 'threads', /on one core/, /^taskset -c 0-1 .*--threads 2$/],
    ['spinning threads', { idleCores: 0.9 }, 'spinning', /90 % of a core \(limit 20 %\): they spin/, null],
    ['programs swapped out, with room', { memory: { swapTotalBytes: GIB, swapUsedBytes: GIB / 2, availableBytes: GIB } }, 'swap', /512 MiB of programs lie on the disk/, /swapoff -a && sudo swapon -a/],
    ['programs swapped out, without', { memory: { swapTotalBytes: GIB, swapUsedBytes: GIB / 2, availableBytes: GIB / 4 } }, 'swap', /only 256 MiB/, /^ps /],
    ['a slow clock source', { clockSource: { now: 'hpet', available: ['tsc', 'hpet'] } }, 'clock source', /from hpet/, /^echo tsc \| sudo tee/],
    ['a slow one without a choice', { clockSource: { now: 'acpi_pm', available: ['acpi_pm'] } }, 'clock source', /no better one/, /dmesg/],
  ])('doubts %s, says why, and gives the command where there is one', (_, change, topic, message, command) => {
    const found = doubts(change);
    expect(found.map((finding) => finding.topic)).toEqual([topic]);
    expect(found[0]?.message).toMatch(message);
    if (command === null) expect(found[0]?.command).toBeNull();
    else expect(found[0]?.command).toMatch(command);
  }); // prettier-ignore

  it.each<[string, Partial<DoctorFacts>]>([
    ['a governor that somebody set by hand', policy({ governor: 'userspace' })],
    ['one thread on a processor with two threads a core', { siblings: [[0, 1], [2, 3]] }], // prettier-ignore
    ['a quota that is wide enough', { quota: { cores: 2, file: '/sys/fs/cgroup/cpu.max' } }],
    ['MAXN', { powerMode: 'MAXN_SUPER' }],
    ['a full battery on the charger', { battery: { status: 'Full', percent: 100 } }],
    ['a little swap', { memory: { swapTotalBytes: GIB, swapUsedBytes: 2 ** 20, availableBytes: GIB } }],
  ])('has no doubt of %s', (_, change) => {
    expect(doubts(change)).toEqual([]);
  });

  it('calls unknown what a machine does not tell, which is not the same as fine', () => {
    const findings = diagnose({
      ...QUIET,
      policies: [],
      throttledBits: null,
      allowedCores: [],
      neighbours: null,
      temperatureC: null,
      memory: null,
      clockSource: null,
      idleCores: null,
    });
    expect(findings.every(({ state }) => state === 'unknown')).toBe(true);
    expect(findings.map(({ topic }) => topic)).toEqual([
      'governor',
      'throttling',
      'temperature',
      'neighbours',
      'threads',
      'swap',
      'clock source',
    ]);
  });

  it('writes lists of cores as taskset takes them', () => {
    expect(coreList([3, 0, 1, 6])).toBe('0-1,3,6');
  });
});
