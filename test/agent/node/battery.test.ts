// Batteries on simulated trees and by a program that stands for Termux: no device with a battery is among the test machines. Lines are of our own making,
// in the grammar of the kernel's power_supply class and of termux-battery-status.
import fc from 'fast-check';
import { chmodSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, describe, expect, it } from 'vitest';
import { discoverBattery } from '../../../agent/node/meters/battery.ts';
import { parseBatteryUevent, parseTermuxBattery } from '../../../agent/node/meters/battery-grammar.ts';
import { meterHost } from '../../../agent/node/meters/discover.ts';
import { readNow } from '../../../agent/node/meters/source.ts';
import { discoverTermux } from '../../../agent/node/meters/termux.ts';
import { makeTree, type Tree } from '../../helpers/sysfs-tree.ts';

const uevent = (fields: Readonly<Record<string, string | number>>) =>
  ['DEVTYPE=power_supply', ...Object.entries(fields).map(([name, value]) => `POWER_SUPPLY_${name}=${value}`)].join('\n');

const LAPTOP = {
  NAME: 'BAT1',
  TYPE: 'Battery',
  STATUS: 'Discharging',
  PRESENT: 1,
  VOLTAGE_NOW: 15_200_000,
  POWER_NOW: 8_740_000,
  CAPACITY: 64,
};
const AC = { NAME: 'ADP1', TYPE: 'Mains', ONLINE: 0 };

describe('the uevent of a battery', () => {
  it.each<[string, Readonly<Record<string, string | number>>, number | null]>([
    ['power_now is microwatts', LAPTOP, 8.74],
    ['its sign means nothing', { ...LAPTOP, POWER_NOW: -8_740_000 }, 8.74],
    // 1.25 A x 12.4 V
    ['without power_now: current times voltage', { STATUS: 'Discharging', VOLTAGE_NOW: 12_400_000, CURRENT_NOW: 1_250_000 }, 15.5],
    ['a negative current while discharging', { STATUS: 'Discharging', VOLTAGE_NOW: 4_000_000, CURRENT_NOW: -350_000 }, 1.4],
    ['a positive current while charging is no reading', { STATUS: 'Charging', VOLTAGE_NOW: 4_000_000, CURRENT_NOW: 350_000 }, null],
    // 420 mA x 3.85 V
    ['a current below 1000 counts milliamperes', { STATUS: 'Discharging', VOLTAGE_NOW: 3_850_000, CURRENT_NOW: -420 }, 1.617],
    ['a voltage below 0.1 V counts millivolts', { STATUS: 'Discharging', VOLTAGE_NOW: 3850, CURRENT_NOW: 420_000 }, 1.617],
    ['the mean current where there is no other', { STATUS: 'Discharging', VOLTAGE_NOW: 4_000_000, CURRENT_AVG: 500_000 }, 2],
    ['0 while discharging is no reading', { STATUS: 'Discharging', VOLTAGE_NOW: 11_100_000, CURRENT_NOW: 0 }, null],
    ['power 0 and no current', { STATUS: 'Discharging', VOLTAGE_NOW: 11_100_000, POWER_NOW: 0 }, null],
    ['power 0 beside a current', { STATUS: 'Discharging', VOLTAGE_NOW: 10_000_000, POWER_NOW: 0, CURRENT_NOW: 700_000 }, 7],
    ['full on a charger', { ...LAPTOP, STATUS: 'Full' }, null],
    ['not charging', { ...LAPTOP, STATUS: 'Not charging' }, null],
    ['an unknown state', { ...LAPTOP, STATUS: 'Unknown' }, null],
    ['no state', { VOLTAGE_NOW: 4_397_000, POWER_NOW: 10_000_000 }, null],
    ['no voltage', { STATUS: 'Discharging', CURRENT_NOW: 420_000 }, null],
    ['words where numbers belong', { STATUS: 'Discharging', VOLTAGE_NOW: 'high', CURRENT_NOW: 'some' }, null],
  ])('%s', (_, fields, watts) => {
    if (watts === null) expect(parseBatteryUevent(uevent(fields))).toBeNull();
    else expect(parseBatteryUevent(uevent(fields))).toBeCloseTo(watts, 9);
  });

  it('never throws, whatever a driver writes, and never gives less than nothing', () => {
    const line = fc.oneof(
      fc.string(),
      fc
        .tuple(
          fc.constantFrom('STATUS', 'POWER_NOW', 'CURRENT_NOW', 'VOLTAGE_NOW'),
          fc.oneof(fc.string(), fc.float().map(String), fc.constant('Discharging')),
        )
        .map(([name, text]) => `POWER_SUPPLY_${name}=${text}`),
    );
    fc.assert(
      fc.property(fc.array(line, { maxLength: 8 }), (lines) => {
        const watts = parseBatteryUevent(lines.join('\n'));
        expect(watts === null || (Number.isFinite(watts) && watts > 0)).toBe(true);
      }),
    );
  });
});

