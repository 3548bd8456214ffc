// Agents as a user starts them, `ofa-agent join` in processes of their own, for tests and benches that need real measurements.
import { spawn, type ChildProcess } from 'node:child_process';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import type { Fleet } from '../../controller/fleet/fleet.ts';

export const AGENT_PROGRAM = fileURLToPath(new URL('../../agent/node/cli.ts', import.meta.url));
const JOIN_LIMIT_MS = 30_000;

export interface RealAgent {
  /** Name and device class. */
  readonly name: string;
  readonly runtime?: 'onnxruntime-node' | 'onnxruntime-web';
  /** A module loaded into the agent's processes before anything else: how a lesion reaches the runtime without a hook in the product. */
  readonly preload?: URL;
  /** Called with the agent's pid once it runs, e.g. to put it under a CPU quota. */
  readonly confine?: (pid: number) => void;
}

/** Resolves when all have joined and are online. */
export async function startRealAgents(fleet: Fleet, dir: string, agents: readonly RealAgent[]): Promise<{ stop(): Promise<void> }> {
  const children: ChildProcess[] = [];
  for (const { name, runtime = 'onnxruntime-node', preload, confine } of agents) {
    const token = await fleet.createToken({ name, lifetimeMs: JOIN_LIMIT_MS });
    const args = ['join', fleet.brokerUrl, token, '--state', join(dir, name), '--runtime', runtime, '--class', name, '--name', name, '--with-parent']; // prettier-ignore
    const env = { ...process.env, ...(preload === undefined ? {} : { NODE_OPTIONS: `--import=${preload.href}` }) };
    const child = spawn(process.execPath, [AGENT_PROGRAM, ...args], { stdio: ['pipe', 'ignore', 'inherit'], env });
    if (child.pid !== undefined) confine?.(child.pid);
    children.push(child);
  }
  const deadline = Date.now() + JOIN_LIMIT_MS;
  for (;;) {
    const online = (await fleet.devices()).filter(({ presence, info }) => presence === 'online' && info !== null);
    if (online.length === agents.length) break;
    if (Date.now() > deadline) throw new Error(`${online.length} of ${agents.length} agents joined within ${JOIN_LIMIT_MS / 1000} s`);
    await sleep(50);
  }
  return {
    async stop() {
      const gone = children.map((child) => new Promise((resolve) => child.once('exit', resolve)));
      for (const child of children) child.kill('SIGTERM');
      await Promise.all(gone);
    },
  };
}
