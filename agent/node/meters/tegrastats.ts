// NVIDIA's `tegrastats`, for Jetsons whose power monitors cannot be read as files (in a container, say): the same chips by another way.
import type { Discovery, MeterHost } from './meter.ts';
import { discoverIna3221 } from './ina3221.ts';
import { totalOf } from './jetson-rails.ts';
import { askOnce, findProgram } from './program.ts';
import { railsOf } from './tegrastats-line.ts';

const EVERY_MS = 100;
/** Long enough for a line or two. */
const LOOK_MS = 600;
/** 40 µV of shunt voltage at 5 mΩ and 5 V: the chips' own step, coarser than the milliwatts shown. */
const LSB_WATTS = 0.04;
const GAIN = 0.05;

export function discoverTegrastats(host: MeterHost): Discovery {
  const program = findProgram(host.programDirs, 'tegrastats');
  if (program === null) return { meters: [], unusable: [] };
  const missing = (message: string): Discovery => ({
    meters: [],
    unusable: [{ sensor: 'tegrastats', reason: 'SENSOR_MISSING', message }],
  });
  const [file] = discoverIna3221(host).meters;
  if (file !== undefined) return missing(`it shows the same monitors as ${file.info.sensor}, which is read as files: one sensor, not two.`);
  const argv = [program, '--interval', String(EVERY_MS)];
  const lines = askOnce(argv, LOOK_MS).split('\n');
  const names = lines.map((line) => [...railsOf(line).keys()]);
  const total = names.map(totalOf).find((one) => one !== null) ?? null;
  if (total === null) {
    const seen = [...new Set(names.flat())];
    return missing(
      seen.length === 0
        ? `it shows no power rails to this user. Start the agent as root (sudo), or let it read the files of the power monitors (bus/i2c/drivers/ina3221).`
        : `it is not known which of its rails (${seen.join(', ')}) contain which, so they are not added up. Put a smart plug before the board (--plug).`,
    );
  }
  return {
    meters: [
      {
        source: { kind: 'lines', argv, endOfBlock: null, parser: 'tegrastats' },
        scope: total.scope,
        typicalRefreshMs: EVERY_MS,
        info: {
          sensor: `tegrastats ${total.rails.join(' + ')}`,
          boundary: 'module',
          kind: 'power',
          lsb: LSB_WATTS,
          wrapJoules: null,
          gain: GAIN,
        },
      },
    ],
    unusable: [],
  };
}
