// `ofa-agent measure`: one model, here, now.
import { writeFileSync } from 'node:fs';
import { DEFAULT_PLAN, type Measurement, type Plan, type Quantity } from '@ofa-fleet/shared/measurement.ts';
import type { Outcome } from '@ofa-fleet/shared/outcome.ts';
import { acquireHostLock } from '@ofa-fleet/shared/node/host-lock.ts';
import { createMeasurer } from './measure-process.ts';
import type { RuntimeName } from './runtime/runtimes.ts';

export interface MeasureOptions {
  readonly runtime: RuntimeName;
  readonly threads: number;
  readonly precision: number;
  /** Relative half-width asked of energy; null: none asked. */
  readonly energy: number | null;
  readonly capMs: number;
  readonly json: boolean;
  readonly samples: string | null;
  readonly hostLockPath: string;
}

/** A wait for the host lock that is not worth a word. */
const QUIET_WAIT_MS = 1000;

const UNITS = { ms: [1, 'ms'], us: [1e3, 'µs'] } as const;

function milliseconds(value: number): string {
  const [factor, unit] = value < 0.1 ? UNITS.us : UNITS.ms;
  return `${(value * factor).toPrecision(4)} ${unit}`;
}

function interval({ value, ci }: Quantity, show: (value: number) => string): string {
  if (value === null) return '-';
  if (ci === null) return `${show(value)} (too few runs for an interval)`;
  const half = (ci.hi - ci.lo) / 2;
  return `${show(value)}  [${show(ci.lo)}, ${show(ci.hi)}]  ±${((100 * half) / Math.abs(value)).toFixed(2)} % at ${100 * ci.level} %`;
}

const orDash = (value: number | null) => (value === null ? '-' : milliseconds(value));

function joules(value: number): string {
  return Math.abs(value) < 1 ? `${(value * 1000).toPrecision(4)} mJ` : `${value.toPrecision(4)} J`;
}

/** The measurement for people: the number with its interval, whether to believe it and why not, and how it came about. */
function describeMeasurement(path: string, m: Measurement): string {
  const { runtime, conditions } = m.provenance;
  const energy =
    m.energy.net.value === null
      ? [['energy', m.energy.net.message ?? '-']]
      : [
          ['energy net', interval(m.energy.net, joules) + (m.energy.net.message === null ? '' : ' (suspect, see the notes)')],
          ['energy gross', interval(m.energy.gross, joules)],
          ['sensor', `${m.energy.sensor ?? '-'}, boundary ${m.energy.boundary ?? '-'}, ${m.energy.inferences ?? 0} inferences`],
        ];
  const spinning = runtime.spinning === null ? '' : `, spinning ${runtime.spinning ? 'on' : 'off'}`;
  const foreign = conditions.foreignCpuShare === null ? 'unknown' : `${(100 * conditions.foreignCpuShare).toFixed(1)} %`;
  const rows = [
    ['model', `${path} (sha256 ${m.modelSha256.slice(0, 12)}), input ${m.inputShape.join('×')} float32`],
    ['latency', `${interval(m.latency, milliseconds)}, median of ${m.latency.n} runs (worth ${m.latency.nEff.toFixed(0)})`],
    ['spread', `MAD ${orDash(m.madMs)}, p90 ${orDash(m.p90Ms)}, p99 ${orDash(m.p99Ms)}, max ${orDash(m.maxMs)}`],
    ['before', `load ${orDash(m.loadMs)}, first run ${orDash(m.firstRunMs)}, ${m.warmUpRuns ?? 0} warm-up runs`],
    ['binding', `${orDash(m.bindingMs)} is what a model that does nothing takes here (included above)`],
    ...energy,
    ['verdict', m.verdict.state],
    ...m.verdict.findings.map((finding) => [
      '',
      `${finding.effect === 'information' ? 'note' : finding.effect}: ${finding.reason}: ${finding.message}`,
    ]),
    [
      'runtime',
      `${runtime.name} ${runtime.version}, ${runtime.providerObtained}, ${runtime.intraOpThreads} thread(s)${spinning}, optimisation ${runtime.graphOptimisation}`,
    ],
    [
      'machine',
      `${m.provenance.cpuModel}, ${m.provenance.onlineCores} cores, governor ${conditions.governor ?? 'unknown'}, load of others ${foreign}`,
    ],
    ['protocol', m.protocolId],
  ];
  return rows.map(([name = '', text = '']) => `${name.padEnd(13)}${text}`).join('\n');
}

/** Exit code: 0 measured (whatever the verdict), 1 not. */
export async function runMeasure(path: string, options: MeasureOptions, signal: AbortSignal): Promise<number> {
  const plan: Plan = {
    ...DEFAULT_PLAN,
    relativeHalfWidth: options.precision,
    intraOpThreads: options.threads,
    capMs: options.capMs,
    energyRelativeHalfWidth: options.energy,
  };
  let outcome: Outcome<Measurement>;
  const told = setTimeout(() => {
    process.stderr.write(`Waiting for another measurement on this machine to end (lock ${options.hostLockPath}); Ctrl-C stops.\n`);
  }, QUIET_WAIT_MS);
  const lock = await acquireHostLock({ path: options.hostLockPath, signal }).finally(() => clearTimeout(told));
  try {
    outcome = await createMeasurer({ runtime: options.runtime }).measure({ kind: 'file', path }, plan, signal);
  } finally {
    lock.release();
  }
  if (!outcome.ok) {
    if (options.json) process.stdout.write(`${JSON.stringify(outcome)}\n`);
    process.stderr.write(`${outcome.message}\n`);
    return 1;
  }
  const measurement = outcome.value;
  if (options.samples !== null) {
    const lines = ['run,ms', ...measurement.samplesMs.map((value, i) => `${i + 1},${value}`)];
    try {
      writeFileSync(options.samples, `${lines.join('\n')}\n`);
    } catch (error) {
      const { code, message } = error as NodeJS.ErrnoException;
      const why = code === 'ENOSPC' ? 'the disk is full: free some space' : message;
      process.stderr.write(`Cannot write the samples to ${options.samples}: ${why}. Name another file.\n`);
      process.stdout.write(`${options.json ? JSON.stringify(measurement) : describeMeasurement(path, measurement)}\n`);
      return 1;
    }
  }
  process.stdout.write(`${options.json ? JSON.stringify(measurement) : describeMeasurement(path, measurement)}\n`);
  return 0;
}
