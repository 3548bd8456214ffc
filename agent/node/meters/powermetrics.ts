// The processor of a Mac, by the program that comes with macOS. Apple calls its figures estimates; it needs root.
import type { Discovery, MeterHost } from './meter.ts';
import { findProgram } from './program.ts';

const EVERY_MS = 100;
/** Its manual warns that the figures may be inaccurate and are not for comparing devices. */
const GAIN = 0.1;
const SENSOR = 'powermetrics';

export function discoverPowermetrics({ programDirs }: MeterHost, isRoot = process.getuid?.() === 0): Discovery {
  const program = findProgram(programDirs, 'powermetrics');
  if (program === null) return { meters: [], unusable: [] };
  if (!isRoot) {
    const message = `${program} answers root alone. Start the agent with sudo.`;
    return { meters: [], unusable: [{ sensor: SENSOR, reason: 'SENSOR_MISSING', message }] };
  }
  return {
    meters: [
      {
        // line by line at once (-b 1): the time of a reading is that of its arrival
        source: {
          kind: 'lines',
          argv: [program, '--samplers', 'cpu_power', '-i', String(EVERY_MS), '-b', '1'],
          endOfBlock: null,
          parser: 'powermetrics',
        },
        scope:
          'the chip as Apple models it: processor, graphics and neural engine; not memory, screen, disk or power supply; good for one Mac, not for comparing Macs',
        typicalRefreshMs: EVERY_MS,
        info: { sensor: SENSOR, boundary: 'package', kind: 'power', lsb: 1e-3, wrapJoules: null, gain: GAIN },
      },
    ],
    unusable: [],
  };
}
