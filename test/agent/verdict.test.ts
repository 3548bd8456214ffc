import { describe, expect, it } from 'vitest';
import { DEFAULT_PLAN, type Energy, type RunConditions } from '@ofa-fleet/shared/measurement.ts';
import { estimateMedian } from '@ofa-fleet/shared/statistics.ts';
import { noEnergy } from '../../agent/energy.ts';
import { judge, type Evidence } from '../../agent/verdict.ts';

const QUIET: RunConditions = {
  foreignCpuShare: 0.01,
  cgroupThrottledPeriods: 0,
  governor: 'performance',
  clockMHz: { start: 2000, min: 2000, end: 2000 },
  temperatureC: null,
  loadAverage: 0,
  freeMemoryBytes: null,
  garbageCollections: 0,
};

const steadyRuns = Array.from({ length: 100 }, (_, i) => 10 + ((i * 37) % 100) / 1000);

function judged(change: Partial<Omit<Evidence, 'conditions' | 'estimate'>> & { readonly conditions?: Partial<RunConditions> }) {
  const samples = change.samples ?? steadyRuns;
  const evidence: Evidence = {
    plan: DEFAULT_PLAN,
    neededSamples: 30,
    warmUp: { steady: true, windows: 2 },
    capped: false,
    reference: null,
    providers: { asked: 'cpu', obtained: 'cpu' },
    ...change,
    samples,
    estimate: estimateMedian(samples, 0.95),
    conditions: { ...QUIET, ...change.conditions },
  };
  const { state, findings } = judge(evidence);
  return {
    state,
    reasons: findings.map(({ reason }) => reason),
    effects: findings.map(({ effect }) => effect),
    text: findings.map(({ message }) => message).join(' '),
  };
}

