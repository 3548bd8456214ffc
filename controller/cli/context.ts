// What every command gets, and how every command ends: a signal for Ctrl-C, two streams, an exit code.
import type { Failure } from '@ofa-fleet/shared/outcome.ts';

export const EXIT = { done: 0, failed: 1, usage: 2 } as const;

export interface Context {
  /** Aborts on Ctrl-C and on SIGTERM: end what was started, keep what was measured. */
  readonly signal: AbortSignal;
  /** One line for the reader. */
  readonly print: (line: string) => void;
  /** One line about what went wrong, apart from the output. */
  readonly complain: (line: string) => void;
}

/** Says the failure in its own sentence; wrong use is told apart from failure by the exit code. */
export function fail(context: Context, failure: Failure): number {
  context.complain(failure.message);
  return EXIT.failed;
}

/** Everything that a command started must be over so soon after Ctrl-C; then the process ends as it stands. */
const END_LIMIT_MS = 4500;

/** One Ctrl-C arrives twice: from the terminal, and passed on by the launcher. */
const SAME_KEY_MS = 300;

/** Runs an action with a signal that Ctrl-C aborts. A second Ctrl-C ends at once. Returns the exit code. */
export async function withContext(action: (context: Context) => Promise<number>): Promise<number> {
  const stop = new AbortController();
  let limit: NodeJS.Timeout | null = null;
  let firstAt = 0;
  const onSignal = (name: NodeJS.Signals) => {
    const code = name === 'SIGINT' ? 130 : 143;
    if (stop.signal.aborted) {
      if (performance.now() - firstAt > SAME_KEY_MS) process.exit(code);
      return;
    }
    firstAt = performance.now();
    stop.abort();
    limit = setTimeout(() => process.exit(code), END_LIMIT_MS).unref();
  };
  const signals: readonly NodeJS.Signals[] = ['SIGINT', 'SIGTERM', 'SIGHUP'];
  for (const signal of signals) process.on(signal, onSignal);
  try {
    return await action({
      signal: stop.signal,
      print: (line) => process.stdout.write(`${line}\n`),
      complain: (line) => process.stderr.write(`ofa-fleet: ${line}\n`),
    });
  } finally {
    for (const signal of signals) process.off(signal, onSignal);
    if (limit !== null) clearTimeout(limit);
  }
}
