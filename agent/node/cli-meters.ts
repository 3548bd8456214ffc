// `ofa-agent meters`: what energy this device can measure, how fast each sensor is, and why not the rest.
import { overlapping } from '../boundary.ts';
import { leastLoadMs } from '../energy-run.ts';
import { discoverMeters, explainNoMeter } from './meters/discover.ts';
import { placeOf, type Meter, type MeterHost } from './meters/meter.ts';
import { recordMeter } from './meters/recorder.ts';

const WATCH_MS = 300;

/** Watches each usable sensor for a moment and says what it shows. Exit code 0, also where there is none. */
export async function runMeters(host: MeterHost): Promise<number> {
  const discovery = discoverMeters(host);
  const { meters, unusable } = discovery;
  const lines: string[] = [];
  let taken = false;
  for (const meter of meters) {
    const seen = await watch(meter);
    lines.push(...describe(meter, seen, meters, !taken && seen.refreshMs !== null));
    taken ||= seen.refreshMs !== null;
  }
  for (const { sensor, message } of unusable) lines.push(`not used  ${sensor}: ${message}`);
  if (lines.length === 0)
    lines.push(`${explainNoMeter(host, discovery)} Latency can be measured; joules are null with the reason SENSOR_MISSING.`);
  process.stdout.write(`${lines.join('\n')}\n`);
  return 0;
}

interface Seen {
  readonly refreshMs: number | null;
  /** Null: it gave no reading at all. */
  readonly last: number | null;
}

async function watch(meter: Meter): Promise<Seen> {
  const recorder = await recordMeter(meter);
  await new Promise((resolve) => setTimeout(resolve, WATCH_MS));
  const { values } = recorder.trace();
  await recorder.stop();
  return { refreshMs: recorder.refreshMs, last: values.at(-1) ?? null };
}

function explainStill({ last }: Seen): string {
  return last === null
    ? 'gave no reading while it was watched: switched off, out of reach, or under another name?'
    : 'did not change while it was watched: stuck?';
}

function describe({ info, scope, source }: Meter, seen: Seen, meters: readonly Meter[], isTaken: boolean): string[] {
  const unit = info.kind === 'counter' ? 'J' : 'W';
  const refresh =
    seen.refreshMs === null
      ? explainStill(seen)
      : `changes every ${seen.refreshMs.toPrecision(3)} ms, so a figure needs at least ${(leastLoadMs(seen.refreshMs) / 1000).toPrecision(2)} s of load`;
  const others = meters.filter((other) => other.info !== info && overlapping(info.boundary, other.info.boundary));
  return [
    `${seen.last === null ? 'silent' : 'usable'}    ${info.sensor}: boundary ${info.boundary}, ${info.kind}, now ${seen.last?.toPrecision(6) ?? '-'} ${unit}, ${refresh} (${placeOf(source)})`,
    `          ${scope}${isTaken ? '; taken, as the most direct one that moves' : ''}`,
    ...(others.length === 0
      ? []
      : [`          measures a part of the same as ${others.map((other) => other.info.sensor).join(', ')}: never added up`]),
  ];
}
