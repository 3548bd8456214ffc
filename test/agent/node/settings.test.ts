// What `join` is given, checked before anything starts.
import { describe, expect, it } from 'vitest';
import { checkSettings, type AgentSettings } from '../../../agent/node/settings.ts';

const SECRET = 'ab'.repeat(32);
const settings: AgentSettings = {
  url: 'mqtt://127.0.0.1',
  token: `clm-0123456789abcdef.${SECRET}`,
  stateDir: '/nowhere',
  runtime: 'onnxruntime-node',
  deviceClass: null,
  name: null,
  withParent: false,
  hostLockPath: '/nowhere/lock',
};

describe('the settings of join', () => {
  it('are completed with the default port and limits', () => {
    expect(checkSettings(settings)).toMatchObject({ ok: true, value: { url: 'mqtt://127.0.0.1:1883', maxTemperatureC: 85 } });
  });

  it('with a token that is one letter short are refused without repeating the secret', () => {
    const refused = checkSettings({ ...settings, token: settings.token.slice(0, -1) });
    expect(refused).toMatchObject({ ok: false, reason: 'INVALID_INPUT' });
    expect(JSON.stringify(refused)).not.toContain(SECRET.slice(0, 16));
  });
});
