// What is asked of a measurement (Plan) and what a device answers (Measurement): never a bare number, always value + interval or null +
// reason, with a verdict and the provenance that makes two numbers comparable.
import { z } from 'zod';
import { REASONS } from './outcome.ts';

/** What the reference workload takes on a device that is as it should be, and what another process may differ by. */
const baselineSchema = z.object({ medianMs: z.number().positive(), relativeHalfWidth: z.number().min(0) });
export type ReferenceBaseline = Readonly<z.infer<typeof baselineSchema>>;

/** Of a mode `gap:<ms>`; 0 for the others. */
export function gapMs(mode: string): number {
  return mode.startsWith('gap:') ? Number(mode.slice('gap:'.length)) : 0;
}

export const planSchema = z.object({
  /** `gap:<ms>`: a fixed idle time before each run, as an application has it; `sustained`: minutes without a pause, until the device is as warm as it gets. */
  mode: z
    .union([z.literal('back-to-back'), z.literal('sustained'), z.templateLiteral(['gap:', z.int()])])
    .refine((mode) => !mode.startsWith('gap:') || (gapMs(mode) >= 1 && gapMs(mode) <= 10_000), 'a gap is 1 to 10000 ms'),
  /** Stop once the half-width of the interval of the median, relative to the median, is this small. */
  relativeHalfWidth: z.number().min(0.001).max(0.5),
  level: z.number().min(0.5).max(0.999),
  intraOpThreads: z.int().min(1).max(64),
  warmUpMs: z.number().min(0).max(60_000),
  /** Shortest timed section, so that counters of 10 ms granularity can tell a neighbour's load. */
  minTimedMs: z.number().min(0).max(60_000),
  /** Runs, counted as independent ones, below which the interval is not trusted. */
  minEffectiveSamples: z.int().min(6).max(1000),
  /** Longest warm-up plus timed section. */
  capMs: z.number().min(100).max(600_000),
  /** Relative half-width asked of energy per inference; null: no energy asked. */
  energyRelativeHalfWidth: z.number().min(0.001).max(0.5).nullable(),
  /** Of the device that measures, by workload (`ReferenceReadings.workload`); without one drift is told from the measurement's own beginning. */
  referenceBaselines: z.record(z.string().max(512), baselineSchema).default({}),
});
export type Plan = Readonly<z.infer<typeof planSchema>>;

export const DEFAULT_PLAN: Plan = {
  mode: 'back-to-back',
  relativeHalfWidth: 0.02,
  level: 0.95,
  intraOpThreads: 1,
  warmUpMs: 500,
  minTimedMs: 250,
  minEffectiveSamples: 30,
  capMs: 30_000,
  energyRelativeHalfWidth: null,
  referenceBaselines: {},
};

/** Names how a number came about; numbers with different protocol ids are not compared. */
export function protocolId(plan: Plan): string {
  return `ofa-measure/2 ${plan.mode} median±${plan.relativeHalfWidth}@${plan.level} warm-up>=${plan.warmUpMs}ms timed>=${plan.minTimedMs}ms nEff>=${plan.minEffectiveSamples} threads=${plan.intraOpThreads}`;
}

const reasonSchema = z.enum(REASONS);
const text = z.string().max(4096);

export const intervalSchema = z.object({ lo: z.number(), hi: z.number(), level: z.number(), method: text });
export type Interval = Readonly<z.infer<typeof intervalSchema>>;

export const quantitySchema = z.object({
  value: z.number().nullable(),
  ci: intervalSchema.nullable(),
  unit: z.enum(['ms', 'J', 'W']),
  kind: z.literal('measured'),
  n: z.int().min(0),
  nEff: z.number().min(0),
  /** Why there is no value; null where there is one. */
  reason: reasonSchema.nullable(),
  message: text.nullable(),
});
export type Quantity = Readonly<z.infer<typeof quantitySchema>>;

export const verdictSchema = z.object({
  state: z.enum(['valid', 'suspect', 'invalid']),
  /** What was seen; `message` says it in a sentence that names the value, the limit and the next step. `information` does not move the state. */
  findings: z.array(z.object({ reason: reasonSchema, effect: z.enum(['information', 'suspect', 'invalid']), message: text })).max(64),
});
export type Verdict = Readonly<z.infer<typeof verdictSchema>>;

export const energySchema = z.object({
  /** Per inference. Gross: the window's joules / inferences; net: less the idle power of the same sensor. */
  gross: quantitySchema,
  net: quantitySchema,
  sensor: text.nullable(),
  boundary: z.enum(['core', 'package', 'rail', 'module', 'board', 'gpu-board', 'platform', 'battery', 'wall']).nullable(),
  windowMs: z.number().nullable(),
  inferences: z.int().nullable(),
  idleWatts: z.object({ before: z.number(), after: z.number() }).nullable(),
});
export type Energy = Readonly<z.infer<typeof energySchema>>;

const referenceBlockSchema = z.object({
  /** Timed runs of the model that came before. */
  afterRuns: z.int().min(0),
  medianMs: z.number().positive(),
  /** Of its interval; null: too few runs for one. */
  relativeHalfWidth: z.number().min(0).nullable(),
});
export type ReferenceBlock = Readonly<z.infer<typeof referenceBlockSchema>>;

