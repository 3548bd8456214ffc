// Programs that tell a sensor's reading: where they lie, and what they answer once, to learn at the start whether they can.
import { spawnSync } from 'node:child_process';
import { accessSync, constants } from 'node:fs';
import { join } from 'node:path';

/** Path of an executable file of that name in the first folder that has one; null where none has. */
export function findProgram(dirs: readonly string[], name: string): string | null {
  for (const dir of dirs) {
    const path = join(dir, name);
    try {
      accessSync(path, constants.X_OK);
      return path;
    } catch {
      continue;
    }
  }
  return null;
}

/** All that a program says within `limitMs`; one that goes on is ended then. Empty where it cannot be started. */
export function askOnce([program = '', ...args]: readonly string[], limitMs: number): string {
  const { stdout, stderr } = spawnSync(program, args, {
    timeout: limitMs,
    killSignal: 'SIGKILL',
    encoding: 'utf8',
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  // null, whatever the types say, where the program could not be started
  return [stdout, stderr].filter((text: string | null) => text !== null && text !== '').join('\n');
}
