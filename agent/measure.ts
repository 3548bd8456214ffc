// Measures one model: load, first run against the golden output, warm-up until steady, timed runs until the interval of the median is narrow
// enough, verdict, and joules where asked. Portable: the runtime, the clock and the state of the machine come in as ports.
import {
  gapMs,
  type Measurement,
  type Plan,
  type Provenance,
  type Quantity,
  type ReferenceBlock,
  type ReferenceReadings,
} from '@ofa-fleet/shared/measurement.ts';
import { failed, ok, type Outcome } from '@ofa-fleet/shared/outcome.ts';
import {
  ascending,
  estimateMedian,
  median,
  medianAbsoluteDeviation,
  quantile,
  relativeHalfWidth,
  type MedianEstimate,
} from '@ofa-fleet/shared/statistics.ts';
import type { Clock, Conditions, ModelBytes, Runtime, Session } from './ports.ts';
import { noEnergy, type EnergyResult } from './energy.ts';
import { goldenMismatch, type Golden } from './golden.ts';
import { encodeEmptyModel } from './onnx-bytes.ts';
import { corrected, driftOf, encodeReferenceModel, runReference, workloadName } from './reference.ts';
import { judge } from './verdict.ts';

export interface ModelUnderTest {
  /** SHA-256 of the manifest, or of the ONNX file. */
  readonly sha256: string;
  readonly bytes: ModelBytes;
  /** One real input and its right output; null: the model is fed values of no meaning and its output is not checked. */
  readonly golden: Golden | null;
}

export interface MeasureHost {
  readonly runtime: Runtime;
  readonly clock: Clock;
  readonly conditions: Conditions;
  /** Passed in, since the schemas that define it cost a runner 50 ms to load. */
  readonly protocolId: string;
  readonly machine: Pick<Provenance, 'agentVersion' | 'bootId' | 'nodeVersion' | 'cpuModel' | 'onlineCores'>;
  readonly peakMemoryBytes: () => number | null;
  /** Joules of the loaded model's inferences, or why there are none. */
  energy(session: Session): Promise<EnergyResult>;
}

const WARM_UP_WINDOW_MS = 250;
const WARM_UP_WINDOW_RUNS = 5;
const WARM_UP_WINDOWS = 10;
const WARM_UP_RUNS = 3;
const STEADY_WITHIN = 0.02;
/** Effective samples that are enough where a run takes longer than a second. */
const NEEDED_SLOW_SAMPLES = 10;
const SLOW_RUN_MS = 1000;
const LOOK_FACTOR = 1.5;
/** Runs that fit the preallocated buffer; it ends the timed section as the cap does. */
const MAX_RUNS = 200_000;
const MAX_KEPT_SAMPLES = 2000;
/** The reference runs again where the timed section is longer than this. */
const REFERENCE_EVERY_MS = 5000;
/** Its memory is got, and its pages touched, before its first block. */
const REFERENCE_WARM_UP_RUNS = 30;

/**
 * Times runs into `samples` from index `from` on, each after `idleMs` of idling, until `upTo` or until the clock passes `deadlineMs`, and at
 * least one. Returns the end index.
 */
async function timeRuns(
  session: Session,
  clock: Clock,
  samples: Float64Array,
  from: number,
  upTo: number,
  deadlineMs: number,
  idleMs = 0,
): Promise<number> {
  let n = from;
  for (;;) {
    if (idleMs > 0) await clock.sleep(idleMs);
    const began = clock.monotonicMs();
    await session.run();
    const ended = clock.monotonicMs();
    samples[n] = ended - began;
    n += 1;
    if (n >= upTo || ended >= deadlineMs) return n;
  }
}

interface WarmUp {
  readonly steady: boolean;
  readonly windows: number;
  readonly runs: number;
  readonly medianMs: number;
}

