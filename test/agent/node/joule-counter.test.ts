// The count of joules behind a deployment's account, on a simulated counter whose range and resets are known.
import { afterEach, describe, expect, it } from 'vitest';
import { openJouleCounter } from '../../../agent/node/joule-counter.ts';
import { meterHost } from '../../../agent/node/meters/discover.ts';
import type { JouleCounter } from '../../../agent/energy-account.ts';
import { makeTree, type Tree } from '../../helpers/sysfs-tree.ts';

const ZONE = 'class/powercap/intel-rapl:0';
const RANGE_JOULES = 1000;

let sys: Tree;
let ms = 0;
afterEach(() => sys.remove());

function open(joules: number): { readonly counter: JouleCounter; readonly show: (atMs: number, joules: number) => void } {
  sys = makeTree({
    [`${ZONE}/name`]: 'package-0',
    [`${ZONE}/energy_uj`]: joules * 1e6,
    [`${ZONE}/max_energy_range_uj`]: RANGE_JOULES * 1e6,
  });
  ms = 0;
  const counter = openJouleCounter(meterHost(sys.root), { monotonicMs: () => ms, wallMs: () => ms, sleep: () => Promise.resolve() });
  if (!('sensor' in counter)) throw new Error(counter.message);
  counter.readJoules();
  const show = (atMs: number, now: number) => {
    ms = atMs;
    sys.write({ [`${ZONE}/energy_uj`]: now * 1e6 });
  };
  return { counter, show };
}

describe('the joule counter', () => {
  it('goes on over the wrap of its sensor', () => {
    const { counter, show } = open(990);
    show(1000, 10);
    expect(counter.readJoules()).toEqual({ ok: true, value: 20 });
  });

  it('says COUNTER_RESET where the sensor fell by more than any device draws in that time, and counts on from there', () => {
    const { counter, show } = open(900);
    show(20, 1);
    expect(counter.readJoules()).toMatchObject({ ok: false, reason: 'COUNTER_RESET' });
    show(1020, 9);
    expect(counter.readJoules()).toEqual({ ok: true, value: 8 });
  });

  it('says SENSOR_STALE where the sensor cannot be read now, and has its joules in the next reading', () => {
    const { counter, show } = open(100);
    sys.write({ [`${ZONE}/energy_uj`]: 'nothing' });
    expect(counter.readJoules()).toMatchObject({ ok: false, reason: 'SENSOR_STALE' });
    show(2000, 120);
    expect(counter.readJoules()).toEqual({ ok: true, value: 20 });
  });
});
