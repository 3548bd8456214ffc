// What measurements say of their device: a baseline that is learnt once, a shift that is told, a quarantine with a way out.
import { describe, expect, it } from 'vitest';
import type { Measurement } from '../../../shared/measurement.ts';
import { afterMeasurement, baselinesOf, waitMs } from '../../../controller/fleet/device-health.ts';
import { HEALTHY, type DeviceHealth } from '../../../controller/store/device-health.ts';
import { measurementOf } from '../../helpers/measurements.ts';

const WORKLOAD = 'convolutions-2 on onnxruntime-node 1.30.0, 1 thread(s)';

function measured(referenceMs: number, state: Measurement['verdict']['state'] = 'valid', workload = WORKLOAD): Measurement {
  const blocks = [{ afterRuns: 0, medianMs: referenceMs, relativeHalfWidth: 0.003 }];
  return { ...measurementOf(5, state), reference: { workload, baseline: null, blocks, moved: 0 } };
}

function after(measurements: readonly Measurement[], from: DeviceHealth = HEALTHY, now = 0): DeviceHealth {
  return measurements.reduce((health, one) => afterMeasurement(health, one, now), from);
}

const steady = after([1, 1.01, 0.99, 1.005, 0.995].map((ms) => measured(ms)));

describe('the baseline of a device', () => {
  it('is known from three valid measurements on, with what one more process may differ by', () => {
    expect(baselinesOf(after([measured(1), measured(1.01)]))).toEqual({});
    expect(baselinesOf(after([measured(1), measured(1.01), measured(9, 'suspect')]))).toEqual({});
    const baseline = baselinesOf(steady)[WORKLOAD];
    expect(baseline?.medianMs).toBe(1);
    // t(0.95, 4) · sd · sqrt(1 + 1/5), sd of these five logarithms 0.0079
    expect(baseline?.relativeHalfWidth).toBeCloseTo(2.776 * 0.0079 * Math.sqrt(1.2), 3);
  });

  it('stays what it was, however the device changes', () => {
    const slower = after(
      Array.from({ length: 20 }, () => measured(1.06)),
      steady,
    );
    expect(baselinesOf(slower)).toEqual(baselinesOf(steady));
  });

  it('is kept apart for each workload', () => {
    const both = after(
      [1, 1, 1].map((ms) => measured(40 * ms, 'valid', 'wasm')),
      steady,
    );
    expect(Object.keys(baselinesOf(both))).toEqual([WORKLOAD, 'wasm']);
    expect(waitMs(both, 0)).toBe(0);
  });
});

describe('a device is put in quarantine', () => {
  it('after three measurements in a row more than a tenth off its baseline, not after two', () => {
    const twice = after([measured(1.2), measured(1.2)], steady, 1000);
    expect(twice.quarantine).toBeNull();
    const thrice = after([measured(1.2)], twice, 1000);
    expect(thrice.quarantine?.message).toContain('20 % slower than its baseline in 3 measurements in a row (limit 10 %)');
    expect(waitMs(thrice, 1000)).toBe(600_000);
    expect(after([measured(1.2), measured(1.02), measured(1.2)], steady).quarantine).toBeNull();
  });

  it('after three invalid measurements in a row', () => {
    const health = after([measured(1, 'invalid'), measured(1, 'invalid'), measured(1, 'invalid')], steady);
    expect(health.quarantine?.message).toContain('its last 3 measurements were invalid (limit 3)');
  });

  it('and released by the first good measurement, not by a bad one', () => {
    const out = after([measured(1.3), measured(1.3), measured(1.3)], steady, 0);
    const still = afterMeasurement(out, measured(1.3), 600_000);
    expect([waitMs(still, 600_000), still.quarantine?.since]).toEqual([600_000, 0]);
    const invalid = afterMeasurement(out, measured(1, 'invalid'), 600_000);
    expect(waitMs(invalid, 600_000)).toBe(600_000);
    expect(afterMeasurement(still, measured(1.01), 1_200_000).quarantine).toBeNull();
  });
});
