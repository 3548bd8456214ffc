// Binary frames: the checksum against published vectors, and that no damaged frame is taken.
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { crc32c, decodeFrame, encodeFrame } from '../../shared/blocks.ts';

describe('CRC-32C', () => {
  it.each([
    ['32 bytes of zero', new Uint8Array(32), 0x8a9136aa],
    ['32 bytes of ones', new Uint8Array(32).fill(0xff), 0x62a8ab43],
    ['0 to 31', Uint8Array.from({ length: 32 }, (_, i) => i), 0x46dd794e],
    ['31 to 0', Uint8Array.from({ length: 32 }, (_, i) => 31 - i), 0x113fdb5c],
    ['the digits 1 to 9', new TextEncoder().encode('123456789'), 0xe3069283],
  ])('of %s is the value of RFC 3720, appendix B.4, or of the catalogue of CRCs', (_what, bytes, expected) => {
    expect(crc32c(bytes)).toBe(expected);
  });
});

describe('a frame', () => {
  const frame = fc.record({ handle: fc.nat(0xffffffff), index: fc.nat(0xffffffff), bytes: fc.uint8Array({ maxLength: 300 }) });

  it('decodes to what was encoded', () => {
    fc.assert(
      fc.property(frame, (sent) => {
        expect(decodeFrame(encodeFrame(sent))).toEqual({ ok: true, value: sent });
      }),
    );
  });

  it('is refused when a byte of its length, checksum or content is flipped', () => {
    fc.assert(
      fc.property(frame, fc.nat(), fc.integer({ min: 1, max: 255 }), (sent, where, flip) => {
        const packet = encodeFrame(sent);
        const at = 8 + (where % (packet.length - 8));
        packet[at] = (packet[at] as number) ^ flip;
        expect(decodeFrame(packet).ok).toBe(false);
      }),
    );
  });

  it('is refused when it is cut short or longer than announced', () => {
    const packet = encodeFrame({ handle: 1, index: 2, bytes: new Uint8Array(10) });
    for (const length of [0, 15, 16, 25]) expect(decodeFrame(packet.subarray(0, length)).ok).toBe(false);
    expect(decodeFrame(Uint8Array.from([...packet, 0])).ok).toBe(false);
  });
});
