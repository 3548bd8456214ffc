// A simulated power sensor that changes too seldom for a figure, however fast it is read.
import { describe, expect, it } from 'vitest';
import { energyPerInference } from '../../agent/energy-figure.ts';

const STEP_MS = 10;
const LOAD = { startMs: 6000, endMs: 7000 };

/** 1 W or 1.1 W in turn while idle; 3 W under load, which moves `changes` times during it, evenly. */
function energyWith(changes: number) {
  const points = Array.from({ length: 1310 }, (_, i) => {
    const at = i * STEP_MS;
    const turn = Math.floor(((at - LOAD.startMs) * changes) / (LOAD.endMs - LOAD.startMs)) % 2;
    return [at, at >= LOAD.startMs && at < LOAD.endMs ? 3 + 0.1 * turn : 1 + 0.1 * (i % 2)] as const;
  });
  return energyPerInference({
    info: { sensor: 'a sensor', boundary: 'board', kind: 'power', lsb: 0.01, wrapJoules: null, gain: 0 },
    trace: { atMs: Float64Array.from(points, ([at]) => at), values: Float64Array.from(points, ([, watts]) => watts) },
    refreshMs: STEP_MS,
    before: { startMs: 1000, endMs: 6000 },
    load: LOAD,
    after: { startMs: 8000, endMs: 13_000 },
    inferences: 100,
  }).energy;
}

describe('a load window with few distinct readings', () => {
  it('gives no joules but SENSOR_TOO_SLOW, with the count and the seconds that would do', () => {
    const { net, gross } = energyWith(10);
    expect([net.value, gross.value]).toEqual([null, null]);
    expect(net.reason).toBe('SENSOR_TOO_SLOW');
    expect(net.message).toMatch(/gave 1\d distinct readings in 1\.00 s \(needed 20\)\. A load window of 2 s would do\.$/);
  });

  it('gives joules where there are enough', () => {
    const { net } = energyWith(25);
    expect(net.value).toBeCloseTo((3.05 - 1.05) / 100, 3);
  });
});
