// Runs the real `ofa-fleet` and `ofa-agent` programs as processes, as a user's shell would.
import { spawn, type ChildProcess } from 'node:child_process';
import { fileURLToPath } from 'node:url';

const ROOT = fileURLToPath(new URL('../../', import.meta.url));
const PROGRAMS = { 'ofa-fleet': 'controller/cli/main.ts', 'ofa-agent': 'agent/node/cli.ts' } as const;

export interface Finished {
  readonly code: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

export interface RunningProgram {
  readonly process: ChildProcess;
  /** Everything said so far on both streams. */
  output(): string;
  /** Resolves once the output matches; rejects with the output where the program ends before. */
  said(pattern: RegExp): Promise<RegExpExecArray>;
  readonly finished: Promise<Finished>;
}

export interface RunOptions {
  readonly cwd?: string;
  readonly env?: Readonly<Record<string, string>>;
}

export function start(program: keyof typeof PROGRAMS, args: readonly string[], options: RunOptions = {}): RunningProgram {
  const child = spawn(process.execPath, [ROOT + PROGRAMS[program], ...args], {
    cwd: options.cwd ?? ROOT,
    env: { ...process.env, ...options.env },
    stdio: ['pipe', 'pipe', 'pipe'],
  });
  const chunks = { stdout: '', stderr: '' };
  const waiting = new Set<() => void>();
  const wake = () => {
    for (const check of [...waiting]) check();
  };
  for (const name of ['stdout', 'stderr'] as const) {
    child[name].on('data', (chunk: Buffer) => {
      chunks[name] += chunk.toString();
      wake();
    });
  }
  let ended = false;
  const finished = new Promise<Finished>((resolve) => {
    child.on('close', (code) => {
      ended = true;
      wake();
      resolve({ code, ...chunks });
    });
  });
  const output = () => chunks.stdout + chunks.stderr;
  return {
    process: child,
    output,
    finished,
    said: (pattern) =>
      new Promise((resolve, reject) => {
        const check = () => {
          const match = pattern.exec(output());
          if (match === null && !ended) return;
          waiting.delete(check);
          if (match === null) reject(new Error(`ended without saying ${String(pattern)}:\n${output()}`));
          else resolve(match);
        };
        waiting.add(check);
        check();
      }),
  };
}

export function run(program: keyof typeof PROGRAMS, args: readonly string[], options?: RunOptions): Promise<Finished> {
  return start(program, args, options).finished;
}
