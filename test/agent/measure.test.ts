// The measuring core in virtual time: run times are scripted (they stand for hardware), so every rule is seen to the run.
import { describe, expect, it } from 'vitest';
import { DEFAULT_PLAN, measurementSchema, protocolId, type Measurement, type Plan } from '@ofa-fleet/shared/measurement.ts';
import { failed, ok, type Outcome } from '@ofa-fleet/shared/outcome.ts';
import { noEnergy } from '../../agent/energy.ts';
import { measure, type MeasureHost, type ModelUnderTest } from '../../agent/measure.ts';
import { encodeReferenceModel } from '../../agent/reference.ts';
import type { Clock, Runtime } from '../../agent/ports.ts';
import { QUIET } from '../helpers/conditions.ts';

const REFERENCE_BYTES = encodeReferenceModel().length;

/** Deterministic jitter in [-1, 1). */
function jitter(seed = 1): () => number {
  let state = seed;
  return () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return state / 2 ** 31 - 1;
  };
}

interface Scenario {
  /** Time of the n-th run (0 is the first run after the load) that starts at `nowMs`. */
  readonly runMs: (n: number, nowMs: number) => number;
  /** Time of a run of the reference workload that starts at `nowMs`; 1 ms unless given. */
  readonly referenceMs?: (nowMs: number) => number;
  /** Whether the runtime can load it. */
  readonly hasReference?: boolean;
  readonly plan?: Partial<Plan>;
  readonly golden?: ModelUnderTest['golden'];
  readonly energy?: MeasureHost['energy'];
}

interface Seen {
  readonly outcome: Outcome<Measurement>;
  readonly calls: readonly string[];
  readonly released: number;
  /** Virtual time that warm-up and timed runs took. */
  readonly tookMs: number;
}

const notAsked = () => Promise.resolve(noEnergy('NOT_ASKED', 'not asked'));

async function play({
  runMs,
  referenceMs = () => 1,
  hasReference = true,
  plan = {},
  golden = null,
  energy = notAsked,
}: Scenario): Promise<Seen> {
  let now = 0;
  let runs = 0;
  let released = 0;
  const calls: string[] = [];
  const times: number[] = [];
  const clock: Clock = {
    monotonicMs: () => now,
    wallMs: () => 0,
    sleep: (ms) => {
      now += ms;
      return Promise.resolve();
    },
  };
  const mark = (name: string) => () => {
    calls.push(name);
    times.push(now);
  };
  const runtime: Runtime = {
    identity: {
      name: 'onnxruntime-node',
      version: '0',
      providerAsked: 'cpu',
      providerObtained: 'cpu',
      library: null,
      interOpThreads: 1,
      spinning: false,
      graphOptimisation: 'all',
      executionMode: 'sequential',
    },
    load: ({ graph }) => {
      now += 5;
      const isReference = graph.length === REFERENCE_BYTES;
      if (isReference && !hasReference) return Promise.resolve(failed('UNSUPPORTED_OP', 'no convolutions here'));
      return Promise.resolve(
        ok({
          inputShape: [1, 2],
          outputShape: [1, 2],
          setInput: () => (isReference ? undefined : calls.push('setInput')),
          run: () => {
            now += isReference ? referenceMs(now) : runMs(runs++, now);
            return Promise.resolve();
          },
          output: () => Float32Array.of(1, 2),
          release: () => {
            released++;
            return Promise.resolve();
          },
        }),
      );
    },
  };
  const full = { ...DEFAULT_PLAN, ...plan };
  const host: MeasureHost = {
    runtime,
    clock,
    protocolId: protocolId(full),
    machine: { agentVersion: '0', bootId: 'b', nodeVersion: '24', cpuModel: 'c', onlineCores: 2 },
    conditions: {
      start: mark('start'),
      timed: mark('timed'),
      end: () => {
        mark('end')();
        return QUIET;
      },
    },
    peakMemoryBytes: () => null,
    energy,
  };
  const outcome = await measure({ sha256: 'a'.repeat(64), bytes: { graph: new Uint8Array(), externalData: [] }, golden }, full, host);
  return { outcome, calls, released, tookMs: (times.at(-1) ?? 0) - (times[0] ?? 0) };
}

