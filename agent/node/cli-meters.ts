// `ofa-agent meters`: what energy this device can measure, and why not the rest.
import { join } from 'node:path';
import { discoverMeters } from './meters/discover.ts';
import { recordMeter } from './meters/recorder.ts';

const WATCH_MS = 300;

/** Watches each usable sensor for a moment and says what it shows. Exit code 0, also where there is none. */
export async function runMeters(sysfsRoot: string): Promise<number> {
  const { meters, unusable } = discoverMeters(sysfsRoot);
  const lines: string[] = [];
  for (const meter of meters) {
    const recorder = await recordMeter(meter);
    await new Promise((resolve) => setTimeout(resolve, WATCH_MS));
    const { values } = recorder.trace();
    await recorder.stop();
    const { info } = meter;
    const refresh =
      recorder.refreshMs === null ? 'did not change while it was watched: stuck?' : `changes every ${recorder.refreshMs.toPrecision(3)} ms`;
    const unit = info.kind === 'counter' ? 'J' : 'W';
    lines.push(
      `usable    ${info.sensor}: boundary ${info.boundary}, ${info.kind}, now ${values.at(-1)?.toPrecision(6) ?? '-'} ${unit}, ${refresh} (${meter.paths.join(', ')})`,
    );
  }
  for (const { sensor, message } of unusable) lines.push(`not used  ${sensor}: ${message}`);
  if (lines.length === 0) {
    const places = [join(sysfsRoot, 'class/powercap'), join(sysfsRoot, 'class/hwmon')].join(' and ');
    lines.push(
      `No energy sensor: ${places} show none, as on most virtual machines and in containers. Latency can be measured; joules are null with the reason SENSOR_MISSING.`,
    );
  }
  process.stdout.write(`${lines.join('\n')}\n`);
  return 0;
}
