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
  for (const [rank, meter] of meters.entries()) lines.push(...(await describe(meter, rank, meters)));
  for (const { sensor, message } of unusable) lines.push(`not used  ${sensor}: ${message}`);
  if (lines.length === 0)
    lines.push(`${explainNoMeter(host, discovery)} Latency can be measured; joules are null with the reason SENSOR_MISSING.`);
  process.stdout.write(`${lines.join('\n')}\n`);
  return 0;
}

async function describe(meter: Meter, rank: number, meters: readonly Meter[]): Promise<string[]> {
  const { info, scope, source } = meter;
  const recorder = await recordMeter(meter);
  await new Promise((resolve) => setTimeout(resolve, WATCH_MS));
  const { values } = recorder.trace();
  await recorder.stop();
  const unit = info.kind === 'counter' ? 'J' : 'W';
  const refresh =
    recorder.refreshMs === null
      ? 'did not change while it was watched: stuck?'
      : `changes every ${recorder.refreshMs.toPrecision(3)} ms, so a figure needs at least ${(leastLoadMs(recorder.refreshMs) / 1000).toPrecision(2)} s of load`;
  const others = meters.filter((other) => other !== meter && overlapping(info.boundary, other.info.boundary));
  return [
    `usable    ${info.sensor}: boundary ${info.boundary}, ${info.kind}, now ${values.at(-1)?.toPrecision(6) ?? '-'} ${unit}, ${refresh} (${placeOf(source)})`,
    `          ${scope}${rank === 0 ? '; taken, as the most direct one' : ''}`,
    ...(others.length === 0
      ? []
      : [`          measures a part of the same as ${others.map((other) => other.info.sensor).join(', ')}: never added up`]),
  ];
}
