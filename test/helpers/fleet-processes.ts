// Starts, watches and kills the processes of a small fleet.
import { fork, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';
import type { JobEnd } from '../../controller/fleet/fleet.ts';
import type { AgentProcessSettings } from './agent-process.ts';
import type { Call, Remote } from './controller-process.ts';

const fileOf = (name: string) => fileURLToPath(new URL(name, import.meta.url));

export interface Running {
  readonly process: ChildProcess;
  /** What it wrote to stderr so far. */
  stderr(): string;
  /** SIGKILL, and gone when this resolves. */
  kill(): Promise<void>;
  /** Resolves with the exit code. */
  ended(): Promise<number | null>;
}

export interface ControllerProcess extends Running {
  readonly brokerUrl: string;
  readonly call: <M extends keyof Remote>(method: M, ...args: Parameters<Remote[M]>) => Promise<Awaited<ReturnType<Remote[M]>>>;
}

function watch(child: ChildProcess): Running {
  let said = '';
  child.stderr?.on('data', (chunk: Buffer) => (said += chunk.toString()));
  const exit = once(child, 'exit');
  return {
    process: child,
    stderr: () => said,
    async kill() {
      child.kill('SIGKILL');
      await exit;
    },
    async ended() {
      await exit;
      return child.exitCode;
    },
  };
}

export function startAgentProcess(settings: AgentProcessSettings): Running {
  return watch(
    fork(fileOf('./agent-process.ts'), [JSON.stringify(settings)], { stdio: ['ignore', 'ignore', 'pipe', 'ipc'], execArgv: [] }),
  );
}

/** Resolves once its broker listens; rejects with its stderr where it ends before. */
export async function startControllerProcess(
  dir: string,
  port: number,
  onEnd: (end: JobEnd) => void = () => undefined,
): Promise<ControllerProcess> {
  const child = fork(fileOf('./controller-process.ts'), [JSON.stringify({ dir, port })], {
    stdio: ['ignore', 'ignore', 'pipe', 'ipc'],
    execArgv: [],
  });
  const running = watch(child);
  const open = new Map<number, { resolve: (value: unknown) => void; reject: (error: Error) => void }>();
  let lastId = 0;
  const brokerUrl = await new Promise<string>((resolve, reject) => {
    child.once('exit', () => {
      const error = new Error(`the controller ended: ${running.stderr()}`);
      for (const call of open.values()) call.reject(error);
      reject(error);
    });
    child.on('message', (message: { event?: string; brokerUrl?: string; end?: JobEnd; id?: number; result?: unknown; error?: string }) => {
      if (message.event === 'ready') resolve(message.brokerUrl ?? '');
      else if (message.event === 'end' && message.end !== undefined) onEnd(message.end);
      else if (message.id !== undefined) {
        const call = open.get(message.id);
        open.delete(message.id);
        if (message.error === undefined) call?.resolve(message.result);
        else call?.reject(new Error(message.error));
      }
    });
  });
  return {
    ...running,
    brokerUrl,
    call: (method, ...args) =>
      new Promise((resolve, reject) => {
        const id = ++lastId;
        open.set(id, { resolve: resolve as (value: unknown) => void, reject });
        child.send({ id, method, args } satisfies Call, (error) => {
          if (error !== null) reject(error);
        });
      }),
  };
}
