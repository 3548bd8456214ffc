// RAPL zones as they nest, and wired INA2xx monitors, on simulated sysfs trees.
import { join } from 'node:path';
import { afterEach, describe, expect, it } from 'vitest';
import { discoverMeters } from '../../../../agent/node/meters/discover.ts';
import { discoverHwmon } from '../../../../agent/node/meters/hwmon.ts';
import type { MeterHost } from '../../../../agent/node/meters/meter.ts';
import { discoverRapl } from '../../../../agent/node/meters/rapl.ts';
import { readNow } from '../../../../agent/node/meters/source.ts';
import { makeTree, type Tree } from '../../../helpers/sysfs-tree.ts';

type Files = Readonly<Record<string, string | number>>;

let trees: Tree[] = [];
afterEach(() => {
  for (const made of trees) made.remove();
  trees = [];
});

function host(files: Files): MeterHost {
  const made = makeTree(files);
  trees.push(made);
  return { sysfsRoot: made.root, programDirs: [], plugs: [], computesOn: 'cpu' };
}

const zone = (path: string, name: string, microjoules: number): Files => ({
  [`${path}/name`]: name,
  [`${path}/energy_uj`]: microjoules,
  [`${path}/max_energy_range_uj`]: 65_000_000_000,
});

function joulesOf(where: MeterHost): number | null {
  const source = discoverRapl(where).meters[0]?.source;
  return source?.kind === 'files' ? readNow(source) : null;
}

describe('RAPL zones', () => {
  const nested = {
    ...zone('class/powercap/intel-rapl/intel-rapl:0', 'package-0', 3_000_000),
    ...zone('class/powercap/intel-rapl/intel-rapl:0/intel-rapl:0:0', 'core', 800_000),
    ...zone('class/powercap/intel-rapl/intel-rapl:0/intel-rapl:0:1', 'uncore', 200_000),
    ...zone('class/powercap/intel-rapl/intel-rapl:1', 'psys', 9_000_000),
    ...zone('class/powercap/intel-rapl-mmio/intel-rapl-mmio:0', 'package-0', 2_900_000),
  };

  it('are found one inside the other too, and only the package counts: not 3.0 + 0.8 + 0.2 + 9.0 + 2.9 J', () => {
    expect(joulesOf(host(nested))).toBeCloseTo(3, 9);
    expect(discoverRapl(host(nested)).unusable.map(({ sensor }) => sensor)).toEqual([
      'rapl package-0 (intel-rapl-mmio:0)',
      'rapl core (intel-rapl:0:0)',
      'rapl uncore (intel-rapl:0:1)',
      'rapl psys (intel-rapl:1)',
    ]);
  });

  it('count once where the kernel shows them side by side, inside each other, and as devices', () => {
    const thrice = {
      ...nested,
      ...zone('class/powercap/intel-rapl:0', 'package-0', 3_000_000),
      ...zone('devices/virtual/powercap/intel-rapl/intel-rapl:0', 'package-0', 3_000_000),
    };
    expect(joulesOf(host(thrice))).toBeCloseTo(3, 9);
    expect(joulesOf(host(zone('devices/virtual/powercap/intel-rapl/intel-rapl:0', 'package-0', 4_000_000)))).toBeCloseTo(4, 9);
  });

  it('of a second socket that cannot be read refuse the first: a part is not the machine', () => {
    const found = discoverRapl(
      host({ ...zone('class/powercap/intel-rapl:0', 'package-0', 1), 'class/powercap/intel-rapl:1/name': 'package-1' }),
    );
    expect(found.meters).toEqual([]);
    expect(found.unusable.map(({ message }) => message).join(' ')).toContain('without package-1 it is a part');
  });

  it('of AMD are read alike, with their own range', () => {
    const [meter] = discoverRapl(
      host({
        ...zone('class/powercap/intel-rapl:0', 'package-0', 5_000_000),
        'class/powercap/intel-rapl:0/max_energy_range_uj': 65_532_610_987,
      }),
    ).meters;
    expect(meter?.info).toMatchObject({ boundary: 'package', wrapJoules: 65532.610987 });
  });
});

describe('a wired INA2xx monitor', () => {
  const base = 'class/hwmon/hwmon1';
  const chip = { [`${base}/name`]: 'ina226', [`${base}/update_interval`]: 35 };

  it('gives microwatts, at the interval that it is set to, as wired', () => {
    const [meter] = discoverHwmon(host({ ...chip, [`${base}/power1_input`]: 3_250_000, [`${base}/shunt_resistor`]: 10_000 })).meters;
    expect(meter).toMatchObject({ info: { sensor: 'hwmon ina226 power1', boundary: 'rail', kind: 'power' }, typicalRefreshMs: 35 });
    expect(meter?.source.kind === 'files' ? readNow(meter.source) : null).toBeCloseTo(3.25, 9);
    expect(meter?.scope).toContain('as it was wired');
  });

  it('gives millivolts times milliamperes where it has no power, and nothing where it has not both', () => {
    const pair = { ...chip, [`${base}/in0_input`]: 99, [`${base}/in1_input`]: 5100, [`${base}/curr1_input`]: 700 };
    const [meter] = discoverHwmon(host(pair)).meters;
    expect(meter?.source.kind === 'files' ? readNow(meter.source) : null).toBeCloseTo(3.57, 9);
    expect(discoverHwmon(host({ ...chip, [`${base}/in1_input`]: 5100 })).meters).toEqual([]);
  });

  it('that gives power as well as volts and amperes is one meter', () => {
    const all = { ...chip, [`${base}/power1_input`]: 3_250_000, [`${base}/in1_input`]: 5000, [`${base}/curr1_input`]: 650 };
    expect(discoverHwmon(host(all)).meters.map(({ info }) => info.sensor)).toEqual(['hwmon ina226 power1']);
  });

  it('with a counter of its own gives joules, and its power is the second way to the same', () => {
    const where = host({ [`${base}/name`]: 'ina228', [`${base}/energy1_input`]: 7_000_000, [`${base}/power1_input`]: 1_000_000 });
    expect(discoverMeters(where).meters.map(({ info }) => [info.sensor, info.kind])).toEqual([['hwmon ina228 energy1', 'counter']]);
    expect(discoverMeters(where).unusable[0]?.message).toContain('taken by a more direct reading');
  });

  it('is null where a file goes', () => {
    const where = host({ ...chip, [`${base}/power1_input`]: 3_250_000 });
    const [meter] = discoverHwmon(where).meters;
    trees.at(-1)?.write({ [`${base}/power1_input`]: '' });
    expect(meter?.source.kind === 'files' ? readNow(meter.source) : 0).toBeNull();
    expect(discoverHwmon(where).unusable[0]?.message).toContain(`sudo chmod a+r ${join(where.sysfsRoot, base, 'power1_input')}`);
  });
});