describe('the answer of termux-battery-status', () => {
  const phone = {
    present: true,
    health: 'GOOD',
    plugged: 'UNPLUGGED',
    status: 'DISCHARGING',
    temperature: 28.5,
    voltage: 3900,
    current: -260_000,
    percentage: 71,
  };
  it.each<[string, object, number | null]>([
    // 0.26 A x 3.9 V
    ['microamperes and millivolts', phone, 1.014],
    ['a positive sign while discharging', { ...phone, current: 260_000 }, 1.014],
    ['an older release on a phone that counts milliamperes', { ...phone, current: -260 }, 1.014],
    ['microamperes beside an average in milliamperes', { ...phone, current: 260_000, current_average: 255 }, 1.014],
    ['volts', { ...phone, voltage: 3.9 }, 1.014],
    ['unplugged though it says not charging', { ...phone, status: 'NOT_CHARGING' }, 1.014],
    ['no plug field, discharging', { ...phone, plugged: undefined }, 1.014],
    ['no plug field, not charging', { ...phone, plugged: undefined, status: 'NOT_CHARGING' }, null],
    ['plugged in, whatever the sign', { ...phone, plugged: 'PLUGGED_USB', status: 'CHARGING' }, null],
    ['plugged in and discharging all the same', { ...phone, plugged: 'PLUGGED_AC' }, null],
    ['0 while discharging', { ...phone, current: 0 }, null],
    ['a release without voltage', { ...phone, voltage: undefined }, null],
    ['no current', { ...phone, current: undefined }, null],
    ['an error', { error: 'Termux:API is not installed' }, null],
  ])('%s', (_, answer, watts) => {
    const parsed = parseTermuxBattery(JSON.stringify(answer));
    if (watts === null) expect(parsed).toBeNull();
    else expect(parsed).toBeCloseTo(watts, 9);
  });

  it('never throws, whatever arrives', () => {
    const cut = fc.nat(300).map((length) => JSON.stringify(phone).slice(0, length));
    fc.assert(
      fc.property(fc.oneof(fc.string(), fc.json(), cut), (text) => {
        expect(parseTermuxBattery(text) ?? 1).toBeGreaterThan(0);
      }),
    );
  });
});