describe('the verdict', () => {
  it('is valid, with nothing to say, on a quiet controlled machine', () => {
    expect(judged({})).toEqual({ state: 'valid', reasons: [], effects: [], text: '' });
  });

  it('is valid with a remark where the clock is not controlled', () => {
    expect(judged({ conditions: { governor: null, clockMHz: null } })).toMatchObject({ state: 'valid', reasons: ['UNCONTROLLED'] });
    expect(judged({ conditions: { governor: 'powersave' } }).text).toContain('powersave');
  });

  it('is invalid where operators ran elsewhere than asked', () => {
    const providers = { asked: 'webgpu', obtained: 'JsExecutionProvider 3 of 5 operators, CPUExecutionProvider 2 of 5 operators' };
    expect(judged({ providers })).toMatchObject({ state: 'invalid', reasons: ['FALLBACK_EP'] });
    expect(judged({ providers }).text).toContain('CPUExecutionProvider 2 of 5 operators');
  });

  it('is suspect where the process stood still for a tenth of the time, however few runs that hit', () => {
    const stopped = [...steadyRuns, ...steadyRuns, 400, ...steadyRuns];
    expect(judged({ samples: stopped })).toMatchObject({ state: 'suspect', reasons: ['NEIGHBOUR_LOAD'] });
    expect(judged({ samples: stopped }).text).toContain('stood still for 11 % of the timed runs (limit 10 %), 400 ms at a time');
    expect(judged({ samples: [...steadyRuns, ...steadyRuns, 100, ...steadyRuns] }).state).toBe('valid');
  });

  it('is invalid as soon as a quota stopped the process once', () => {
    expect(judged({ conditions: { cgroupThrottledPeriods: 1 } })).toMatchObject({ state: 'invalid', reasons: ['THROTTLED'] });
  });

  it.each([
    [0.05, 'valid', []],
    [0.06, 'suspect', ['NEIGHBOUR_LOAD']],
    [0.2, 'suspect', ['NEIGHBOUR_LOAD']],
    [0.21, 'invalid', ['NEIGHBOUR_LOAD']],
    [null, 'valid', []],
  ])('at a foreign CPU share of %s is %s', (foreignCpuShare, state, reasons) => {
    expect(judged({ conditions: { foreignCpuShare } })).toMatchObject({ state, reasons });
  });

  it.each([
    [1900, 'valid'],
    [1890, 'suspect'],
    [1500, 'suspect'],
    [1490, 'invalid'],
  ])('at a clock that fell from 2000 to %i MHz is %s', (min, state) => {
    const { reasons, text, ...rest } = judged({ conditions: { clockMHz: { start: 2000, min, end: 2000 } } });
    expect(rest.state).toBe(state);
    expect(reasons).toEqual(state === 'valid' ? [] : ['CLOCK_MOVED']);
    expect(text.includes(`to ${min} MHz`)).toBe(state !== 'valid');
  });

  it.each([
    [['throttled'], 'invalid', ['THROTTLED'], 'firmware throttled the processor'],
    [['frequency-capped', 'soft-temperature-limit'], 'invalid', ['THROTTLED'], 'capped the clock and lowered the clock'],
    [['under-voltage'], 'invalid', ['UNDER_VOLTAGE'], 'power supply made for it'],
    [['under-voltage', 'throttled'], 'invalid', ['THROTTLED', 'UNDER_VOLTAGE'], 'get_throttled'],
    [[], 'valid', [], ''],
  ] as const)('with the firmware events %j of a Raspberry Pi is %s', (seen, state, reasons, text) => {
    const judgement = judged({ conditions: { firmwareEvents: { seen: [...seen], unproven: ['throttled', 'under-voltage'] } } });
    expect(judgement).toMatchObject({ state, reasons });
    expect(judgement.text).toContain(text);
  });

  it('is suspect at over-current alarms alone, invalid if the clock fell too, and invalid at under-voltage alarms', () => {
    const alarm = (kind: 'over-current' | 'under-voltage', events: number) => [{ input: 'oc3', kind, events }];
    const fell = { start: 2000, min: 1890, end: 2000 };
    expect(judged({ conditions: { supplyAlarms: alarm('over-current', 0) } })).toMatchObject({ state: 'valid', reasons: [] });
    const alone = judged({ conditions: { supplyAlarms: alarm('over-current', 27_390) } });
    expect(alone).toMatchObject({ state: 'suspect', reasons: ['OVER_CURRENT'] });
    expect(alone.text).toContain('27390 times during the run (oc3_event_cnt; limit 0)');
    expect(judged({ conditions: { supplyAlarms: alarm('over-current', 1), clockMHz: fell } })).toMatchObject({
      state: 'invalid',
      reasons: ['OVER_CURRENT', 'CLOCK_MOVED'],
    });
    expect(judged({ conditions: { supplyAlarms: alarm('under-voltage', 1) } })).toMatchObject({
      state: 'invalid',
      reasons: ['UNDER_VOLTAGE'],
    });
  });

  it('is invalid where the processor was throttled for its temperature, by itself or by the kernel', () => {
    const hot = { start: 60, max: 97.4, end: 90 };
    const counted = judged({ conditions: { thermalThrottles: 3, temperatureC: hot } });
    expect(counted).toMatchObject({ state: 'invalid', reasons: ['THROTTLED'] });
    expect(counted.text).toContain('3 times at up to 97 °C');
    const slowed = judged({ conditions: { cooling: [{ device: 'thermal-cpufreq-0', state: 2 }] } });
    expect(slowed).toMatchObject({ state: 'invalid', reasons: ['THROTTLED'] });
    expect(slowed.text).toContain('thermal-cpufreq-0 at state 2');
    expect(judged({ conditions: { thermalThrottles: 0, cooling: [] } }).state).toBe('valid');
  });

  it('is suspect where the clock was not controlled and did fall', () => {
    const fell = judged({ conditions: { governor: 'schedutil', clockMHz: { start: 2000, min: 1890, end: 2000 } } });
    expect(fell).toMatchObject({ state: 'suspect', reasons: ['CLOCK_MOVED', 'UNCONTROLLED'], effects: ['suspect', 'suspect'] });
    expect(judged({ conditions: { governor: 'schedutil' } })).toMatchObject({ state: 'valid', effects: ['information'] });
    const unplugged = { startStatus: 'Charging', endStatus: 'Discharging', percent: 80 };
    expect(judged({ conditions: { battery: unplugged } })).toMatchObject({ state: 'valid', reasons: ['UNCONTROLLED'] });
  });

  it('says that other virtual machines were the load, where the hypervisor took most of it', () => {
    expect(judged({ conditions: { foreignCpuShare: 0.1, stolenCpuShare: 0.08 } }).text).toContain(
      'other virtual machines on this host (8.0 % stolen)',
    );
    expect(judged({ conditions: { foreignCpuShare: 0.1, stolenCpuShare: 0.01 } }).text).toContain('Other processes took 10 %');
  });

  it('says ON_CHARGER where joules were asked and only the gauge of a charging battery could have told them; the latency stands', () => {
    const charging = { startStatus: 'Charging', endStatus: 'Charging', percent: 80 };
    const none = noEnergy('SENSOR_MISSING', 'none').energy;
    const given: Energy = { ...none, boundary: 'battery', net: { ...none.net, value: 1, reason: null } };
    const conditions = { battery: charging };
    const refused = judged({ conditions, energy: none });
    expect(refused).toMatchObject({ state: 'valid', reasons: ['ON_CHARGER'] });
    expect(refused.text).toContain('Charging at 80 % (needed: Discharging)');
    expect(judged({ conditions, energy: given }).reasons).toEqual(['ON_CHARGER']);
    expect(judged({ conditions, energy: { ...given, boundary: 'package' } }).reasons).toEqual([]);
    expect(judged({ conditions, energy: noEnergy('NOT_ASKED', '').energy }).reasons).toEqual([]);
    expect(judged({ conditions }).reasons).toEqual([]);
    expect(
      judged({ conditions: { battery: { ...charging, startStatus: 'Discharging', endStatus: 'Discharging' } }, energy: none }).reasons,
    ).toEqual([]);
  });

  it('is suspect where more than 5 % of the runs lie far above the median', () => {
    const disturbed = (share: number) => steadyRuns.map((value, i) => ((i * 37) % 100 < share * 100 ? value * 1.5 : value));
    expect(judged({ samples: disturbed(0.05) }).reasons).toEqual([]);
    expect(judged({ samples: disturbed(0.06) })).toMatchObject({ state: 'suspect', reasons: ['NEIGHBOUR_LOAD'] });
  });

  it('does not call microsecond steps of a very regular model outliers', () => {
    // Nine runs in ten take exactly as long; one in ten takes 2 % longer. The MAD is 0.
    const samples = Array.from({ length: 200 }, (_, i) => (i % 10 === 3 ? 0.0204 : 0.02));
    expect(judged({ samples }).state).toBe('valid');
  });

  it('is suspect where the second half of the runs is slower than the first, beyond both intervals and the precision asked', () => {
    const drifting = steadyRuns.map((value, i) => (i < 50 ? value : value * 1.05));
    expect(judged({ samples: drifting }).reasons).toContain('DRIFT');
    const slightly = steadyRuns.map((value, i) => (i < 50 ? value : value * 1.015));
    expect(judged({ samples: slightly }).reasons).not.toContain('DRIFT');
  });

  it('names what was not reached: steadiness, effective runs, the precision before the cap', () => {
    expect(judged({ warmUp: { steady: false, windows: 10 } })).toMatchObject({ state: 'suspect', reasons: ['NOT_STEADY'] });
    expect(judged({ samples: steadyRuns.slice(0, 20) })).toMatchObject({ state: 'suspect', reasons: ['TOO_FEW_SAMPLES'] });
    expect(judged({ samples: steadyRuns.slice(0, 5) })).toMatchObject({ state: 'invalid', reasons: ['TOO_FEW_SAMPLES'] });
    const capped = judged({ capped: true });
    expect(capped).toMatchObject({ state: 'suspect', reasons: ['TIME_CAP'] });
    expect(capped.text).toContain('The cap of 30 s');
    expect(capped.text).toContain('(asked 2.0 %)');
  });
});
