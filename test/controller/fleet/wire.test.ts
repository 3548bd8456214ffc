// The controller's end of the wire, where there is no broker to reach.
import { describe, expect, it } from 'vitest';
import { systemClock } from '../../../shared/clock.ts';
import { openWire } from '../../../controller/fleet/wire.ts';

describe('the wire', () => {
  it('is not ready, and says so, where its time is over before a broker answers', async () => {
    const nothing = { onMessage: () => undefined, onInvalid: () => undefined, onTrouble: () => undefined };
    // port 1 of this machine: nobody listens there
    const wire = openWire({ url: 'mqtt://127.0.0.1:1', password: 'p', clock: systemClock, random: Math.random }, nothing);
    expect(await wire.ready(AbortSignal.timeout(50))).toBe(false);
    await wire.close();
  });
});
