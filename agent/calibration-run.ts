// Runs a calibration: both sensors are recorded while the processor is kept busy to several degrees, each for minutes.
import { fitCalibration, TAIL_MS, type Calibration, type LoadLevel } from './calibration.ts';
import { failed, type Outcome } from '@ofa-fleet/shared/outcome.ts';
import type { Clock, MeterRecorder } from './ports.ts';

/** Keeps the processor busy. */
export interface Load {
  /** A share of all cores from 0 to 1, from now on. */
  set(share: number): void;
}

export interface CalibrationAsk {
  readonly rail: MeterRecorder;
  readonly wall: MeterRecorder;
  readonly load: Load;
  readonly clock: Clock;
  readonly levels: number;
  /** How long each load is held, ms. */
  readonly holdMs: number;
  readonly signal: AbortSignal;
  /** At the start of each level. */
  readonly onLevel: (share: number, index: number) => void;
}

/** From the ends inwards, the largest steps first: they are what the recordings are aligned by. */
export function sharesOf(levels: number): readonly number[] {
  return Array.from({ length: levels }, (_, i) => (i % 2 === 0 ? i / 2 : levels - 1 - (i - 1) / 2) / (levels - 1));
}

/** CANCELED where the signal aborts; otherwise as fitCalibration. The processor is let go and both recorders are stopped, whatever happens. */
export async function runCalibration(ask: CalibrationAsk): Promise<Outcome<Calibration>> {
  const { rail, wall, load, clock, holdMs, signal } = ask;
  const held: LoadLevel[] = [];
  try {
    for (const [index, share] of sharesOf(ask.levels).entries()) {
      ask.onLevel(share, index);
      load.set(share);
      const startMs = clock.monotonicMs();
      await clock.sleep(holdMs, signal);
      if (signal.aborted) return failed('CANCELED', 'The calibration was stopped; nothing was kept.');
      held.push({ share, startMs, endMs: clock.monotonicMs() });
    }
    // at the last load, so that a plug which is late has still shown it
    await clock.sleep(TAIL_MS, signal);
    if (signal.aborted) return failed('CANCELED', 'The calibration was stopped; nothing was kept.');
    return fitCalibration({
      rail: { info: rail.info, trace: rail.trace() },
      wall: { info: wall.info, trace: wall.trace() },
      levels: held,
      madeAt: new Date(clock.wallMs()).toISOString(),
    });
  } finally {
    load.set(0);
    await Promise.all([rail.stop(), wall.stop()]);
  }
}
