// What an operator types to name a smart plug, and what is said where it is wrong: never a password.
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { placeOf } from '../../../agent/node/meters/meter.ts';
import { meterHost } from '../../../agent/node/meters/discover.ts';
import { discoverPlugs } from '../../../agent/node/meters/plug.ts';
import { parsePlug } from '../../../agent/node/plug-option.ts';
import { value } from '../../helpers/outcome.ts';

describe('--plug', () => {
  it.each([
    ['tasmota:desk-plug@mqtt://192.168.1.10', { make: 'tasmota', name: 'desk-plug', url: 'mqtt://192.168.1.10' }],
    [
      'shelly:shellyplugsg3-a1b2c3@mqtts://me:secret@broker:8883/',
      { make: 'shelly', name: 'shellyplugsg3-a1b2c3', url: 'mqtts://me:secret@broker:8883' },
    ],
    ['zigbee2mqtt:attic/desk plug@mqtt://broker:1884', { make: 'zigbee2mqtt', name: 'attic/desk plug', url: 'mqtt://broker:1884' }],
    ['Tasmota:a@b@mqtt://me:p@ss@broker', { make: 'tasmota', name: 'a@b', url: 'mqtt://me:p%40ss@broker' }],
    ['tasmota:x@mqtt://me:a%2Fb%23c@[::1]:1883', { make: 'tasmota', name: 'x', url: 'mqtt://me:a%2Fb%23c@[::1]:1883' }],
  ])('takes %s', (text, plug) => {
    expect(value(parsePlug(text))).toEqual(plug);
  });

  it.each([
    ['tasmota:desk', /MAKE:NAME@mqtt/],
    ['desk@mqtt://me:geheim@broker', /MAKE:NAME@mqtt/],
    ['mqtt://me:geheim@broker', /MAKE:NAME@mqtt/],
    ['kasa:desk@mqtt://me:geheim@broker', /none of the makes tasmota, shelly, zigbee2mqtt/],
    ['tasmota:@mqtt://me:geheim@broker', /1 to 128 characters/],
    ['tasmota:#@mqtt://me:geheim@broker', /# or \+/],
    ['tasmota:+/x@mqtt://me:geheim@broker', /# or \+/],
    ['tasmota:/x@mqtt://me:geheim@broker', /begins and ends/],
    [`tasmota:${'x'.repeat(129)}@mqtt://me:geheim@broker`, /1 to 128 characters/],
    ['tasmota:desk@http://me:geheim@broker', /mqtt:\/\/ or mqtts:\/\//],
    ['tasmota:desk@mqtt://me:geheim@broker:99999', /host\[:port\]/],
    ['tasmota:desk@mqtt://me:geheim#1@broker', /%23/],
    ['tasmota:desk@mqtt://me:geheim/1@broker', /%2F/],
    ['tasmota:desk@mqtt://me:geheim@broker/topic', /%2F/],
    ['tasmota:desk@mqtt://', /host\[:port\]/],
  ])('refuses %s, with what is right and without what may be a password', (text, said) => {
    const plug = parsePlug(text);
    expect(plug).toMatchObject({ ok: false, reason: 'INVALID_INPUT' });
    expect(plug.ok ? '' : plug.message).toMatch(said);
    expect(plug.ok ? '' : plug.message).not.toContain('geheim');
  });

  it('never shows a password of what it takes, whatever the password is', () => {
    fc.assert(
      fc.property(fc.stringMatching(/^[a-zA-Z0-9@:%!$&'()*+,;=._~-]{3,20}$/), (password) => {
        const plug = parsePlug(`shelly:desk@mqtt://someone:${password}@broker`);
        if (!plug.ok) return;
        for (const { source } of discoverPlugs(meterHost('/nowhere', [plug.value])).meters)
          expect(placeOf(source)).toBe('desk/+/+ at mqtt://broker');
      }),
    );
  });
});
