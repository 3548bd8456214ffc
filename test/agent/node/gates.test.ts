// What the gates look at, on simulated /sys and /proc trees: no board with these files is at hand.
import { afterEach, describe, expect, it } from 'vitest';
import { readBatteryState } from '../../../agent/node/battery-state.ts';
import { readDeviceState } from '../../../agent/node/gates.ts';
import { HOST_ROOTS } from '../../../agent/node/host-files.ts';
import { makeTree, type Tree } from '../../helpers/sysfs-tree.ts';

type Files = Readonly<Record<string, string | number>>;

let trees: Tree[] = [];
afterEach(() => {
  for (const made of trees) made.remove();
  trees = [];
});

function root(files: Files = {}): string {
  const made = makeTree(files);
  trees.push(made);
  return made.root;
}

const stateOf = (sys: Files, proc: Files = {}) => readDeviceState({ sysfsRoot: root(sys), procRoot: root(proc) });
const FLAGS = 'devices/platform/soc/soc:firmware/get_throttled';
const cooling = (type: string, state: number): Files => ({
  'class/thermal/cooling_device0/type': type,
  'class/thermal/cooling_device0/cur_state': state,
});

describe('what slows a board now', () => {
  it.each<[string, Files, string | null]>([
    ['flags that are clear', { [FLAGS]: '0' }, null],
    ['flags that tell of the past only', { [FLAGS]: 'f0000' }, null],
    ['under-voltage', { [FLAGS]: '50005' }, 'UNDER_VOLTAGE'],
    ['a soft temperature limit', { [FLAGS]: '80008' }, 'TOO_HOT'],
    ['flags that are no number', { [FLAGS]: 'n/a' }, null],
    ['a voltage alarm', { 'class/hwmon/hwmon1/name': 'rpi_volt', 'class/hwmon/hwmon1/in0_lcrit_alarm': 1 }, 'UNDER_VOLTAGE'],
    ['a processor slowed by the kernel', cooling('thermal-cpufreq-0', 1), 'TOO_HOT'],
    ['a processor at its full clock', cooling('thermal-cpufreq-0', 0), null],
    ['a fan that turns', cooling('pwm-fan', 4), null],
    ['nothing', {}, null],
  ])('with %s', (_, files, reason) => {
    expect(stateOf(files).slowed?.reason ?? null).toBe(reason);
  });
});

describe('CPU time', () => {
  const stat = { stat: 'cpu  100 20 30 400 50 6 7 8 0 0' };
  /** Fields 14 to 17 of /proc/self/stat: own user and system, then those of ended children. */
  const self = { 'self/stat': `7 (a ) b) S ${[...Array<number>(10).fill(0), 11, 12, 13, 14, 0, 0].join(' ')}` };

  it('is that of all cores, and of this agent with the processes that it started', () => {
    expect(stateOf({}, { ...stat, ...self }).cpu).toEqual({ totalMs: 6210, busyMs: 1710, ownMs: 500 });
  });

  it('is null where the kernel does not tell', () => {
    expect(stateOf({}, stat).cpu).toBeNull();
    expect(stateOf({}, self).cpu).toBeNull();
  });

  it('can be read on this machine, and grows', () => {
    const before = readDeviceState(HOST_ROOTS).cpu;
    for (const until = performance.now() + 60; performance.now() < until;) Math.sqrt(2);
    const after = readDeviceState(HOST_ROOTS).cpu;
    expect(before === null || (after !== null && after.ownMs > before.ownMs && after.busyMs > before.busyMs)).toBe(true);
  });
});

describe('the battery', () => {
  const uevent = (lines: readonly string[]) => lines.map((line) => `POWER_SUPPLY_${line}`).join('\n');

  it('is the emptiest that feeds the device; one of a mouse, one that is not there and a charger are none', () => {
    const sys = root({
      'class/power_supply/AC/uevent': uevent(['TYPE=Mains', 'ONLINE=1']),
      'class/power_supply/BAT0/uevent': uevent(['TYPE=Battery', 'STATUS=Discharging', 'CAPACITY=80']),
      'class/power_supply/BAT1/uevent': uevent(['STATUS=Unknown', 'CAPACITY=35']), // older kernels name no type
      'class/power_supply/BAT2/uevent': uevent(['TYPE=Battery', 'STATUS=Unknown', 'PRESENT=0', 'CAPACITY=0']),
      'class/power_supply/mouse/uevent': uevent(['TYPE=Battery', 'STATUS=Discharging', 'SCOPE=Device', 'CAPACITY=3']),
    });
    expect(readBatteryState(sys)).toEqual({ status: 'Unknown', percent: 35 });
  });

  it('may not know its charge, and is null on a device without one', () => {
    expect(readBatteryState(root({ 'class/power_supply/BAT0/uevent': uevent(['TYPE=Battery', 'STATUS=Full', 'CAPACITY=']) }))).toEqual({
      status: 'Full',
      percent: null,
    });
    expect(readBatteryState(root())).toBeNull();
  });
});
