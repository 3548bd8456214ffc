// Every message between controller and agent: one table per direction, kind -> how it travels and what it holds; and the envelope around it.
import { z } from 'zod';
import { blobRefSchema, sha256Schema } from './artifact.ts';
import { deviceInfoSchema } from './device.ts';
import { ID_PATTERN, UUID_PATTERN } from './ids.ts';
import { parseHostileJson } from './json.ts';
import { measurementSchema, planSchema } from './measurement.ts';
import { failed, ok, REASONS, type Outcome } from './outcome.ts';

/** Grows when a field is added; the major stands in the topic. */
export const WIRE_MINOR = 0;
/** Blocks that one agent may have on the way; it keeps room in its 10 in-flight messages for control. */
export const MAX_BLOCK_WINDOW = 8;
/** Inferences that one device may have on the way. */
export const MAX_INFER_WINDOW = 8;
/** Values that one answered inference may have over MQTT; HTTP has no such limit. */
export const MAX_INFER_VALUES = 2048;
/** Any packet, topic and prefix included. */
export const MAX_PACKET_BYTES = 256 * 1024;

const uuid = z.string().regex(UUID_PATTERN);
const id = z.string().regex(ID_PATTERN);
const millis = z.number().min(0).max(1e15);
const count = z.int().min(0);
const u32 = z.int().min(0).max(0xffffffff);
const message = z.string().max(4096);
const reason = z.enum(REASONS);
const failure = z.object({ ok: z.literal(false), reason, message });

const attempt = { jobId: uuid, attempt: z.int().min(1) };
const attemptSchema = z.object(attempt);

export const outcomeSchema = z.discriminatedUnion('ok', [z.object({ ok: z.literal(true), value: measurementSchema }), failure]);

const desiredSchema = z.object({ rev: count, manifest: blobRefSchema });
export type Desired = Readonly<z.infer<typeof desiredSchema>>;

export const grantSchema = z.object({
  ...attempt,
  version: count,
  kind: z.literal('measure'),
  /** How long the controller waits for a sign of life, and how long the attempt is useful at all; by the controller's clock. */
  leaseMs: millis,
  deadlineMs: millis,
  manifest: blobRefSchema,
  plan: planSchema,
});
export type Grant = Readonly<z.infer<typeof grantSchema>>;

/** What became of an outbox row. Every verdict but `retry` lets the agent delete it. */
export const VERDICTS = ['accepted', 'accepted-late', 'duplicate', 'conflict', 'stale', 'malformed', 'retry'] as const;
export type Verdict = (typeof VERDICTS)[number];

/** Stages of a deployment on the device, in order; `failed` keeps what was active before. */
export const DEPLOYMENT_PHASES = ['none', 'fetching', 'verifying', 'probation', 'committed', 'failed'] as const;

interface Kind<S extends z.ZodType> {
  readonly qos: 0 | 1;
  /** Retained copies are caches for viewers; nothing depends on them. */
  readonly retain: boolean;
  /** How long the message is of use; null: as long as the session. */
  readonly ttlMs: number | null;
  readonly maxBytes: number;
  /** Null: binary, see blocks.ts. */
  readonly schema: S;
}

const KIB = 1024;
const kind = <S extends z.ZodType>(qos: 0 | 1, ttlMs: number | null, maxBytes: number, schema: S, retain = false): Kind<S> => ({
  qos,
  retain,
  ttlMs,
  maxBytes,
  schema,
});

