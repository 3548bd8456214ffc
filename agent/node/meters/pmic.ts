// The power management chip of a Raspberry Pi 5, which measures its twelve output rails; earlier boards have none. No file shows it: the
// firmware answers a program, 20 to 25 ms each time.
import type { Discovery, MeterHost } from './meter.ts';
import { parsePmicAdc } from './pmic-adc.ts';
import { askOnce, findProgram } from './program.ts';

/** It could answer 40 times a second, but each answer is work for the board that is measured. */
const EVERY_MS = 100;
const ANSWER_MS = 2000;
/** One step of a current (1/1024 A) at 3.3 V; the rails differ. */
const LSB_WATTS = 0.003;
/** The chip's is not documented. */
const GAIN = 0.05;

export function discoverPmic({ programDirs }: MeterHost): Discovery {
  const program = findProgram(programDirs, 'vcgencmd');
  if (program === null) return { meters: [], unusable: [] };
  const argv = [program, 'pmic_read_adc'];
  const answer = askOnce(argv, ANSWER_MS).trim();
  if (parsePmicAdc(answer) === null) {
    return { meters: [], unusable: [{ sensor: 'pmic', reason: 'SENSOR_MISSING', message: explain(program, answer) }] };
  }
  return {
    meters: [
      {
        source: { kind: 'command', argv, everyMs: EVERY_MS, parser: 'pmic' },
        scope:
          'the board: what its power chip gives out to processor, memory and peripherals; not the 5 V loads (USB, HAT, NVMe) and not the losses of the chip',
        typicalRefreshMs: EVERY_MS,
        info: { sensor: 'pmic rails', boundary: 'board', kind: 'power', lsb: LSB_WATTS, wrapJoules: null, gain: GAIN },
      },
    ],
    unusable: [],
  };
}

function explain(program: string, answer: string): string {
  const [said = ''] = answer.split('\n');
  if (/not registered/i.test(answer)) {
    return `this Raspberry Pi has no power chip that measures (only the Pi 5 has): ${said}. Put a smart plug before it (--plug).`;
  }
  if (/vchi|vcio|permission|open device/i.test(answer)) {
    return `${program} may not ask the firmware: ${said}. Allow it: sudo usermod -aG video $USER, then log in again.`;
  }
  return `${program} pmic_read_adc gave no pairs of volts and amperes${said === '' ? '' : `: ${said}`}. Update the firmware (sudo rpi-update) or put a smart plug before the board (--plug).`;
}
