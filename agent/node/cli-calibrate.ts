// `ofa-agent calibrate`: holds the sensor inside this device against the plug before it, at several loads, and keeps the line between the two.
import { systemClock } from '@ofa-fleet/shared/clock.ts';
import { runCalibration } from '../calibration-run.ts';
import type { Calibration } from '../calibration.ts';
import { keepCalibration } from './calibration-file.ts';
import { startLoad } from './load.ts';
import { discoverMeters, explainNoMeter, meterHost } from './meters/discover.ts';
import type { PlugAddress } from './meters/meter.ts';
import { discoverPlugs } from './meters/plug.ts';
import { recordFirstMoving } from './meters/recorder.ts';
import { takeTurn } from './turn.ts';

export interface CalibrateOptions {
  readonly plug: PlugAddress;
  readonly sysfsRoot: string;
  readonly stateDir: string;
  readonly levels: number;
  readonly holdMs: number;
  readonly hostLockPath: string;
}

/** Hours may be recorded: no more often than this, so that they fit into the recorder. */
const READ_EVERY_MS = 250;
/** Published intervals: k times the standard uncertainty. */
const COVERAGE_FACTOR = 2;

/** Exit code: 0 calibrated and kept, 1 not. */
export async function runCalibrate(options: CalibrateOptions, signal: AbortSignal): Promise<number> {
  const host = meterHost(options.sysfsRoot);
  const found = discoverMeters(host);
  const [rail, ...otherRails] = found.meters;
  if (rail === undefined) return tell(`${explainNoMeter(host, found)} There is nothing to calibrate; the plug can be used as it is.`);
  const [wall, ...otherWalls] = discoverPlugs({ ...host, plugs: [options.plug] }).meters;
  if (wall === undefined) return tell('The plug offers no reading.');
  const turn = await takeTurn(options.hostLockPath, signal);
  const load = startLoad();
  try {
    const [railRecorder, wallRecorder] = await Promise.all([
      recordFirstMoving([rail, ...otherRails], READ_EVERY_MS),
      recordFirstMoving([wall, ...otherWalls], READ_EVERY_MS),
    ]);
    const minutes = options.holdMs / 60_000;
    const outcome = await runCalibration({
      rail: railRecorder,
      wall: wallRecorder,
      load,
      clock: systemClock,
      levels: options.levels,
      holdMs: options.holdMs,
      signal,
      onLevel: (share, i) =>
        void process.stderr.write(`Load ${i + 1} of ${options.levels}: ${percent(share)} of all cores for ${minutes} min\n`),
    });
    if (!outcome.ok) return tell(outcome.message);
    const kept = keepCalibration(options.stateDir, outcome.value);
    process.stdout.write(`${describeCalibration(outcome.value)}\n`);
    if (!kept.ok) return tell(kept.message);
    process.stdout.write(`kept in      ${kept.value}\n`);
    return 0;
  } finally {
    await load.stop();
    turn.release();
  }
}

const percent = (share: number) => `${(100 * share).toFixed(0)} %`;

/** The line for people, with k = 2. */
export function describeCalibration(calibration: Calibration): string {
  const { rail, plug, interceptWatts, slope, interceptU, slopeU, residualWatts, r2, lagMs, levels } = calibration;
  const shown = (u: number) => (COVERAGE_FACTOR * u).toPrecision(2);
  const rows = [
    ['sensor', `${rail.sensor}, boundary ${rail.boundary}`],
    ['plug', `${plug}, boundary wall; shows a step ${(lagMs / 1000).toFixed(2)} s later`],
    ...levels.map(({ share, railWatts, wallWatts }) => [
      `at ${percent(share)}`,
      `${railWatts.toPrecision(4)} W inside, ${wallWatts.toPrecision(4)} W at the wall`,
    ]),
    [
      'line',
      `wall = ${interceptWatts.toPrecision(4)} W (±${shown(interceptU)}) + ${slope.toPrecision(4)} (±${shown(slopeU)}) × sensor, at 95 %`,
    ],
    ['residual', `${residualWatts.toPrecision(2)} W, the line explains ${(100 * r2).toFixed(2)} %`],
  ];
  return rows.map(([name = '', text = '']) => `${name.padEnd(13)}${text}`).join('\n');
}

function tell(message: string): number {
  process.stderr.write(`${message}\n`);
  return 1;
}