/** What an agent says. */
export const UP = {
  /** Birth, will and clean stop on one topic, so that they cannot overtake each other. */
  state: kind(
    1,
    null,
    4 * KIB,
    z.discriminatedUnion('online', [
      z.object({
        online: z.literal(true),
        sessionId: uuid,
        bootId: message,
        agentVersion: message,
        capabilities: z.array(z.string().max(64)).max(32),
      }),
      z.object({ online: z.literal(false), sessionId: uuid, reason: message.nullable() }),
    ]),
    true,
  ),
  hello: kind(
    1,
    60_000,
    64 * KIB,
    z.object({
      info: deviceInfoSchema,
      /** Jobs held: granted and not yet accepted, running, or with a result that waits for its acknowledgement. */
      held: z.array(z.object({ ...attempt, phase: z.enum(['granted', 'running', 'done']) })).max(1024),
      rev: count,
      outboxRows: count,
      outboxOldestMs: millis.nullable(),
      freeDiskBytes: z.number().min(0).nullable(),
    }),
  ),
  hb: kind(
    0,
    15_000,
    4 * KIB,
    z.object({
      uptimeMs: millis,
      temperatureC: z.number().min(-100).max(300).nullable(),
      freeDiskBytes: z.number().min(0).nullable(),
      renewals: z.array(attemptSchema).max(16),
      /** Why the device asks for no work now. */
      notReady: z.object({ reason, message }).nullable(),
    }),
  ),
  'job-next': kind(1, 30_000, 4 * KIB, z.object({ max: z.literal(1) })),
  'job-update': kind(
    1,
    null,
    64 * KIB,
    z.discriminatedUnion('phase', [
      z.object({ phase: z.literal('fetching'), ...attempt, bytes: count }),
      z.object({ phase: z.literal('accepted'), ...attempt }),
      /** No sign of life is to be expected for so long: a timed section follows. */
      z.object({ phase: z.literal('quiet'), ...attempt, quietMs: millis.max(1_200_000) }),
      z.object({ phase: z.literal('result'), ...attempt, outcome: outcomeSchema }),
      /** With `retryAfterMs` the device is not ready and the attempt does not count; without, this job is not for this device. */
      z.object({ phase: z.literal('reject'), ...attempt, reason, message, retryAfterMs: millis.nullable() }),
      /** The agent died while the job ran. */
      z.object({ phase: z.literal('interrupted'), ...attempt }),
    ]),
  ),
  'art-req': kind(
    1,
    30_000,
    4 * KIB,
    z.object({ handle: u32, sha256: sha256Schema, first: u32, count: z.int().min(1).max(MAX_BLOCK_WINDOW) }),
  ),
  reported: kind(
    1,
    null,
    4 * KIB + 4096,
    z.object({
      rev: count,
      phase: z.enum(DEPLOYMENT_PHASES),
      activeManifestSha256: sha256Schema.nullable(),
      serveUrl: z.string().max(256).nullable(),
      failure: z.object({ reason, message }).nullable(),
    }),
    true,
  ),
  /** Cumulative since this revision became active in this run of the agent: the loss of one report loses no energy. */
  energy: kind(
    1,
    600_000,
    32 * KIB,
    z.object({
      /** Names a run of the agent: counters and `seq` start again with each. */
      runId: uuid,
      rev: count,
      manifestSha256: sha256Schema.nullable(),
      seq: count,
      idleJoules: z.number().min(0).nullable(),
      activeJoules: z.number().min(0).nullable(),
      idleMs: millis,
      activeMs: millis,
      inferences: count,
      sensor: z.string().max(512).nullable(),
      /** Why there are no joules; null where there are. */
      failure: z.object({ reason, message }).nullable(),
    }),
  ),
  inferred: kind(
    1,
    30_000,
    64 * KIB,
    z.discriminatedUnion('ok', [
      z.object({ ok: z.literal(true), handle: u32, output: z.array(z.number()).max(MAX_INFER_VALUES), latencyMs: millis }),
      failure.extend({ handle: u32 }),
    ]),
  ),
  /** The password is the device's own choice, so that a lost answer can be asked for again; it is never stored as it came. */
  enrol: kind(
    1,
    600_000,
    8 * KIB,
    z.object({ name: z.string().max(128).nullable(), info: deviceInfoSchema, password: z.string().min(32).max(128) }),
  ),
} as const;

/** What the controller says. */
export const DOWN = {
  welcome: kind(
    1,
    60_000,
    64 * KIB,
    z.object({
      held: z.array(z.object({ ...attempt, action: z.enum(['keep', 'drop', 'resend']) })).max(1024),
      desired: desiredSchema.nullable(),
      serverTimeMs: millis,
      heartbeatMs: millis,
    }),
  ),
  rebirth: kind(1, 60_000, 4 * KIB, z.object({ reason: message })),
  /** Work exists; the job itself is asked for. */
  bell: kind(1, 60_000, 4 * KIB, z.object({ startDelayMs: millis })),
  'job-grant': kind(
    1,
    60_000,
    8 * KIB,
    z.discriminatedUnion('none', [
      z.object({ none: z.literal(true), retryAfterMs: millis }),
      z.object({ none: z.literal(false), grant: grantSchema }),
    ]),
  ),
  /** Sent after the commit; `version` is the job's row as committed. */
  'job-ack': kind(1, null, 4 * KIB, z.object({ ackOf: uuid, ...attempt, verdict: z.enum(VERDICTS), version: count })),
  'job-cancel': kind(1, null, 4 * KIB, attemptSchema),
  'art-blk': kind(1, 30_000, MAX_PACKET_BYTES - 4 * KIB, z.null()),
  'art-ctl': kind(
    1,
    30_000,
    4 * KIB,
    z.object({ handle: u32, reason: z.enum(['UNKNOWN_BLOB', 'NOT_AUTHORISED', 'BUSY']), message, retryAfterMs: millis.nullable() }),
  ),
  desired: kind(1, null, 4 * KIB, desiredSchema, true),
  infer: kind(1, 30_000, MAX_PACKET_BYTES - 4 * KIB, z.null()),
  enrol: kind(
    1,
    600_000,
    8 * KIB,
    z.discriminatedUnion('ok', [z.object({ ok: z.literal(true), deviceId: id, fleet: id, shard: z.string().regex(/^\d\d$/) }), failure]),
  ),
} as const;

