// Reads JSON that a stranger sent: size, depth, array length, string length and key names are bounded before anything looks at the values.
import { failed, ok, type Outcome } from './outcome.ts';

const MAX_DEPTH = 8;
const MAX_ARRAY = 2048;
const MAX_STRING = 4096;
/** Assigning one of these by name would reach an object's prototype. */
const FORBIDDEN_KEYS: ReadonlySet<string> = new Set(['__proto__', 'constructor', 'prototype']);

/** An object, or why the bytes are refused (INVALID_INPUT). */
export function parseHostileJson(bytes: Uint8Array, maxBytes: number): Outcome<Readonly<Record<string, unknown>>> {
  if (bytes.length > maxBytes) return refuse(`${bytes.length} bytes, the limit is ${maxBytes}`);
  if (bytes[0] !== 0x7b) return refuse('the first byte is not "{"');
  let text: string;
  try {
    text = new TextDecoder('utf-8', { fatal: true }).decode(bytes);
  } catch {
    return refuse('the bytes are not UTF-8');
  }
  const depth = depthOf(text);
  if (depth > MAX_DEPTH) return refuse(`nested deeper than ${MAX_DEPTH}`);
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    return refuse('the text is not JSON');
  }
  const fault = faultOf(value);
  return fault === null ? ok(value as Record<string, unknown>) : refuse(fault);
}

function refuse(what: string): Outcome<never> {
  return failed('INVALID_INPUT', what);
}

/** Depth of brackets outside strings, counted before parsing and no further than needed. */
function depthOf(text: string): number {
  let depth = 0;
  let deepest = 0;
  let inString = false;
  for (let i = 0; i < text.length && deepest <= MAX_DEPTH; i++) {
    const char = text.charCodeAt(i);
    if (inString) {
      if (char === 0x5c) i++;
      else if (char === 0x22) inString = false;
    } else if (char === 0x22) inString = true;
    else if (char === 0x7b || char === 0x5b) deepest = Math.max(deepest, ++depth);
    else if (char === 0x7d || char === 0x5d) depth--;
  }
  return deepest;
}

/** First thing that breaks a bound; recursion ends at MAX_DEPTH, which was checked. */
function faultOf(value: unknown): string | null {
  if (typeof value === 'string')
    return value.length > MAX_STRING ? `a string of ${value.length} characters, the limit is ${MAX_STRING}` : null;
  if (typeof value === 'number') return Number.isFinite(value) ? null : 'a number is not finite';
  if (typeof value !== 'object' || value === null) return null;
  if (Array.isArray(value)) {
    if (value.length > MAX_ARRAY) return `an array of ${value.length} items, the limit is ${MAX_ARRAY}`;
    for (const item of value) {
      const fault = faultOf(item);
      if (fault !== null) return fault;
    }
    return null;
  }
  for (const [key, item] of Object.entries(value)) {
    if (FORBIDDEN_KEYS.has(key)) return `the key ${key} is not allowed`;
    const fault = faultOf(item);
    if (fault !== null) return fault;
  }
  return null;
}
