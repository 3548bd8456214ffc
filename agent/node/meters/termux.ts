// The battery of an Android phone by Termux, where the kernel's files are hidden from apps (since Android 12).
import { BATTERY_SCOPE, onCharger } from './battery.ts';
import { readTermux } from './battery-grammar.ts';
import type { Discovery, MeterHost } from './meter.ts';
import { askOnce, findProgram } from './program.ts';

/** Each answer is a process and a call into an app. */
const EVERY_MS = 1000;
/** It never answers where the app Termux:API is not installed. */
const ANSWER_MS = 5000;
const GAIN = 0.05;
const SENSOR = 'termux battery';

export function discoverTermux({ programDirs }: MeterHost): Discovery {
  const program = findProgram(programDirs, 'termux-battery-status');
  if (program === null) return { meters: [], unusable: [] };
  const refused = (reason: 'SENSOR_MISSING' | 'ON_CHARGER', message: string): Discovery => ({
    meters: [],
    unusable: [{ sensor: SENSOR, reason, message }],
  });
  const answer = askOnce([program], ANSWER_MS);
  if (answer.trim() === '') {
    return refused('SENSOR_MISSING', `${program} did not answer within ${ANSWER_MS / 1000} s. Install the app Termux:API and allow it.`);
  }
  const state = readTermux(answer);
  if (state.kind === 'on-charger') return refused('ON_CHARGER', onCharger(state.status).message);
  if (state.kind === 'unknown') {
    return refused('SENSOR_MISSING', `${state.why} (${program}). Measure with a smart plug before the phone's charger (--plug).`);
  }
  return {
    meters: [
      {
        source: { kind: 'command', argv: [program], everyMs: EVERY_MS, parser: 'termux-battery' },
        scope: BATTERY_SCOPE,
        typicalRefreshMs: EVERY_MS,
        info: { sensor: SENSOR, boundary: 'battery', kind: 'power', lsb: 1e-6, wrapJoules: null, gain: GAIN },
      },
    ],
    unusable: [],
  };
}