/** Windows of max(5 runs, 0.25 s) until the last median lies within 2 % of the one before; at most 10, and at most until `deadlineMs`. */
async function warmUp(session: Session, clock: Clock, plan: Plan, deadlineMs: number, buffer: Float64Array): Promise<WarmUp> {
  const began = clock.monotonicMs();
  const windowMs = Math.max(WARM_UP_WINDOW_MS, plan.warmUpMs / WARM_UP_WINDOWS);
  let runs = 0;
  let before = NaN;
  for (let windows = 1; ; windows++) {
    const ends = Math.min(clock.monotonicMs() + windowMs, deadlineMs);
    let n = await timeRuns(session, clock, buffer, 0, buffer.length, ends, gapMs(plan.mode));
    if (n < WARM_UP_WINDOW_RUNS) n = await timeRuns(session, clock, buffer, n, WARM_UP_WINDOW_RUNS, deadlineMs, gapMs(plan.mode));
    runs += n;
    const now = median(Array.from(buffer.subarray(0, n)));
    const steady = Math.abs(now / before - 1) <= STEADY_WITHIN && runs >= WARM_UP_RUNS && clock.monotonicMs() - began >= plan.warmUpMs;
    if (steady || windows === WARM_UP_WINDOWS || clock.monotonicMs() >= deadlineMs) return { steady, windows, runs, medianMs: now };
    before = now;
  }
}

interface Timed {
  readonly samples: readonly number[];
  readonly estimate: MedianEstimate;
  readonly neededSamples: number;
  readonly capped: boolean;
  readonly minuteMediansMs: readonly number[] | null;
}

/** Runs a block of the reference where one is due; `afterRuns` runs of the model are done. */
type ReferenceTurn = (afterRuns: number) => Promise<void>;

/** Runs until the interval is narrow enough; looks at n = 30, 45, 68, … only, since each look at the data costs coverage. */
async function timedRuns(
  session: Session,
  clock: Clock,
  plan: Plan,
  warmMs: number,
  deadlineMs: number,
  buffer: Float64Array,
  turn: ReferenceTurn,
): Promise<Timed> {
  const neededSamples = warmMs > SLOW_RUN_MS ? Math.min(NEEDED_SLOW_SAMPLES, plan.minEffectiveSamples) : plan.minEffectiveSamples;
  const earliest = clock.monotonicMs() + plan.minTimedMs;
  let turnAt = clock.monotonicMs() + REFERENCE_EVERY_MS;
  let n = 0;
  for (let look = neededSamples; ; look = Math.ceil(look * LOOK_FACTOR)) {
    const upTo = Math.min(look, buffer.length);
    while (n < upTo && clock.monotonicMs() < deadlineMs) {
      n = await timeRuns(session, clock, buffer, n, upTo, Math.min(deadlineMs, turnAt), gapMs(plan.mode));
      if (clock.monotonicMs() < turnAt || turnAt >= deadlineMs) continue;
      await turn(n);
      turnAt = clock.monotonicMs() + REFERENCE_EVERY_MS;
    }
    if (n === 0) n = await timeRuns(session, clock, buffer, n, 1, deadlineMs, gapMs(plan.mode));
    const now = clock.monotonicMs();
    const capped = now >= deadlineMs || n >= buffer.length;
    if (now < earliest && !capped) continue;
    const samples = Array.from(buffer.subarray(0, n));
    const estimate = estimateMedian(samples, plan.level);
    const done = estimate.nEff >= neededSamples && relativeHalfWidth(estimate) <= plan.relativeHalfWidth && now >= earliest;
    if (done || capped) return { samples, estimate, neededSamples, capped: !done, minuteMediansMs: null };
  }
}

const MINUTE_MS = 60_000;
/** Least minutes of a sustained measurement, and how many of the last ones must agree. */
const SUSTAINED_MINUTES = 5;
const FLAT_MINUTES = 3;
/** Evenly spread over the minute; more would not narrow the interval that correlated runs have. */
const MAX_RUNS_OF_A_MINUTE = 20_000;
/** A minute's buffer holds that many times the runs that the warm-up foretells. */
const SUSTAINED_ROOM = 1.5;
const LEAST_RUN_MS = 0.02;

/**
 * Runs without a pause, minute by minute, until the medians of the last three minutes lie within 2 % of each other and five have passed; the
 * figure is that of those three. Warming up takes minutes on fanless devices (microsoft/MegaDetector#34).
 */
