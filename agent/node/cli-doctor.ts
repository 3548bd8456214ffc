// `ofa-agent doctor`: what makes numbers on this machine unreliable, and the command that mends each. Changes nothing without --apply, and
// then only while it runs.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { constants } from 'node:os';
import { systemClock } from '@ofa-fleet/shared/clock.ts';
import { diagnose } from '../doctor.ts';
import type { DoctorFinding } from '../doctor-facts.ts';
import { readDoctorFacts } from './doctor-facts.ts';
import { HOST_ROOTS } from './host-files.ts';
import { meterHost } from './meters/discover.ts';
import { loadRuntime, type RuntimeName } from './runtime/runtimes.ts';
import { probeSpinning } from './spin-probe.ts';
import { holdSteady, journalPlace, planChanges, recoverSettings, type Held } from './steady-settings.ts';

export interface DoctorOptions {
  readonly sysfsRoot: string;
  /** Null: this machine's own, or none where another machine's sysfs is read. */
  readonly procRoot: string | null;
  readonly stateDir: string;
  readonly runtime: RuntimeName;
  readonly threads: number;
  readonly json: boolean;
  readonly apply: boolean;
  /** What to run while the settings are held; empty: until a signal or the end of the parent. */
  readonly command: readonly string[];
}

const WATCH_MS = 1000;
const PARENT_POLL_MS = 500;
const NO_PROC = '/nonexistent';

async function examine(options: DoctorOptions): Promise<readonly DoctorFinding[]> {
  const isOwn = options.sysfsRoot === HOST_ROOTS.sysfsRoot;
  const runtime = isOwn ? await loadRuntime(options.runtime) : null;
  const facts = await readDoctorFacts({
    sysfsRoot: options.sysfsRoot,
    procRoot: options.procRoot ?? (isOwn ? HOST_ROOTS.procRoot : NO_PROC),
    programDirs: meterHost(options.sysfsRoot).programDirs,
    threads: options.threads,
    idleCores:
      runtime?.ok === true && runtime.value.identity.spinning !== null ? await probeSpinning(runtime.value, options.threads) : null,
    ownPid: isOwn && options.procRoot === null ? process.pid : null,
    watch: () => systemClock.sleep(WATCH_MS),
  });
  const missing =
    runtime === null || runtime.ok ? [] : [{ topic: 'runtime', state: 'doubtful', message: runtime.message, command: null } as const];
  return [...diagnose(facts), ...missing];
}

function describe(findings: readonly DoctorFinding[], appliable: number): string {
  const lines = findings.flatMap(({ topic, state, message, command }) => [
    `${state.padEnd(10)}${topic.padEnd(14)}${message}`,
    ...(command === null ? [] : [`${' '.repeat(24)}-> ${command}`]),
  ]);
  const doubts = findings.filter(({ state }) => state === 'doubtful').length;
  const sum =
    doubts === 0
      ? 'Nothing was found that makes numbers here unreliable.'
      : `${doubts} of ${findings.length} make numbers here unreliable.`;
  const apply =
    appliable === 0
      ? ''
      : ` \`ofa-agent doctor --apply\` (as root) sets ${appliable} setting(s) steady while it runs, and gives them back.`;
  return [...lines, '', sum + apply].join('\n');
}

/** Exit code of the command, as a shell counts it. */
async function runCommand([program = '', ...args]: readonly string[], signal: AbortSignal): Promise<number> {
  const child = spawn(program, args, { stdio: 'inherit' });
  const stop = () => child.kill('SIGTERM');
  signal.addEventListener('abort', stop, { once: true });
  try {
    const [code, killedBy] = (await once(child, 'exit')) as [number | null, NodeJS.Signals | null];
    return code ?? 128 + constants.signals[killedBy ?? 'SIGKILL'];
  } catch (error) {
    process.stderr.write(`Cannot run ${program}: ${(error as Error).message}\n`);
    return 1;
  } finally {
    signal.removeEventListener('abort', stop);
  }
}

/** Until a signal, or until the program that started this one is gone: nobody would be left to end it. */
async function untilStopped(signal: AbortSignal): Promise<void> {
  const parent = process.ppid;
  while (!signal.aborted && process.ppid === parent) {
    await systemClock.sleep(PARENT_POLL_MS, signal);
  }
}

function tellHeld({ done, refused }: Held, isEndless: boolean): void {
  for (const { file, before, set } of done) process.stderr.write(`set       ${file}: ${before} -> ${set}\n`);
  for (const { change, why } of refused) process.stderr.write(`not set   ${change.file}: ${why}\n`);
  process.stderr.write(isEndless ? 'Held until Ctrl-C.\n' : '');
}

/** Exit code: 0 said (whatever was found); with --apply 1 where nothing could be applied, else the command's. */
export async function runDoctor(options: DoctorOptions, signal: AbortSignal): Promise<number> {
  const place = journalPlace(options.stateDir, options.sysfsRoot);
  for (const line of await recoverSettings(place)) process.stderr.write(`${line}\n`);
  const findings = await examine(options);
  const appliable = planChanges(options.sysfsRoot).length;
  process.stdout.write(`${options.json ? JSON.stringify({ findings, appliable }) : describe(findings, options.apply ? 0 : appliable)}\n`);
  if (!options.apply) return 0;
  if (signal.aborted) return 1;
  const held = await holdSteady(place);
  if (!held.ok) {
    process.stderr.write(`${held.message}\n`);
    return 1;
  }
  try {
    tellHeld(held.value, options.command.length === 0);
    if (options.command.length > 0) return await runCommand(options.command, signal);
    await untilStopped(signal);
    return 0;
  } finally {
    for (const line of held.value.restore()) process.stderr.write(`${line}\n`);
  }
}
