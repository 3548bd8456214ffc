// A measurement for people.
import { latencyOf, type Interval, type Measurement, type Quantity } from '@ofa-fleet/shared/measurement.ts';
import { mean, meanHalfWidth, median, standardDeviation } from '@ofa-fleet/shared/statistics.ts';
import { milliseconds } from './format.ts';
import type { Profile } from './profile.ts';

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
export function describeMeasurement(path: string, m: Measurement): string {
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
    ...(m.corrected === null
      ? []
      : [
          [
            'corrected',
            `${interval(m.corrected, milliseconds)}: at the speed of the device's baseline, from which the reference workload moved`,
          ],
        ]),
    ...(m.minuteMediansMs === null ? [] : [['minutes', m.minuteMediansMs.map((ms) => milliseconds(ms)).join(', ')]]),
    ['spread', `MAD ${orDash(m.madMs)}, p90 ${orDash(m.p90Ms)}, p99 ${orDash(m.p99Ms)}, max ${orDash(m.maxMs)}`],
    ['before', `load ${orDash(m.loadMs)}, first run ${orDash(m.firstRunMs)}, ${m.warmUpRuns ?? 0} warm-up runs`],
    ['memory', m.peakMemoryBytes === null ? '-' : `${(m.peakMemoryBytes / 2 ** 20).toFixed(0)} MiB at most, runtime included`],
    ['reference', referenceText(m.reference)],
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

function referenceText(reference: Measurement['reference']): string {
  if (reference === null) return 'not run';
  const moved = reference.moved === null ? '' : `, moved by ${(100 * reference.moved).toFixed(1)} %`;
  return `${reference.blocks.map(({ medianMs }) => milliseconds(medianMs)).join(', ')} before, between and after${moved}`;
}

/** Several processes of one model: the figure that stands for the model, not for one layout of its memory. */
export interface Processes {
  /** Median of the processes' medians, ms. */
  readonly medianMs: number;
  /** Student's t over the logarithms of the processes' medians; null below two. */
  readonly ci: Interval | null;
  /** Standard deviation of a process's median, relative. */
  readonly relativeSd: number | null;
}

export function overProcesses(measurements: readonly Measurement[], level: number): Processes {
  const logs = measurements.flatMap((m) => (latencyOf(m).value === null ? [] : [Math.log(latencyOf(m).value as number)]));
  const medianMs = Math.exp(median(logs));
  const n = logs.length;
  if (n < 2) return { medianMs, ci: null, relativeSd: null };
  const centre = mean(logs);
  const half = meanHalfWidth(logs, level);
  return { medianMs, ci: { lo: Math.exp(centre - half), hi: Math.exp(centre + half), level, method: `Student's t over ${n} processes` }, relativeSd: standardDeviation(logs) }; // prettier-ignore
}

export function describeProcesses({ medianMs, ci, relativeSd }: Processes, count: number): string {
  const range = ci === null ? '' : `  [${milliseconds(ci.lo)}, ${milliseconds(ci.hi)}] at ${100 * ci.level} %`;
  const spread =
    relativeSd === null ? '' : `; one process differs from another by ${(100 * relativeSd).toPrecision(2)} % (standard deviation)`;
  return `${'processes'.padEnd(13)}${milliseconds(medianMs)}${range}, over ${count} processes${spread}`;
}

/** The slowest operators, and what the rest takes. */
export function describeProfile({ operators, runMs, runs }: Profile, most = 12): string {
  const shown = operators.slice(0, most);
  const rest = operators.slice(most).reduce((sum, { ms }) => sum + ms, 0);
  const share = (ms: number) => `${((100 * ms) / runMs).toFixed(1)} %`.padStart(7);
  const lines = shown.map(({ node, operator, ms }) => `  ${milliseconds(ms).padStart(10)} ${share(ms)}  ${operator}  ${node}`);
  if (operators.length > most) lines.push(`  ${milliseconds(rest).padStart(10)} ${share(rest)}  ${operators.length - most} more`);
  return `operators, mean of ${runs} runs of ${milliseconds(runMs)} with the profiler on:\n${lines.join('\n')}`;
}
