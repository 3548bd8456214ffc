// What this machine is, as far as a reader of its numbers has to know; and what the supernet is that runs on it.
import { spawn } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { availableParallelism, cpus } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { threeDigits } from '../report/format.ts';
import type { Checkpoint, ImportRecord } from '../supernet/checkpoint.ts';

/** The agent's program, as a path: the controller starts it as any user would, and imports nothing of it. */
export const AGENT_PROGRAM = join(fileURLToPath(new URL('../../', import.meta.url)), 'agent', 'node', 'cli.ts');
const GOVERNOR = '/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor';

/** CPU, cores, governor; then what `ofa-agent meters` finds. */
export async function machineLines(signal: AbortSignal): Promise<readonly string[]> {
  const cpu = cpus()[0]?.model ?? 'unknown';
  return [
    `CPU ${cpu}, ${availableParallelism()} of ${cpus().length} cores to use, clock ${governor()}, Node ${process.versions.node}.`,
    ...(await metersLines(signal)),
  ];
}

function governor(): string {
  try {
    return `governor ${readFileSync(GOVERNOR, 'utf8').trim()}`;
  } catch {
    return 'not readable here (no cpufreq), so it is neither set nor known';
  }
}

async function metersLines(signal: AbortSignal): Promise<readonly string[]> {
  const child = spawn(process.execPath, [AGENT_PROGRAM, 'meters'], { stdio: ['ignore', 'pipe', 'inherit'], signal });
  let said = '';
  child.stdout.on('data', (chunk: Buffer) => (said += chunk.toString()));
  const code = await new Promise<number | null>((resolve) => {
    child.on('error', () => resolve(null));
    child.on('close', resolve);
  });
  if (code === null || said.trim() === '')
    return [`The energy sensors could not be looked for (ofa-agent meters ended with ${code ?? 'an error'}).`];
  return said.trimEnd().split('\n');
}

/** Where the weights of an imported supernet come from. */
export function importLine({ file, sha256, importer, space }: ImportRecord): string {
  return `Weights of ${file} (sha256 ${sha256.slice(0, 12)}) by ${importer}; space ${space}.`;
}

export function checkpointLines({ space, provenance, imported }: Checkpoint, bytes: number): readonly string[] {
  const size = `${threeDigits(bytes / 1e6)} MB`;
  if (provenance === null && imported !== undefined) return [`Supernet of space ${space.name}, ${size}, imported.`, importLine(imported)];
  if (provenance === null) return [`Supernet of space ${space.name}, ${size}: not trained by this program, of unknown origin.`];
  const { command, seed, data, accuracy, trainingSeconds, cpu, backend } = provenance;
  const exits = (list: (typeof accuracy)['largest']) => list.map((one) => `${(one.accuracy * 100).toFixed(1)} %`).join(', ');
  return [
    `Supernet of space ${space.name}, ${size}, trained on ${data.trainingImages} images of ${data.name} (sha256 ${data.sha256.slice(0, 12)}) with seed ${seed}`,
    `in ${threeDigits(trainingSeconds / 60)} min on ${cpu} (${backend}), by \`${command}\`.`,
    `Right on the test images, by exit: largest subnets ${exits(accuracy.largest)}; smallest ${exits(accuracy.smallest)}.`,
  ];
}
