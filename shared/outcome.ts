// An expected failure is a value, with a reason from one list and a message that names the value, the limit and the next step.

/** Why something did not happen or a number is not there. One list for both sides of the wire; grouped by who says it. */
export const REASONS = [
  // verdicts on a measurement
  'THROTTLED',
  'UNDER_VOLTAGE',
  'OVER_CURRENT',
  'CLOCK_MOVED',
  'DRIFT',
  'NEIGHBOUR_LOAD',
  'NOT_STEADY',
  'TOO_FEW_SAMPLES',
  'TIME_CAP',
  'UNCONTROLLED',
  'HIDDEN_PAGE',
  'FALLBACK_EP',
  'OUTPUT_MISMATCH',
  // why there is no energy
  'SENSOR_MISSING',
  'SENSOR_TOO_SLOW',
  'SENSOR_STALE',
  'COUNTER_RESET',
  'IDLE_MOVED',
  'BELOW_IDLE_NOISE',
  'METERS_DISAGREE',
  'ON_CHARGER',
  'NOT_ASKED',
  // why a device does not take or finish a job
  'TOO_HOT',
  'LOW_BATTERY',
  'LOW_DISK',
  'BUSY',
  'INCOMPATIBLE',
  'UNSUPPORTED_OP',
  'OUT_OF_MEMORY',
  'RUNTIME_MISSING',
  'CRASHED',
  'INTERRUPTED',
  'TIMED_OUT',
  'EXHAUSTED',
  'CRASHES_AGENT',
  'CANCELED',
  'EXPIRED',
  // transfer
  'UNKNOWN_BLOB',
  'NOT_AUTHORISED',
  'HASH_MISMATCH',
  // use
  'INVALID_INPUT',
  'NOT_FOUND',
  'CORRUPT_FILE',
  'PORT_IN_USE',
  'UNREACHABLE',
  'UNCALIBRATED',
  'INFEASIBLE',
] as const;

export type Reason = (typeof REASONS)[number];

export interface Failure {
  readonly ok: false;
  readonly reason: Reason;
  readonly message: string;
}

export type Outcome<T> = { readonly ok: true; readonly value: T } | Failure;

export function ok<T>(value: T): Outcome<T> {
  return { ok: true, value };
}

/** Longest message: with every escape of JSON it still fits the smallest message on the wire that carries one. */
export const MAX_MESSAGE_CHARS = 2000;

/** `message` is cut at MAX_MESSAGE_CHARS: a runtime may say more than anyone reads, and more than the wire takes. */
export function failed(reason: Reason, message: string): Failure {
  const short = message.length <= MAX_MESSAGE_CHARS ? message : `${message.slice(0, MAX_MESSAGE_CHARS - 2)} …`;
  return { ok: false, reason, message: short };
}
