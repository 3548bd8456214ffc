// Presence in virtual time: births, wills, silence, and messages that never came.
import { describe, expect, it } from 'vitest';
import { createPresence } from '../../../controller/fleet/presence.ts';
import { startSequence } from '../../../controller/fleet/sequence.ts';

const birth = (sid: string, seq = 0) => ({ deviceId: 'd', sid, bootId: 'b', seq, isBirth: true });
const word = (sid: string, seq: number | null) => ({ deviceId: 'd', sid, bootId: 'b', seq, isBirth: false });

describe('presence', () => {
  it('goes from online to suspect after 45 s of silence, to offline 30 s later, and back with a word', () => {
    const presence = createPresence();
    presence.heard(birth('s1'), 0);
    presence.tick(44_999);
    expect(presence.get('d')?.state).toBe('online');
    presence.tick(45_000);
    expect(presence.get('d')?.state).toBe('suspect');
    presence.tick(75_000);
    expect(presence.get('d')?.state).toBe('offline');
    expect(presence.heard(word('s1', 1), 80_000)).toBe(true);
    expect(presence.get('d')?.state).toBe('online');
  });

  it('expects the silence that a device announced', () => {
    const presence = createPresence();
    presence.heard(birth('s1'), 0);
    presence.quiet('d', 100_000);
    presence.tick(140_000);
    expect(presence.get('d')?.state).toBe('online');
    presence.tick(145_000);
    expect(presence.get('d')?.state).toBe('suspect');
  });

  it('is not ended by the will of an older session that comes after the birth of a newer one', () => {
    const presence = createPresence();
    presence.heard(birth('s1'), 0);
    presence.heard(birth('s2'), 10);
    expect(presence.left('d', 's1', false, 20)).toBe(false);
    expect(presence.get('d')).toMatchObject({ state: 'online', sid: 's2' });
  });

  it('ends at once on a clean stop, with a grace on a will', () => {
    const presence = createPresence();
    presence.heard(birth('s1'), 0);
    presence.left('d', 's1', false, 10);
    expect(presence.get('d')).toMatchObject({ state: 'suspect', sid: null });
    presence.heard(birth('s2'), 20);
    presence.left('d', 's2', true, 30);
    expect(presence.get('d')).toMatchObject({ state: 'offline', sid: null });
  });

  it('asks for the birth of a session that it never saw begin, and for it once a minute', () => {
    const presence = createPresence();
    presence.heard(word('s1', 7), 0);
    expect(presence.tick(1000).rebirths).toEqual(['d']);
    expect(presence.tick(2000).rebirths).toEqual([]);
    expect(presence.tick(61_000).rebirths).toEqual(['d']);
    presence.heard(birth('s1', 8), 62_000);
    expect(presence.tick(130_000).rebirths).toEqual([]);
  });
});

describe('the sequence of a session', () => {
  it('takes numbers out of order for 5 s, then calls it a gap, once', () => {
    const sequence = startSequence(0);
    sequence.see(2, 0);
    sequence.see(1, 4000);
    expect(sequence.hasGap(20_000)).toBe(false);
    sequence.see(4, 20_000);
    expect(sequence.hasGap(24_999)).toBe(false);
    expect(sequence.hasGap(25_000)).toBe(true);
    expect(sequence.hasGap(60_000)).toBe(false);
    sequence.see(5, 61_000);
    expect(sequence.hasGap(70_000)).toBe(false);
  });
});