export type UpKind = keyof typeof UP;
export type DownKind = keyof typeof DOWN;
export type BinaryKind = 'art-blk' | 'infer';
export type JsonDownKind = Exclude<DownKind, BinaryKind>;
export type UpPayload<K extends UpKind> = Readonly<z.infer<(typeof UP)[K]['schema']>>;
export type DownPayload<K extends DownKind> = Readonly<z.infer<(typeof DOWN)[K]['schema']>>;
export type JobUpdate = UpPayload<'job-update'>;
export type Held = UpPayload<'hello'>['held'][number];

const envelopeFields = {
  /** Minor version. */
  v: count,
  id: uuid,
  /** Sender's wall clock and monotonic clock, in ms. */
  ts: millis,
  mono: millis,
  /** Sender's boot: a counter or a monotonic time means something only within one. */
  boot: z.string().max(64),
  /** Up: the sender's session. Down: the session that is meant. */
  sid: uuid,
  /** Up: number of this QoS 1 transmission within its session, from 0 (a heartbeat repeats the last). Down: 0. */
  seq: count,
  /** Id of the message that this one answers. */
  corr: uuid.nullable(),
  ttlMs: millis.nullable(),
};
export type EnvelopeFields = { readonly [K in keyof typeof envelopeFields]: z.infer<(typeof envelopeFields)[K]> };
export type UpMessage = { [K in UpKind]: EnvelopeFields & { readonly t: K; readonly p: UpPayload<K> } }[UpKind];
export type DownMessage = { [K in JsonDownKind]: EnvelopeFields & { readonly t: K; readonly p: DownPayload<K> } }[JsonDownKind];

function envelopesOf(table: Readonly<Record<string, Kind<z.ZodType>>>): ReadonlyMap<string, z.ZodType> {
  return new Map(Object.entries(table).map(([t, { schema }]) => [t, z.object({ t: z.literal(t), ...envelopeFields, p: schema })]));
}
const UP_ENVELOPES = envelopesOf(UP);
const DOWN_ENVELOPES = envelopesOf(DOWN);

export function isUpKind(text: string): text is UpKind {
  return Object.hasOwn(UP, text);
}

export function isBinaryKind(text: string): text is BinaryKind {
  return text === 'art-blk' || text === 'infer';
}

export function isJsonDownKind(text: string): text is JsonDownKind {
  return Object.hasOwn(DOWN, text) && !isBinaryKind(text);
}

/** The message, or INVALID_INPUT with what is wrong; unknown keys are dropped. `kind` is the topic's last level and must equal `t`. */
export function parseUp(kind: UpKind, bytes: Uint8Array): Outcome<UpMessage> {
  return parse<UpMessage>(UP_ENVELOPES, kind, UP[kind].maxBytes, bytes);
}

export function parseDown(kind: JsonDownKind, bytes: Uint8Array): Outcome<DownMessage> {
  return parse<DownMessage>(DOWN_ENVELOPES, kind, DOWN[kind].maxBytes, bytes);
}

function parse<M>(envelopes: ReadonlyMap<string, z.ZodType>, kind: string, maxBytes: number, bytes: Uint8Array): Outcome<M> {
  const json = parseHostileJson(bytes, maxBytes);
  if (!json.ok) return failed('INVALID_INPUT', `${kind}: ${json.message}`);
  const parsed = (envelopes.get(kind) as z.ZodType).safeParse(json.value);
  if (parsed.success) return ok(parsed.data as M);
  const issue = parsed.error.issues[0];
  return failed('INVALID_INPUT', `${kind}: ${issue?.path.join('.') ?? ''}: ${issue?.message ?? 'does not fit'}`);
}

/** Bytes of a message. Throws RangeError above the kind's limit: the sender must know what it sends. */
export function encodeUp<K extends UpKind>(t: K, fields: EnvelopeFields, p: UpPayload<K>): Uint8Array {
  return encode(t, fields, p, UP[t].maxBytes);
}

export function encodeDown<K extends JsonDownKind>(t: K, fields: EnvelopeFields, p: DownPayload<K>): Uint8Array {
  return encode(t, fields, p, DOWN[t].maxBytes);
}

function encode(t: string, fields: EnvelopeFields, p: unknown, maxBytes: number): Uint8Array {
  const bytes = new TextEncoder().encode(JSON.stringify({ t, ...fields, p }));
  if (bytes.length > maxBytes) throw new RangeError(`a ${t} message of ${bytes.length} bytes is above the limit of ${maxBytes}`);
  return bytes;
}
