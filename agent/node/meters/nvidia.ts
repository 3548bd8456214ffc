// NVIDIA graphics cards, by the program that comes with their driver. They see the card alone, so they count only where models run on it.
import type { Discovery, MeterHost } from './meter.ts';
import { askOnce, findProgram } from './program.ts';
import { parseNvidiaSmi } from './power-program-grammar.ts';

const EVERY_MS = 100;
const ANSWER_MS = 5000;
/** NVIDIA states ±5 W for most boards; from Ampere on the figure is a mean over a second, on some boards of a quarter of the time (arXiv 2312.02741). */
const GAIN = 0.05;
const TYPICAL_REFRESH_MS = 100;
/** Each reading is a mean over so long. */
const MEAN_MS = 1000;

const query = (program: string, fields: string) => [program, `--query-gpu=${fields}`, '--format=csv,noheader'];

export function discoverNvidia({ programDirs, computesOn }: MeterHost): Discovery {
  const program = findProgram(programDirs, 'nvidia-smi');
  if (program === null) return { meters: [], unusable: [] };
  const skip = (sensor: string, message: string): Discovery => ({ meters: [], unusable: [{ sensor, reason: 'SENSOR_MISSING', message }] });
  const cards = askOnce(query(program, 'index,name,power.draw'), ANSWER_MS)
    .split('\n')
    .flatMap((line) => {
      const [, index, name = '', power = ''] = /^(\d+), (.*), ([^,]*)$/.exec(line.trim()) ?? [];
      return index === undefined ? [] : [{ index, name, power, sensor: `nvidia-smi ${index} ${name}` }];
    });
  const [first, ...others] = cards;
  if (first === undefined) return skip('nvidia-smi', `${program} shows no graphics card. See what it says: nvidia-smi`);
  if (computesOn === 'cpu')
    return skip(
      first.sensor,
      `it measures the graphics card alone (boundary gpu-board), which is not what runs a model here: both runtimes compute on the CPU.`,
    );
  if (others.length > 0) {
    return skip('nvidia-smi', `${cards.length} cards are here and it is not known on which of them a model runs; they are not added up.`);
  }
  if (parseNvidiaSmi(first.power) === null) {
    return skip(first.sensor, `the driver gives ${first.power} for its power, as on Jetsons, whose board has power monitors of its own.`);
  }
  return {
    meters: [
      {
        source: {
          kind: 'lines',
          argv: [...query(program, 'power.draw'), `--id=${first.index}`, `--loop-ms=${EVERY_MS}`],
          endOfBlock: null,
          parser: 'nvidia-smi',
        },
        scope: 'the graphics card with its memory and fans; not the processor that feeds it',
        typicalRefreshMs: TYPICAL_REFRESH_MS,
        info: { sensor: first.sensor, boundary: 'gpu-board', kind: 'power', lsb: 0.01, wrapJoules: null, gain: GAIN, settleMs: MEAN_MS },
      },
    ],
    unusable: [],
  };
}