function value(outcome: Outcome<Measurement>): Measurement {
  if (!outcome.ok) throw new Error(outcome.message);
  return outcome.value;
}

const reasons = (m: Measurement) => m.verdict.findings.filter(({ effect }) => effect !== 'information').map(({ reason }) => reason);

describe('a measurement', () => {
  it('keeps its latency where the measurement of energy or of the binding fails', async () => {
    let timedRuns = Infinity;
    const steady = await play({ runMs: (n) => ((timedRuns = n), 1) });
    timedRuns -= 800; // the runs of the empty model come last: 300 and 501
    expect(value(steady.outcome).bindingMs).toBe(1);
    const { outcome } = await play({
      runMs: (n) => {
        if (n > timedRuns) throw new Error('the runtime gave way');
        return 1;
      },
      energy: () => Promise.reject(new Error(`the sensor's thread died ${'x'.repeat(9000)}`)),
    });
    const m = value(outcome);
    expect(measurementSchema.safeParse(m).success).toBe(true);
    expect([m.latency.value, m.bindingMs]).toEqual([1, null]);
    expect(m.energy.net).toMatchObject({ value: null, reason: 'CRASHED' });
    expect(m.energy.net.message).toContain("the sensor's thread died");
  });

  it('of a steady model warms up for two windows, runs for the least time and is valid', async () => {
    const noise = jitter();
    const { outcome, tookMs, calls, released } = await play({ runMs: (n) => (n === 0 ? 40 : 1 + 0.01 * noise()) });
    const m = value(outcome);
    expect(measurementSchema.safeParse(m).success).toBe(true);
    expect(m.verdict.state).toBe('valid');
    expect(m.firstRunMs).toBe(40);
    expect(m.loadMs).toBe(5);
    expect(m.latency.value).toBeCloseTo(1, 2);
    expect(m.latency.ci?.lo).toBeLessThanOrEqual(m.latency.value as number);
    // 0.5 s of warm-up and 0.25 s timed, then the next look of the 1.5-fold sequence.
    expect(tookMs).toBeGreaterThanOrEqual(750);
    expect(tookMs).toBeLessThan(500 + 250 * 1.5 + 2 * 30 + 20); // with a block of the reference before and after
    expect(m.samplesMs).toHaveLength(m.latency.n);
    expect(calls).toEqual(['setInput', 'start', 'timed', 'end']);
    // The model, the reference and the empty one by which the binding is measured.
    expect(released).toBe(3);
    expect(m.energy.net).toMatchObject({ value: null, reason: 'NOT_ASKED' });
  });

  it('looks at 30 runs first where runs are slow, and stops there if the interval is narrow', async () => {
    const noise = jitter(5);
    const m = value((await play({ runMs: () => 200 + noise() })).outcome);
    expect([30, 45, 68]).toContain(m.latency.n);
    expect(m.verdict.state).toBe('valid');
  });

  it('needs only 10 effective runs where one takes longer than a second', async () => {
    const noise = jitter(9);
    const m = value((await play({ runMs: () => 1500 + noise(), plan: { capMs: 120_000 } })).outcome);
    expect(m.latency.n).toBeLessThan(30);
    expect(reasons(m)).toEqual([]);
  });

  it('runs until the interval of a noisy model is as narrow as asked', async () => {
    const noise = jitter(2);
    const wide = value((await play({ runMs: () => 10 + 2 * noise(), plan: { relativeHalfWidth: 0.1 } })).outcome);
    const narrow = value((await play({ runMs: () => 10 + 2 * noise(), plan: { relativeHalfWidth: 0.01 } })).outcome);
    const half = (m: Measurement) => ((m.latency.ci?.hi ?? NaN) - (m.latency.ci?.lo ?? NaN)) / 2 / (m.latency.value ?? NaN);
    expect(half(wide)).toBeLessThanOrEqual(0.1);
    expect(half(narrow)).toBeLessThanOrEqual(0.01);
    expect(narrow.latency.n).toBeGreaterThan(wide.latency.n);
  });

  it('waits in the warm-up while runs get faster, and does not let that time into the number', async () => {
    const noise = jitter(3);
    const m = value((await play({ runMs: (_, now) => 1 + 2 * Math.exp(-now / 300) + 0.002 * noise() })).outcome);
    expect(m.warmUpRuns).toBeGreaterThan(600);
    expect(m.latency.value).toBeLessThan(1.06);
    expect(m.verdict.state).toBe('valid');
  });

  it('gives up waiting after 10 windows and says NOT_STEADY', async () => {
    const m = value((await play({ runMs: (_, now) => 1 + (Math.floor(now / 250) % 2) * 0.2 })).outcome);
    expect(reasons(m)).toContain('NOT_STEADY');
    expect(m.verdict.state).toBe('suspect');
  });

  it('ends at the cap with what it reached, and says TIME_CAP', async () => {
    const noise = jitter(4);
    const { outcome, tookMs } = await play({ runMs: () => 50 + 45 * noise(), plan: { relativeHalfWidth: 0.001, capMs: 5000 } });
    const m = value(outcome);
    expect(reasons(m)).toContain('TIME_CAP');
    expect(m.verdict.state).toBe('suspect');
    expect(m.latency.value).not.toBeNull();
    expect(tookMs).toBeLessThan(5000 + 100);
  });

  it('of fewer than 6 runs has no interval and is invalid', async () => {
    const m = value((await play({ runMs: () => 400, plan: { capMs: 1500 } })).outcome);
    expect(m.latency.n).toBeLessThan(6);
    expect(m.latency.ci).toBeNull();
    expect(m.verdict.state).toBe('invalid');
    expect(reasons(m)).toContain('TOO_FEW_SAMPLES');
  });

  it('keeps the first 2,000 runs of many, and its statistics are of all', async () => {
    const noise = jitter(6);
    const m = value((await play({ runMs: () => 0.02 + 0.0001 * noise() })).outcome);
    expect(m.latency.n).toBeGreaterThan(10_000);
    expect(m.samplesMs).toHaveLength(2000);
  });

  it('of a model that computes something else is refused, with the place', async () => {
    const golden = { input: Float32Array.of(0, 0), output: Float32Array.of(1, 2.5), tolerance: 1e-3 };
    const { outcome, released } = await play({ runMs: () => 1, golden });
    expect(outcome).toMatchObject({ ok: false, reason: 'OUTPUT_MISMATCH' });
    expect(outcome.ok ? '' : outcome.message).toContain('output 1 is 2, expected 2.5');
    expect(released).toBe(1);
  });

  it('of a model whose golden input has another length is refused', async () => {
    const golden = { input: Float32Array.of(0), output: Float32Array.of(1, 2), tolerance: 1 };
    expect((await play({ runMs: () => 1, golden })).outcome).toMatchObject({ ok: false, reason: 'INVALID_INPUT' });
  });
});