export const referenceSchema = z.object({
  /** Model, runtime and threads: blocks of different workloads are not compared. */
  workload: text,
  /** The plan's for this workload. */
  baseline: baselineSchema.nullable(),
  blocks: z.array(referenceBlockSchema).max(256),
  /** Largest change against the baseline (else the first block), as a share; null: nothing to compare with. */
  moved: z.number().nullable(),
});
export type ReferenceReadings = Readonly<z.infer<typeof referenceSchema>>;

/** What the firmware of a Raspberry Pi tells of: bits 0 to 3 of `get_throttled`, and 16 to 19 for "has occurred". */
const firmwareEventSchema = z.enum(['under-voltage', 'frequency-capped', 'throttled', 'soft-temperature-limit']);
export type FirmwareEvent = z.infer<typeof firmwareEventSchema>;

/** State of the machine around the timed section; null where this machine does not tell, absent in records of agents that did not ask. */
export const conditionsSchema = z.object({
  /** CPU time of others during the run, as a share of all cores; what the hypervisor took counts among it. */
  foreignCpuShare: z.number().nullable(),
  /** The part of it that the hypervisor took. */
  stolenCpuShare: z.number().nullish(),
  cgroupThrottledPeriods: z.number().nullable(),
  governor: text.nullable(),
  /** Cores that this process may run on, as the kernel writes them, e.g. `0-3`. */
  affinity: text.nullish(),
  /** Of the core that measured. Median, and lowest and highest that took 5 % of the time, by time in each state. */
  clockMHz: z
    .object({ start: z.number(), min: z.number(), median: z.number().nullish(), max: z.number().nullish(), end: z.number() })
    .nullable(),
  /** Of the hottest zone. */
  temperatureC: z.object({ start: z.number(), max: z.number().nullish(), end: z.number() }).nullable(),
  /** Raspberry Pi. `unproven`: had occurred before the run already, so that the flag cannot tell whether it did again. */
  firmwareEvents: z.object({ seen: z.array(firmwareEventSchema).max(4), unproven: z.array(firmwareEventSchema).max(4) }).nullish(),
  /** Jetson: alarms of its supply during the run, by input of the controller. */
  supplyAlarms: z
    .array(z.object({ input: text, kind: z.enum(['under-voltage', 'over-current']), events: z.number() }))
    .max(32)
    .nullish(),
  /** x86: how often a core or package was throttled for its temperature during the run. */
  thermalThrottles: z.number().nullish(),
  /** What slowed the processor for its temperature, and the strongest state seen. */
  cooling: z
    .array(z.object({ device: text, state: z.number() }))
    .max(256)
    .nullish(),
  /** Status as the kernel words it, e.g. `Discharging`; charge in percent. */
  battery: z.object({ startStatus: text, endStatus: text, percent: z.number().nullable() }).nullish(),
  loadAverage: z.number().nullable(),
  freeMemoryBytes: z.number().nullable(),
  garbageCollections: z.number().nullable(),
});
export type RunConditions = Readonly<z.infer<typeof conditionsSchema>>;

export const provenanceSchema = z.object({
  agentVersion: text,
  bootId: text,
  startedAt: text,
  runtime: z.object({
    name: text,
    version: text,
    providerAsked: text,
    providerObtained: text,
    library: text.nullable().default(null),
    intraOpThreads: z.int(),
    interOpThreads: z.int(),
    spinning: z.boolean().nullable(),
    graphOptimisation: text,
    executionMode: text,
  }),
  nodeVersion: text,
  cpuModel: text,
  onlineCores: z.int(),
  conditions: conditionsSchema,
});
export type Provenance = Readonly<z.infer<typeof provenanceSchema>>;

export const measurementSchema = z.object({
  protocolId: text,
  /** SHA-256 of the manifest, or of the ONNX file where there is no manifest. */
  modelSha256: text,
  inputShape: z.array(z.int()),
  /** Median time of one inference, input and output tensors allocated beforehand. */
  latency: quantitySchema,
  /** The same at the speed of the device's baseline; null where the reference workload moved by no more than it can tell, or was not run. */
  corrected: quantitySchema.nullable().default(null),
  reference: referenceSchema.nullable().default(null),
  /** Medians of each minute, where the mode is `sustained`. */
  minuteMediansMs: z.array(z.number()).max(20).nullable().default(null),
  /** Most memory that the measuring process held, runtime included. */
  peakMemoryBytes: z.number().nullable().default(null),
  p90Ms: z.number().nullable(),
  p99Ms: z.number().nullable(),
  madMs: z.number().nullable(),
  maxMs: z.number().nullable(),
  loadMs: z.number().nullable(),
  firstRunMs: z.number().nullable(),
  warmUpRuns: z.int().nullable(),
  /** Median run of a model that does nothing, with tensors of the same sizes: what the binding itself costs here. Published, never subtracted. */
  bindingMs: z.number().nullable(),
  /** Every timed run in order; above 2,000 runs only the first 2,000. */
  samplesMs: z.array(z.number()).max(2000),
  energy: energySchema,
  verdict: verdictSchema,
  provenance: provenanceSchema,
});
export type Measurement = Readonly<z.infer<typeof measurementSchema>>;

/** The latency that stands for the model on its device: at the speed of the device's baseline where the reference workload moved, else as timed. */
export function latencyOf({ corrected, latency }: Pick<Measurement, 'corrected' | 'latency'>): Quantity {
  return corrected ?? latency;
}
