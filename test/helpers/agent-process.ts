// An agent as a process of its own: everything real but the measurement, which stands in for the hardware's time: it takes `measureMs` and
// answers a latency that follows from the model. Started by startAgentProcess in fleet-processes.ts.
import { setTimeout as sleep } from 'node:timers/promises';
import { failed, ok } from '../../shared/outcome.ts';
import { runAgent } from '../../agent/node/main.ts';
import type { AgentSettings } from '../../agent/node/settings.ts';
import { startModelServer } from '../../agent/node/serve.ts';
import { deviceInfo } from './devices.ts';
import { measurementOf } from './measurements.ts';

export interface AgentProcessSettings extends AgentSettings {
  readonly measureMs: number;
}

export function latencyOf(manifestSha256: string): number {
  return 1 + Number.parseInt(manifestSha256.slice(0, 4), 16) / 65_536;
}

if (process.argv[2] !== undefined) {
  const { measureMs, ...settings } = JSON.parse(process.argv[2]) as AgentProcessSettings;
  process.exitCode = await runAgent(settings, {
    readInfo: ({ deviceClass }) => Promise.resolve(ok(deviceInfo(deviceClass))),
    createMeasurer: () => ({
      async measure(source, _plan, signal) {
        await sleep(measureMs, undefined, { signal }).catch(() => undefined);
        if (signal.aborted) return failed('CANCELED', 'called off');
        return ok(measurementOf(latencyOf(source.kind === 'blobs' ? source.manifestSha256 : '')));
      },
    }),
    startServer: () => startModelServer({ runtime: 'onnxruntime-node', intraOpThreads: 1, host: '127.0.0.1', port: 0 }),
  });
}
