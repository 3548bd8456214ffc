// What the search is told of a subnet, from the measurements behind it.
import { describe, expect, it } from 'vitest';
import type { Measurement } from '../../../shared/measurement.ts';
import { ok } from '../../../shared/outcome.ts';
import { settle } from '../../../controller/store/told.ts';
import { measurementOf } from '../../helpers/measurements.ts';

/** A device that drifts: the model takes `latencyMs` at its baseline's speed and `slow` times that as timed. */
function drifted(latencyMs: number, slow: number): Measurement {
  const asTimed = measurementOf(latencyMs * slow);
  return { ...asTimed, corrected: measurementOf(latencyMs).latency };
}

const told = (measurement: Measurement) => {
  const one = settle([{ jobId: 'j', outcome: ok(measurement) }], 0.1);
  return one?.outcome.ok === true ? one.outcome.value.objectives.latencyMs : null;
};

describe('the search', () => {
  it('is told the time as it was taken where the device was as it should be', () => {
    expect(told(measurementOf(5))).toBeCloseTo(5, 1);
  });

  it('is told the time at the speed of the baseline where the reference workload moved: a slow hour does not turn the order of two nets', () => {
    // the faster net was measured while the device was 8 % slow; without the correction it would come second
    const [faster, slower] = [drifted(5, 1.08), measurementOf(5.2)];
    expect(told(faster) as number).toBeLessThan(told(slower) as number);
    expect(told({ ...faster, corrected: null }) as number).toBeGreaterThan(told(slower) as number);
  });
});