describe('battery discovery', () => {
  let made: Tree | null = null;
  afterEach(() => {
    made?.remove();
    made = null;
  });
  const discover = (supplies: Readonly<Record<string, Readonly<Record<string, string | number>>>>) => {
    made = makeTree(
      Object.fromEntries(Object.entries(supplies).map(([name, fields]) => [`class/power_supply/${name}/uevent`, uevent(fields)])),
    );
    return discoverBattery(meterHost(made.root));
  };

  it('takes a battery that discharges, with what it encloses', () => {
    const { meters, unusable } = discover({ ADP1: AC, BAT1: LAPTOP });
    expect(unusable).toEqual([]);
    expect(meters).toHaveLength(1);
    expect(meters[0]?.info).toMatchObject({ sensor: 'battery BAT1', boundary: 'battery', kind: 'power', wrapJoules: null });
    expect(meters[0]?.scope).toContain('no charger');
  });

  it.each([
    ['the charger is online, though the battery says Discharging', { ADP1: { ...AC, ONLINE: 1 }, BAT1: LAPTOP }],
    ['the battery is charged', { BAT1: { ...LAPTOP, STATUS: 'Charging' } }],
    ['the battery is full', { BAT1: { ...LAPTOP, STATUS: 'Full' } }],
  ])('refuses with ON_CHARGER where %s, and says what to do', (_, supplies) => {
    const { meters, unusable } = discover(supplies);
    expect(meters).toEqual([]);
    expect(unusable).toHaveLength(1);
    expect(unusable[0]).toMatchObject({ reason: 'ON_CHARGER' });
    expect(unusable[0]?.message).toContain('Unplug');
  });

  it('says that a gauge which shows 0 while discharging tells nothing', () => {
    const { meters, unusable } = discover({ BAT0: { STATUS: 'Discharging', VOLTAGE_NOW: 10_653_000, CURRENT_NOW: 0, CAPACITY: 39 } });
    expect(meters).toEqual([]);
    expect(unusable[0]).toMatchObject({ sensor: 'battery BAT0', reason: 'SENSOR_MISSING' });
    expect(unusable[0]?.message).toContain('0 while it discharges');
  });

  it('leaves the battery of a mouse alone, takes the one of two that discharges, and neither where both do', () => {
    const mouse = { TYPE: 'Battery', SCOPE: 'Device', STATUS: 'Discharging', POWER_NOW: 5000, VOLTAGE_NOW: 1_500_000 };
    expect(discover({ hid: mouse })).toEqual({ meters: [], unusable: [] });
    made?.remove();
    expect(
      discover({ hid: mouse, BAT0: { ...LAPTOP, STATUS: 'Not charging' }, BAT1: LAPTOP }).meters.map(({ info }) => info.sensor),
    ).toEqual(['battery BAT1']);
    made?.remove();
    const both = discover({ BAT0: LAPTOP, BAT1: LAPTOP });
    expect(both.meters).toEqual([]);
    expect(both.unusable.map(({ message }) => message).every((message) => message.includes('BAT0 and BAT1'))).toBe(true);
  });

  it('gives no reading once the charger comes, nor once the file is gone', () => {
    const { meters } = discover({ BAT1: LAPTOP });
    const source = meters[0]?.source;
    if (source?.kind !== 'text') throw new Error('no text source');
    expect(readNow(source)).toBeCloseTo(8.74, 9);
    made?.write({ 'class/power_supply/BAT1/uevent': uevent({ ...LAPTOP, STATUS: 'Charging' }) });
    expect(readNow(source)).toBeNull();
    rmSync(source.path);
    expect(readNow(source)).toBeNull();
  });

  it('asks Termux where its program is there, and says why not where it does not answer or a charger is attached', () => {
    const dir = mkdtempSync(join(tmpdir(), 'ofa-termux-'));
    const answer = (text: string) => {
      writeFileSync(join(dir, 'termux-battery-status'), `#!/bin/sh\n${text}\n`);
      chmodSync(join(dir, 'termux-battery-status'), 0o755);
      return discoverTermux({ ...meterHost('/nowhere'), programDirs: [dir] });
    };
    try {
      const json = (fields: object) =>
        `echo '${JSON.stringify({ plugged: 'UNPLUGGED', status: 'DISCHARGING', current: -310_000, voltage: 4012, ...fields })}'`;
      expect(answer(json({})).meters[0]?.info).toMatchObject({ sensor: 'termux battery', boundary: 'battery' });
      expect(answer(json({ plugged: 'PLUGGED_AC' })).unusable[0]).toMatchObject({ reason: 'ON_CHARGER' });
      expect(answer('exit 1').unusable[0]?.message).toContain('Termux:API');
      expect(answer(json({ voltage: undefined })).unusable[0]?.message).toContain('no voltage');
      expect(discoverTermux({ ...meterHost('/nowhere'), programDirs: [] })).toEqual({ meters: [], unusable: [] });
    } finally {
      rmSync(dir, { recursive: true });
    }
  });
});
