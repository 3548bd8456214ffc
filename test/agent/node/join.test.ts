// What `join` does before it speaks to anyone, on a machine where somebody measures.
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { runAgent, type AgentParts } from '../../../agent/node/main.ts';
import type { AgentSettings } from '../../../agent/node/settings.ts';
import { acquireHostLock } from '../../../shared/node/host-lock.ts';
import { failed } from '../../../shared/outcome.ts';

let dir = '';
beforeEach(() => (dir = mkdtempSync(join(tmpdir(), 'ofa-join-'))));
afterEach(() => rmSync(dir, { recursive: true, force: true }));

describe('an agent that joins', () => {
  it('asks its machine nothing while somebody measures there, since that starts processes', async () => {
    const settings: AgentSettings = {
      url: 'mqtt://127.0.0.1:1',
      token: `clm-0123456789abcdef.${'ab'.repeat(32)}`,
      stateDir: join(dir, 'state'),
      runtime: 'onnxruntime-node',
      deviceClass: null,
      name: null,
      withParent: false,
      hostLockPath: join(dir, 'host.lock'),
    };
    let asked = 0;
    const gone = failed('RUNTIME_MISSING', 'this test ends here');
    const parts: AgentParts = {
      readInfo: () => {
        asked++;
        return Promise.resolve(gone);
      },
      createMeasurer: () => ({ measure: () => Promise.resolve(gone) }),
      startServer: () => Promise.resolve(gone),
    };
    const measuring = await acquireHostLock({ path: settings.hostLockPath, signal: new AbortController().signal });
    const code = runAgent(settings, parts);
    await new Promise((resolve) => setTimeout(resolve, 300));
    expect(asked).toBe(0);
    measuring.release();
    expect(await code).toBe(1);
    expect(asked).toBe(1);
  });
});