async function sustainedRuns(session: Session, clock: Clock, plan: Plan, warmMs: number, deadlineMs: number): Promise<Timed> {
  const minutes: number[][] = [];
  const buffer = new Float64Array(Math.ceil((SUSTAINED_ROOM * MINUTE_MS) / Math.max(warmMs, LEAST_RUN_MS))).fill(0);
  for (;;) {
    const n = await timeRuns(session, clock, buffer, 0, buffer.length, Math.min(deadlineMs, clock.monotonicMs() + MINUTE_MS));
    const every = Math.ceil(n / MAX_RUNS_OF_A_MINUTE);
    minutes.push(Array.from(buffer.subarray(0, n)).filter((_, i) => i % every === 0));
    const medians = minutes.map((one) => median(one));
    const last = medians.slice(-FLAT_MINUTES);
    const flat = minutes.length >= SUSTAINED_MINUTES && Math.max(...last) <= (1 + STEADY_WITHIN) * Math.min(...last);
    const capped = clock.monotonicMs() >= deadlineMs;
    if (!flat && !capped) continue;
    const samples = minutes.slice(-FLAT_MINUTES).flat();
    return { samples, estimate: estimateMedian(samples, plan.level), neededSamples: plan.minEffectiveSamples, capped: !flat, minuteMediansMs: medians }; // prettier-ignore
  }
}

/** The golden input where there is one, else values of no meaning. */
export function feed(session: Session, golden: Golden | null): void {
  session.setInput(golden?.input ?? arbitraryInput(session.inputShape.reduce((product, dim) => product * dim, 1)));
}

/** The reference workload beside the model; null where this runtime cannot load it: the number is then without one. */
export async function openReference(runtime: Runtime, threads: number): Promise<Session | null> {
  const loaded = await runtime.load({ graph: encodeReferenceModel(), externalData: [] }, { intraOpThreads: threads });
  if (!loaded.ok) return null;
  const session = loaded.value;
  feed(session, null);
  for (let n = 0; n < REFERENCE_WARM_UP_RUNS; n++) await session.run();
  return session;
}

/** Values in [0, 1) from a fixed linear congruential sequence (Numerical Recipes' constants): the same on every device. */
export function arbitraryInput(length: number): Float32Array {
  let state = 1;
  return Float32Array.from({ length }, () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return state / 2 ** 32;
  });
}

const BINDING_WARM_UP = 300;
const BINDING_RUNS = 501;

/** Median run of a model that does nothing, with tensors of the same sizes: what a run costs here before any arithmetic. */
async function measureBinding(runtime: Runtime, clock: Clock, session: Session, buffer: Float64Array): Promise<number | null> {
  const graph = encodeEmptyModel(session.inputShape, session.outputShape);
  const empty = await runtime.load({ graph, externalData: [] }, { intraOpThreads: 1 });
  if (!empty.ok) return null;
  await timeRuns(empty.value, clock, buffer, 0, BINDING_WARM_UP, Infinity);
  await timeRuns(empty.value, clock, buffer, 0, BINDING_RUNS, Infinity);
  await empty.value.release();
  return median(Array.from(buffer.subarray(0, BINDING_RUNS)));
}

/**
 * One measurement in this process. Failures: the model cannot be loaded (the runtime's reason), takes another input (INVALID_INPUT), or
 * computes something else than its golden output (OUTPUT_MISMATCH). Anything doubtful about the number itself is in its verdict.
 */
