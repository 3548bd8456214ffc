// Messages at the border: what was encoded comes back, and what a stranger may send is bounded before it is read.
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { uuidV7 } from '../../shared/ids.ts';
import {
  DOWN,
  encodeDown,
  encodeUp,
  parseDown,
  parseUp,
  UP,
  WIRE_MINOR,
  isUpKind,
  type EnvelopeFields,
  type UpKind,
} from '../../shared/protocol.ts';
import { measurementOf } from '../helpers/measurements.ts';
import { deviceInfo } from '../helpers/devices.ts';

const id = uuidV7(1_764_000_000_000);
const fields: EnvelopeFields = { v: WIRE_MINOR, id, ts: 1, mono: 1, boot: 'boot', sid: id, seq: 0, corr: null, ttlMs: null };
const bytesOf = (text: string) => new TextEncoder().encode(text);
const message = (t: string, p: string) => bytesOf(`${JSON.stringify({ t, ...fields }).slice(0, -1)},"p":${p}}`);

describe('a message', () => {
  it('comes back as it was sent, a whole measurement too', () => {
    const p = { phase: 'result', jobId: id, attempt: 1, outcome: { ok: true, value: measurementOf(1.5) } } as const;
    const parsed = parseUp('job-update', encodeUp('job-update', fields, p));
    expect(parsed).toEqual({ ok: true, value: { t: 'job-update', ...fields, p } });
  });

  it('fits its limit with the most samples that a measurement may have', () => {
    const samplesMs = Array.from({ length: 2000 }, (_, i) => 0.123456789012345 + i / 7e6);
    const outcome = { ok: true, value: { ...measurementOf(1), samplesMs } } as const;
    const bytes = encodeUp('job-update', fields, { phase: 'result', jobId: id, attempt: 1, outcome });
    expect(parseUp('job-update', bytes).ok).toBe(true);
  });

  it('loses keys that this version does not know, and needs all that it does', () => {
    const known = JSON.stringify({ max: 1, later: 'version' });
    const parsed = parseUp('job-next', message('job-next', known));
    expect(parsed.ok && parsed.value.p).toEqual({ max: 1 });
    expect(parseUp('job-next', message('job-next', '{}')).ok).toBe(false);
  });

  it('must be of the kind that its topic says', () => {
    expect(parseUp('hb', message('job-next', '{"max":1}')).ok).toBe(false);
  });

  it('of the controller comes back too', () => {
    const p = { ackOf: id, jobId: id, attempt: 3, verdict: 'accepted-late', version: 7 } as const;
    expect(parseDown('job-ack', encodeDown('job-ack', fields, p))).toEqual({ ok: true, value: { t: 'job-ack', ...fields, p } });
  });

  it('above its limit is not sent', () => {
    const info = deviceInfo(null);
    const enrol = { name: null, info: { ...info, sensors: Array.from({ length: 32 }, () => 'x'.repeat(512)) }, password: 'x'.repeat(64) };
    expect(() => encodeUp('enrol', fields, enrol)).toThrow(RangeError);
  });
});

describe('a hostile message', () => {
  const refusals: readonly (readonly [string, Uint8Array, RegExp])[] = [
    ['is longer than its kind may be', message('job-next', `{"max":1,"pad":"${'x'.repeat(5000)}"}`), /the limit is 4096/],
    ['nests deeply', message('job-next', `${'['.repeat(1500)}${']'.repeat(1500)}`), /nested deeper/],
    ['nests deeply with keys', message('job-next', `${'{"a":'.repeat(20)}1${'}'.repeat(20)}`), /nested deeper/],
    ['names __proto__', message('job-next', '{"max":1,"__proto__":{"a":1}}'), /__proto__/],
    ['names constructor', message('job-next', '{"max":1,"constructor":1}'), /constructor/],
    ['names prototype inside an array', message('job-next', '{"max":1,"a":[{"prototype":1}]}'), /prototype/],
    ['holds NaN', message('job-next', '{"max":NaN}'), /not JSON/],
    ['holds a number beyond all numbers', message('job-next', '{"max":1,"x":1e999}'), /not finite/],
    ['is not UTF-8', Uint8Array.from([0x7b, 0x22, 0xff, 0xfe, 0x22, 0x7d]), /UTF-8/],
    ['is an array', bytesOf('[1]'), /first byte/],
    ['is empty', new Uint8Array(), /first byte/],
    ['has a byte order mark', bytesOf('\uFEFF{}'), /first byte/],
  ];
  it.each(refusals)('that %s is refused with the reason', (_what, bytes, reason) => {
    const parsed = parseUp('job-next', bytes);
    expect(parsed.ok).toBe(false);
    if (!parsed.ok) expect(parsed.message).toMatch(reason);
  });

  it('with a very long array or string is refused, also where the kind is large', () => {
    expect(parseUp('job-update', message('job-update', `{"a":[${'1,'.repeat(2048)}1]}`))).toMatchObject({ ok: false });
    expect(parseUp('job-update', message('job-update', `{"a":"${'x'.repeat(5000)}"}`))).toMatchObject({ ok: false });
  });

  it('never throws and never pollutes, whatever its bytes are', () => {
    const kinds = Object.keys(UP) as UpKind[];
    fc.assert(
      fc.property(
        fc.constantFrom(...kinds),
        fc.oneof(fc.uint8Array({ maxLength: 400 }), fc.json({ maxDepth: 12 }).map(bytesOf)),
        (kind, bytes) => {
          parseUp(kind, bytes);
          expect(({} as { polluted?: unknown }).polluted).toBeUndefined();
        },
      ),
      { numRuns: 500 },
    );
  });

  it('made from a right one by flipping a byte is refused or still fits the schema', () => {
    const right = encodeUp('hb', fields, {
      uptimeMs: 5,
      temperatureC: 40,
      freeDiskBytes: 1,
      renewals: [{ jobId: id, attempt: 1 }],
      notReady: null,
    });
    fc.assert(
      fc.property(fc.nat(right.length - 1), fc.integer({ min: 1, max: 255 }), (at, flip) => {
        const bytes = Uint8Array.from(right);
        bytes[at] = (bytes[at] as number) ^ flip;
        const parsed = parseUp('hb', bytes);
        if (parsed.ok) expect(UP.hb.schema.safeParse(parsed.value.p).success).toBe(true);
      }),
      { numRuns: 500 },
    );
  });
});

describe('the tables of kinds', () => {
  it('hold no name that an object has by itself', () => {
    for (const name of ['constructor', '__proto__', 'toString']) expect(isUpKind(name)).toBe(false);
  });

  it('retain only what is a cache, and use QoS 2 for nothing', () => {
    const all = [...Object.entries(UP), ...Object.entries(DOWN)];
    expect(all.filter(([, { retain }]) => retain).map(([kind]) => kind)).toEqual(['state', 'reported', 'desired']);
    for (const [, { qos }] of all) expect(qos).toBeLessThan(2);
  });
});
