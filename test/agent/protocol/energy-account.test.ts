// A deployment's joules in virtual time, from a counter whose truth is known (it stands in for a sensor).
import { describe, expect, it } from 'vitest';
import { createEnergyAccount, type JouleCounter } from '../../../agent/energy-account.ts';
import { failed, ok, type Outcome } from '../../../shared/outcome.ts';

const RUN = '01900000-0000-7000-8000-000000000000';
const served = (inferences: number, rev = 1) => ({ rev, manifestSha256: 'a'.repeat(64), inferences });

/** A device of 8 W idle and 25 W active; `trouble`: why its sensor gives nothing. */
function bench() {
  let [ms, joules] = [0, 0];
  let trouble: Outcome<number> | null = null;
  const counter: JouleCounter = { sensor: 'rapl package-0', readJoules: () => trouble ?? ok(joules) };
  const clock = { monotonicMs: () => ms, wallMs: () => ms, sleep: () => Promise.resolve() };
  const pass = (seconds: number, watts: number) => {
    ms += seconds * 1000;
    joules += seconds * watts;
  };
  return {
    counter,
    clock,
    pass,
    setTrouble: (why: 'SENSOR_STALE' | 'COUNTER_RESET' | null) => (trouble = why === null ? null : failed(why, 'no reading')),
  };
}

describe('the energy account of a deployment', () => {
  it('adds up idle and active intervals apart', () => {
    const { counter, clock, pass } = bench();
    const account = createEnergyAccount(counter, RUN, clock);
    account.tick(served(0), false);
    pass(10, 8);
    account.tick(served(0), false);
    pass(4, 25);
    account.tick(served(200), false);
    expect(account.hasNews()).toBe(true);
    expect(account.report()).toMatchObject({
      idleJoules: 80,
      activeJoules: 100,
      idleMs: 10_000,
      activeMs: 4000,
      inferences: 200,
      failure: null,
    });
    expect(account.hasNews()).toBe(false);
  });

  it('leaves out the intervals in which a job was measured, and begins anew with each revision', () => {
    const { counter, clock, pass } = bench();
    const account = createEnergyAccount(counter, RUN, clock);
    account.tick(served(0), false);
    pass(30, 25);
    account.tick(served(0), true);
    pass(1, 8);
    account.tick(served(0), false);
    expect(account.report()).toMatchObject({ idleJoules: 8, idleMs: 1000, seq: 0 });
    pass(5, 8);
    account.tick(served(0, 2), false);
    pass(2, 8);
    account.tick(served(0, 2), false);
    expect(account.report()).toMatchObject({ rev: 2, idleJoules: 16, idleMs: 2000, seq: 1 });
  });

  it('gives no joules, never 0, where there is no sensor or it fell silent, and says why', () => {
    const { counter, clock, pass, setTrouble } = bench();
    const none = createEnergyAccount(failed('SENSOR_MISSING', 'no sensor here'), RUN, clock);
    const silent = createEnergyAccount(counter, RUN, clock);
    for (const account of [none, silent]) account.tick(served(0), false);
    setTrouble('SENSOR_STALE');
    pass(1, 8);
    for (const account of [none, silent]) account.tick(served(3), false);
    expect(none.report()).toMatchObject({ idleJoules: null, activeJoules: null, inferences: 3, failure: { reason: 'SENSOR_MISSING' } });
    expect(silent.report()).toMatchObject({ idleJoules: null, activeJoules: null, failure: { reason: 'SENSOR_STALE' } });
  });

  it('waits for a sensor that could not be read for a moment, and loses nothing to it', () => {
    const { counter, clock, pass, setTrouble } = bench();
    const account = createEnergyAccount(counter, RUN, clock);
    account.tick(served(0), false);
    pass(4, 25);
    setTrouble('SENSOR_STALE');
    account.tick(served(200), false);
    setTrouble(null);
    pass(1, 8);
    account.tick(served(200), false);
    expect(account.report()).toMatchObject({ activeJoules: 108, activeMs: 5000, inferences: 200, failure: null });
  });

  it('gives no joules of a revision once its counter was reset, or its sensor silent for a minute; the next begins anew', () => {
    const { counter, clock, pass, setTrouble } = bench();
    const account = createEnergyAccount(counter, RUN, clock);
    for (const [rev, trouble] of [
      [1, 'COUNTER_RESET'],
      [2, 'SENSOR_STALE'],
    ] as const) {
      account.tick(served(0, rev), false);
      setTrouble(trouble);
      pass(70, 8);
      account.tick(served(0, rev), false);
      setTrouble(null);
      pass(1, 8);
      account.tick(served(0, rev), false);
      expect(account.report()).toMatchObject({ rev, idleJoules: null, failure: { reason: trouble } });
    }
    account.tick(served(0, 3), false);
    pass(1, 8);
    account.tick(served(0, 3), false);
    expect(account.report()).toMatchObject({ rev: 3, idleJoules: 8, failure: null });
  });

  it('says nothing where nothing is served', () => {
    const { counter, clock } = bench();
    expect(createEnergyAccount(counter, RUN, clock).report()).toBeNull();
  });
});