export async function measure(model: ModelUnderTest, plan: Plan, host: MeasureHost): Promise<Outcome<Measurement>> {
  const { runtime, clock, conditions } = host;
  const startedAt = new Date(clock.wallMs()).toISOString();
  const beforeLoad = clock.monotonicMs();
  const loaded = await runtime.load(model.bytes, { intraOpThreads: plan.intraOpThreads });
  const loadMs = clock.monotonicMs() - beforeLoad;
  if (!loaded.ok) return loaded;
  const session = loaded.value;
  let reference: Session | null = null;
  try {
    const inputLength = session.inputShape.reduce((product, dim) => product * dim, 1);
    const input = model.golden?.input ?? arbitraryInput(inputLength);
    if (input.length !== inputLength) {
      return failed(
        'INVALID_INPUT',
        `The golden input has ${input.length} values, the model takes ${inputLength}. Export the artifact again.`,
      );
    }
    session.setInput(input);
    const beforeFirst = clock.monotonicMs();
    await session.run();
    const firstRunMs = clock.monotonicMs() - beforeFirst;
    const wrong = model.golden === null ? null : goldenMismatch(session.output(), model.golden);
    if (wrong !== null) {
      return failed(
        'OUTPUT_MISMATCH',
        `The model does not compute what it should on this device: ${wrong}. Export it again, or update ${runtime.identity.name}.`,
      );
    }

    const buffer = new Float64Array(MAX_RUNS).fill(0); // filled, so that no page is touched first inside the timed section
    // Where a device is to get as warm as it gets, that is the figure, not a drift.
    if (plan.mode !== 'sustained') reference = await openReference(runtime, plan.intraOpThreads);
    const blocks: ReferenceBlock[] = [];
    const turn: ReferenceTurn = async (afterRuns) => {
      if (reference !== null) blocks.push(await runReference(reference, clock, plan.level, afterRuns));
    };
    const began = clock.monotonicMs();
    conditions.start();
    // Half of the cap at most goes into the warm-up, so that an unsteady device still yields a number, with its verdict.
    const warm = await warmUp(session, clock, plan, began + plan.capMs / 2, buffer);
    await turn(0);
    conditions.timed();
    const deadlineMs = began + plan.capMs;
    const timed =
      plan.mode === 'sustained'
        ? await sustainedRuns(session, clock, plan, warm.medianMs, deadlineMs)
        : await timedRuns(session, clock, plan, warm.medianMs, deadlineMs, buffer, turn);
    await turn(timed.samples.length);
    const seen = conditions.end();
    const readings = readingsOf(blocks, plan, workloadName(runtime.identity, plan.intraOpThreads));

    // The latency is there: what fails from here on takes nothing from it.
    const bindingMs = await measureBinding(runtime, clock, session, buffer).catch(() => null);
    const { energy, findings } = await host.energy(session).catch((error: unknown) => {
      const { reason, message } = failed(
        'CRASHED',
        `The measurement of energy failed: ${String(error)}. Look at the sensor: ofa-agent meters.`,
      );
      return noEnergy(reason, message);
    });
    const verdict = judge({
      plan,
      ...timed,
      providers: { asked: runtime.identity.providerAsked, obtained: runtime.identity.providerObtained },
      warmUp: warm,
      reference: readings,
      conditions: seen,
      energy,
    });
    const sorted = ascending(timed.samples);
    const { identity } = runtime;
    return ok({
      protocolId: host.protocolId,
      modelSha256: model.sha256,
      inputShape: [...session.inputShape],
      latency: milliseconds(timed.estimate, null),
      corrected: readings === null ? null : correctedLatency(timed.samples, readings, plan),
      reference: readings,
      minuteMediansMs: timed.minuteMediansMs === null ? null : [...timed.minuteMediansMs],
      peakMemoryBytes: host.peakMemoryBytes(),
      p90Ms: quantile(sorted, 0.9),
      p99Ms: quantile(sorted, 0.99),
      madMs: medianAbsoluteDeviation(timed.samples),
      maxMs: sorted.at(-1) as number,
      loadMs,
      firstRunMs,
      warmUpRuns: warm.runs,
      bindingMs,
      // To the nanosecond, which is what the clock has.
      samplesMs: timed.samples.slice(0, MAX_KEPT_SAMPLES).map((value) => Math.round(value * 1e6) / 1e6),
      energy,
      verdict: { ...verdict, findings: [...verdict.findings, ...findings] },
      provenance: {
        ...host.machine,
        startedAt,
        runtime: { ...identity, intraOpThreads: plan.intraOpThreads },
        conditions: seen,
      },
    });
  } finally {
    await session.release();
    await reference?.release();
  }
}

function milliseconds(estimate: MedianEstimate, message: string | null): Quantity {
  return { ...estimate, unit: 'ms', kind: 'measured', reason: null, message };
}

function readingsOf(blocks: readonly ReferenceBlock[], plan: Plan, workload: string): ReferenceReadings | null {
  if (blocks.length === 0) return null;
  const readings = { workload, baseline: plan.referenceBaselines[workload] ?? null, blocks: [...blocks] };
  return { ...readings, moved: driftOf(readings)?.moved ?? null };
}

/**
 * null where the reference moved by no more than it can tell: then correcting would only add its noise. So it is without a baseline, since
 * one process cannot know what its own reference should take.
 */
function correctedLatency(samples: readonly number[], readings: ReferenceReadings, plan: Plan): Quantity | null {
  const drift = driftOf(readings);
  if (drift?.isSeen !== true) return null;
  const estimate = corrected(samples, readings, plan.level);
  if (estimate === null) return null;
  const message = `The reference workload moved by ${(100 * drift.moved).toPrecision(2)} %: this is the figure at the speed of the device's baseline.`;
  return milliseconds(estimate, message);
}