describe('the reference workload', () => {
  /** A device whose every run, of the model and of the reference, takes `speed(now)` times as long as it should. */
  const onDevice = (speed: (nowMs: number) => number, plan: Partial<Plan> = {}) => {
    const noise = jitter();
    return play({
      runMs: (_, now) => 10 * speed(now) * (1 + 0.01 * noise()),
      referenceMs: (now) => speed(now) * (1 + 0.005 * noise()),
      plan,
    });
  };
  const referenceBaselines = { 'convolutions-2 on onnxruntime-node 0, 1 thread(s)': { medianMs: 1, relativeHalfWidth: 0.003 } };

  it('runs before and after the timed runs, and between them where these take long', async () => {
    const short = value((await onDevice(() => 1)).outcome);
    expect(short.reference?.blocks.map(({ afterRuns }) => afterRuns)).toEqual([0, short.latency.n]);
    const long = value((await onDevice(() => 1, { minTimedMs: 18_000 })).outcome);
    const at = long.reference?.blocks.map(({ afterRuns }) => afterRuns) ?? [];
    expect(at.length).toBeGreaterThanOrEqual(5);
    // every 5 s of runs of about 10 ms
    for (const [i, afterRuns] of at.slice(1).entries()) expect(afterRuns - (at[i] as number)).toBeLessThanOrEqual(505);
  });

  it('changes nothing on a device that is as it was', async () => {
    const m = value((await onDevice(() => 1, { referenceBaselines })).outcome);
    expect([m.corrected, m.verdict.state]).toEqual([null, 'valid']);
    expect(Math.abs(m.reference?.moved ?? NaN)).toBeLessThan(0.01);
  });

  it('gives back the speed of the baseline to a device that is 7 % slower throughout, and keeps the raw figure', async () => {
    const m = value((await onDevice(() => 1.07, { referenceBaselines })).outcome);
    expect(m.latency.value).toBeGreaterThan(10.6);
    expect(m.corrected?.value).toBeGreaterThan(9.9);
    expect(m.corrected?.value).toBeLessThan(10.1);
    expect(m.corrected?.ci?.lo).toBeLessThan(10);
    expect(m.corrected?.ci?.hi).toBeGreaterThan(10);
    expect(reasons(m)).toEqual([]);
  });

  it('says DRIFT of a device that moved by more than a tenth, corrected or not', async () => {
    const m = value((await onDevice(() => 1.2, { referenceBaselines })).outcome);
    expect(reasons(m)).toEqual(['DRIFT']);
    expect(m.corrected?.value).toBeCloseTo(10, 0);
    expect(m.verdict.findings.find(({ reason }) => reason === 'DRIFT')?.message).toContain(
      "slower than the device's baseline (limit 10 %)",
    );
  });

  it('follows a device that slows down while it is measured', async () => {
    // 9 % over a minute: less than either half of the runs could show alone
    const warming = await onDevice((now) => 1 + (0.09 * now) / 60_000, { minTimedMs: 20_000, capMs: 60_000, referenceBaselines });
    const m = value(warming.outcome);
    expect(m.latency.value).toBeGreaterThan(10.1);
    expect(Math.abs((m.corrected?.value ?? NaN) - 10)).toBeLessThan(0.05);
  });

  it('corrects nothing where the reference itself is too noisy to tell', async () => {
    const noise = jitter();
    const { outcome } = await play({ runMs: () => 10, referenceMs: () => 1.05 + 0.4 * noise(), plan: { referenceBaselines } });
    expect(value(outcome).corrected).toBeNull();
  });

  it('leaves a measurement without one where the runtime cannot load it', async () => {
    const m = value((await play({ runMs: () => 1, hasReference: false })).outcome);
    expect([m.reference, m.corrected, m.verdict.state]).toEqual([null, null, 'valid']);
  });
});

