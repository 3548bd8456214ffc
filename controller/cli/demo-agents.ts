// The demo's devices: `ofa-agent join` as processes of their own, started again when they die, ended with the demo.
import { spawn, type ChildProcess } from 'node:child_process';
import { closeSync, existsSync, mkdirSync, openSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { AGENT_PROGRAM } from './machine.ts';

export interface DemoAgent {
  /** Name and device class. */
  readonly name: string;
  readonly runtime: 'onnxruntime-node' | 'onnxruntime-web';
}

export interface DemoAgentsSettings {
  readonly agents: readonly DemoAgent[];
  readonly brokerUrl: string;
  readonly createToken: (name: string) => Promise<string>;
  /** Each agent keeps its state and its log in a folder of its name below it. */
  readonly directory: string;
  readonly notice: (line: string) => void;
  /** Aborted when the demo is to end: nobody is started again then. */
  readonly signal: AbortSignal;
}

export interface DemoAgents {
  /** Ends all of them, by force if they do not go. */
  stop(): Promise<void>;
}

const RESTART_MS = 1000;
const MAX_RESTARTS = 20;
const END_MS = 2500;

export async function startDemoAgents(settings: DemoAgentsSettings): Promise<DemoAgents> {
  const running = new Map<string, ChildProcess>();
  const timers = new Set<NodeJS.Timeout>();
  let stopping = false;

  const start = (agent: DemoAgent, token: string, restarts: number): void => {
    const directory = join(settings.directory, agent.name);
    mkdirSync(directory, { recursive: true });
    const log = openSync(join(directory, 'agent.log'), 'a');
    const args = ['join', settings.brokerUrl, token, '--state', directory, '--runtime', agent.runtime, '--class', agent.name, '--name', agent.name, '--with-parent']; // prettier-ignore
    // in a group of its own: a terminal's Ctrl-C is for the demo, which ends its agents in order
    const child = spawn(process.execPath, [AGENT_PROGRAM, ...args], { stdio: ['pipe', log, log], detached: true });
    closeSync(log);
    running.set(agent.name, child);
    child.on('exit', (code, signal) => {
      running.delete(agent.name);
      if (stopping || settings.signal.aborted) return;
      const how = signal === null ? `ended with code ${code ?? 'none'}` : `was killed by ${signal}`;
      if (restarts >= MAX_RESTARTS) {
        settings.notice(
          `Agent ${agent.name} ${how} and is not started again after ${MAX_RESTARTS} times; see ${join(directory, 'agent.log')}.`,
        );
        return;
      }
      settings.notice(`Agent ${agent.name} ${how}; it is started again, and what it had measured counts.`);
      const timer = setTimeout(() => {
        timers.delete(timer);
        if (!settings.signal.aborted) start(agent, token, restarts + 1);
      }, RESTART_MS);
      timers.add(timer);
    });
  };

  for (const agent of settings.agents) start(agent, await tokenOf(settings, agent), 0);
  return {
    async stop() {
      stopping = true;
      for (const timer of timers) clearTimeout(timer);
      await Promise.all([...running.values()].map(end));
    },
  };
}

/** The token of an earlier run, if there was one: with it the agent is the device that it was. */
async function tokenOf({ directory, createToken }: DemoAgentsSettings, { name }: DemoAgent): Promise<string> {
  const file = join(directory, name, 'token');
  if (existsSync(file)) return readFileSync(file, 'utf8');
  const token = await createToken(name);
  mkdirSync(join(directory, name), { recursive: true });
  writeFileSync(file, token, { mode: 0o600 });
  return token;
}

async function end(child: ChildProcess): Promise<void> {
  const gone = new Promise<void>((resolve) => child.once('exit', () => resolve()));
  child.kill('SIGTERM');
  const force = setTimeout(() => child.kill('SIGKILL'), END_MS);
  await gone;
  clearTimeout(force);
}
