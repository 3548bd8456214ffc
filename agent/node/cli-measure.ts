// `ofa-agent measure`: one model, here, now.
import { writeFileSync } from 'node:fs';
import { DEFAULT_PLAN, type Measurement, type Plan } from '@ofa-fleet/shared/measurement.ts';
import { failed, ok, type Failure, type Outcome } from '@ofa-fleet/shared/outcome.ts';
import { describeMeasurement, describeProcesses, describeProfile, overProcesses } from './describe-measurement.ts';
import { HOST_ROOTS } from './host-files.ts';
import { calibrationsFor } from './calibration-file.ts';
import { createMeasurer, OVERHEAD_MS, runInProcess } from './measure-process.ts';
import type { PlugAddress } from './meters/meter.ts';
import { profileSvg, type Profile } from './profile.ts';
import type { RuntimeName } from './runtime/runtimes.ts';
import { takeTurn } from './turn.ts';

export interface MeasureOptions {
  readonly runtime: RuntimeName;
  readonly mode: Plan['mode'];
  readonly threads: number;
  readonly precision: number;
  /** Relative half-width asked of energy; null: none asked. */
  readonly energyPrecision: number | null;
  readonly processes: number;
  readonly capMs: number;
  readonly json: boolean;
  /** File for the time of each run, as CSV. */
  readonly samples: string | null;
  /** File for the chart of operators; `-`: the table alone; null: no profile. */
  readonly profile: string | null;
  readonly plugs: readonly PlugAddress[];
  /** Where `ofa-agent calibrate` has kept what it found. */
  readonly stateDir: string;
  readonly hostLockPath: string;
}

interface Measured {
  /** One of each process. */
  readonly measurements: readonly Measurement[];
  readonly profile: Profile | null;
}

/** Exit code: 0 measured (whatever the verdict), 1 not. */
export async function runMeasure(path: string, options: MeasureOptions, signal: AbortSignal): Promise<number> {
  const turn = await takeTurn(options.hostLockPath, signal);
  let outcome: Outcome<Measured>;
  try {
    outcome = await measureAll(path, options, signal);
  } finally {
    turn.release();
  }
  if (!outcome.ok) {
    if (options.json) process.stdout.write(`${JSON.stringify(outcome)}\n`);
    process.stderr.write(`${outcome.message}\n`);
    return 1;
  }
  const { measurements, profile } = outcome.value;
  process.stdout.write(options.json ? `${JSON.stringify(asJson(outcome.value))}\n` : describe(path, outcome.value, options));
  const refused = [
    options.samples === null ? null : keep(options.samples, csvOf(measurements)),
    profile === null || options.profile === null || options.profile === '-' ? null : keep(options.profile, profileSvg(profile, path)),
  ].filter((failure) => failure !== null);
  for (const { message } of refused) process.stderr.write(`${message}\n`);
  return refused.length === 0 ? 0 : 1;
}

const tell = (line: string) => void process.stderr.write(`${line}\n`);

async function measureAll(path: string, options: MeasureOptions, signal: AbortSignal): Promise<Outcome<Measured>> {
  const { runtime, threads, plugs } = options;
  const source = { kind: 'file', path } as const;
  const plan: Plan = {
    ...DEFAULT_PLAN,
    mode: options.mode,
    relativeHalfWidth: options.precision,
    intraOpThreads: threads,
    capMs: options.capMs,
    energyRelativeHalfWidth: options.energyPrecision,
  };
  const measurer = createMeasurer({ runtime, plugs, calibrations: calibrationsFor(plugs, options.stateDir, tell) });
  const measurements: Measurement[] = [];
  for (let n = 0; n < options.processes; n++) {
    // joules are the device's, not a memory layout's: once is enough
    const measured = await measurer.measure(source, n === 0 ? plan : { ...plan, energyRelativeHalfWidth: null }, signal);
    if (!measured.ok) return measured;
    measurements.push(measured.value);
  }
  if (options.profile === null) return ok({ measurements, profile: null });
  const profile = await runInProcess<Profile>({ kind: 'profile', source, runtime, roots: HOST_ROOTS, threads }, OVERHEAD_MS, signal);
  return profile.ok ? ok({ measurements, profile: profile.value }) : profile;
}

/** The record of one process as it is; several with what they come to. */
function asJson({ measurements, profile }: Measured): unknown {
  const [only] = measurements;
  const record = measurements.length === 1 ? only : { processes: measurements, ...overProcesses(measurements, DEFAULT_PLAN.level) };
  return profile === null ? record : { ...record, profile };
}

function describe(path: string, { measurements, profile }: Measured, { processes }: MeasureOptions): string {
  const parts = measurements.map((measurement) => describeMeasurement(path, measurement));
  if (processes > 1) parts.push(describeProcesses(overProcesses(measurements, DEFAULT_PLAN.level), processes));
  if (profile !== null) parts.push(describeProfile(profile));
  return `${parts.join('\n\n')}\n`;
}

function csvOf(measurements: readonly Measurement[]): string {
  const rows = measurements.flatMap(({ samplesMs }, process) =>
    samplesMs.map((value, i) => (measurements.length === 1 ? `${i + 1},${value}` : `${process + 1},${i + 1},${value}`)),
  );
  return [measurements.length === 1 ? 'run,ms' : 'process,run,ms', ...rows, ''].join('\n');
}

function keep(file: string, text: string): Failure | null {
  try {
    writeFileSync(file, text);
    return null;
  } catch (error) {
    const { code, message } = error as NodeJS.ErrnoException;
    const why = code === 'ENOSPC' ? 'the disk is full: free some space' : message;
    return failed(code === 'ENOSPC' ? 'LOW_DISK' : 'INVALID_INPUT', `Cannot write ${file}: ${why}. Name another file.`);
  }
}