describe('the mode', () => {
  it('gap idles before each run and does not count it', async () => {
    // what a pause costs: the clock sleeps, and the next run is slower
    let last = 0;
    const { outcome } = await play({
      runMs: (_, now) => {
        const idle = now - last;
        const took = idle > 15 ? 3 : 1;
        last = now + took;
        return took;
      },
      plan: { mode: 'gap:20' },
    });
    const m = value(outcome);
    expect(m.latency.value).toBe(3);
    expect(m.protocolId).toContain('gap:20');
  });

  it('sustained runs at least five minutes, and takes the figure from where it is flat', async () => {
    const minute = (now: number) => Math.floor(now / 60_000);
    const { outcome, tookMs } = await play({
      runMs: (_, now) => [10, 14, 17, 19, 20][minute(now)] ?? 20,
      plan: { mode: 'sustained', capMs: 600_000 },
    });
    const m = value(outcome);
    expect(tookMs).toBeGreaterThan(300_000);
    expect(m.minuteMediansMs?.slice(-3)).toEqual([20, 20, 20]);
    expect([m.latency.value, m.reference]).toEqual([20, null]);
    expect(reasons(m)).not.toContain('TIME_CAP');
  });

  it('sustained that never gets flat ends at the cap and says so', async () => {
    const { outcome } = await play({ runMs: (_, now) => 10 * 1.1 ** (now / 60_000), plan: { mode: 'sustained', capMs: 480_000 } });
    expect(reasons(value(outcome))).toContain('TIME_CAP');
  });
});
