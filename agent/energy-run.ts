// Runs the energy protocol on a loaded model: idle window, load window, idle window, with the sensor recorded throughout. How long they last
// comes of how fast the sensor was seen to be, of the precision asked, and of what the first round showed.
import { ok, type Outcome } from '@ofa-fleet/shared/outcome.ts';
import type { Clock, MeterRecorder, Session } from './ports.ts';
import { lagMs, noEnergy, type EnergyResult, type Window } from './energy.ts';
import { crossChecked, type Witness } from './energy-cross-check.ts';
import { energyPerInference, LEAST_LAGS, silence, type EnergyFigure, type EnergyReadings } from './energy-figure.ts';

/** Windows are at least so long, and so many times the sensor's refresh; the load's by the precision asked. */
const LOAD_MS = 1000;
const LOAD_REFRESHES = 50;
const COARSE_LOAD_REFRESHES = 25;
const IDLE_MS = 5000;
const IDLE_REFRESHES = 20;
/** Where none is named. */
const USUAL_PRECISION = 0.05;
/** Share of the precision asked that the refresh alone may take up. */
const EDGE_SHARE = 0.5;
/** Pool threads may spin for a while after the last run; idle power counts from here on. */
const SETTLE_MS = 1000;
/** A measurement of energy takes no longer; what would is refused at once. */
export const LONGEST_ENERGY_MS = 180_000;
const ROUNDS = 3;
/** Uncertainties are guesses themselves: the next windows are so much longer than they say. */
const RESERVE = 1.3;
/** A longer round that gains less is not worth its time. */
const LEAST_GROWTH = 1.2;

export interface EnergyAsk {
  readonly relativeHalfWidth: number;
  readonly clock: Clock;
  /** To hold the figure against; stopped with the recorder. */
  readonly witness?: Witness | null;
}

/** Shortest window of inferences over which a sensor of that refresh can tell joules to `relativeHalfWidth`. */
export function leastLoadMs(refreshMs: number, relativeHalfWidth = USUAL_PRECISION): number {
  // 50 refreshes for ±5 %, fewer where less is asked. Beyond that both edges, each known to a refresh of random phase, set the limit:
  // 2·r·P/√6 of P·T (k = 2).
  const refreshes = Math.min(LOAD_REFRESHES, Math.max(COARSE_LOAD_REFRESHES, 2.5 / relativeHalfWidth));
  const edgeRefreshes = 2 / Math.sqrt(6) / (EDGE_SHARE * relativeHalfWidth);
  return Math.max(LOAD_MS, Math.max(refreshes, edgeRefreshes) * refreshMs);
}

interface Lengths {
  /** Between load and idle window: until threads have stopped spinning and readings tell of it. */
  readonly settleMs: number;
  readonly idleMs: number;
  readonly loadMs: number;
}

function lengthsOf({ info }: MeterRecorder, refreshMs: number, relativeHalfWidth: number): Lengths {
  return {
    settleMs: Math.max(SETTLE_MS, lagMs(info, refreshMs) + refreshMs),
    idleMs: Math.max(IDLE_MS, IDLE_REFRESHES * refreshMs),
    loadMs: Math.max(leastLoadMs(refreshMs, relativeHalfWidth), 2 * LEAST_LAGS * lagMs(info, refreshMs)),
  };
}

const totalMs = ({ settleMs, idleMs, loadMs }: Lengths) => 2 * (settleMs + idleMs) + loadMs;

type Windows = Pick<EnergyReadings, 'before' | 'load' | 'after' | 'inferences'>;

/** One round; ends early where the sensor fell silent, since no joules can come of it. */
async function round(
  session: Session,
  recorder: MeterRecorder,
  clock: Clock,
  lengths: Lengths,
  refreshMs: number,
): Promise<Outcome<Windows>> {
  const idle = async (): Promise<Window> => {
    await clock.sleep(lengths.settleMs);
    const startMs = clock.monotonicMs();
    await clock.sleep(lengths.idleMs);
    return { startMs, endMs: clock.monotonicMs() };
  };
  const before = await idle();
  const lost = silence(recorder.info, recorder.trace(), before, refreshMs);
  if (lost !== null) return lost;
  const startMs = clock.monotonicMs();
  let inferences = 0;
  let endMs = startMs;
  while (endMs < startMs + lengths.loadMs) {
    await session.run();
    inferences += 1;
    endMs = clock.monotonicMs();
  }
  const load = { startMs, endMs };
  const lostSince = silence(recorder.info, recorder.trace(), load, refreshMs);
  if (lostSince !== null) return lostSince;
  const after = await idle();
  return ok({ before, load, after, inferences });
}

/** Long enough for a plug too, where one is to be held against this sensor and there is time for it: what it cannot resolve it cannot contradict. */
function withPlug(lengths: Lengths, witness: Witness | null, relativeHalfWidth: number): Lengths {
  const refreshMs = witness?.recorder.refreshMs ?? null;
  if (witness === null || witness.calibration === null || refreshMs === null) return lengths;
  const plug = lengthsOf(witness.recorder, refreshMs, Math.max(relativeHalfWidth, USUAL_PRECISION));
  const both: Lengths = {
    settleMs: Math.max(lengths.settleMs, plug.settleMs),
    idleMs: Math.max(lengths.idleMs, plug.idleMs),
    loadMs: Math.max(lengths.loadMs, lagMs(witness.recorder.info, refreshMs) + plug.loadMs),
  };
  return totalMs(both) > LONGEST_ENERGY_MS ? lengths : both;
}

/** How much longer the windows must be for the precision asked; 1: they are long enough; Infinity: no length would do. */
function growthFor({ budget, relativeHalfWidth }: EnergyFigure, asked: number): number {
  if (budget === null) return 1;
  if (budget.growthNeeded > 1) return RESERVE * budget.growthNeeded;
  if (relativeHalfWidth <= asked) return 1;
  if (relativeHalfWidth >= 1) return 1; // BELOW_IDLE_NOISE: nothing says how much longer would do, if any would
  const room = asked ** 2 - budget.drift ** 2;
  return room <= 0 ? Infinity : RESERVE * ((budget.load ** 2 + budget.idle ** 2) / room);
}

/** Says that the precision asked was not reached, and what would reach it. */
function shortOf(figure: EnergyFigure, asked: number, spentMs: number, growth: number): EnergyResult {
  const percent = (share: number) => `±${(100 * share).toPrecision(2)} %`;
  const cure = Number.isFinite(growth)
    ? `it would take about ${Math.ceil((spentMs * growth) / 1000)} s (limit ${LONGEST_ENERGY_MS / 1000} s). Ask for less, or use a faster sensor.`
    : 'idle power moves too much for any length of window. Stop other load and measure again.';
  const message = `The net energy is known to ${percent(figure.relativeHalfWidth)} after ${Math.round(spentMs / 1000)} s (asked ${percent(asked)}); ${cure}`;
  return { ...figure, findings: [...figure.findings, { reason: 'TIME_CAP', effect: 'information', message }] };
}

/**
 * Joules per inference of a loaded model, about 13 s with a sensor that refreshes within 20 ms. Where the net figure is less precise than
 * asked (without the sensor's gain, which no window can lower), longer rounds follow, as long as their uncertainty says; the last is the
 * answer. A sensor that could not meet the plan within the limit is refused at once, with the seconds that it would need. Stops the recorders.
 */
export async function measureEnergy(
  session: Session,
  recorder: MeterRecorder,
  { relativeHalfWidth, clock, witness = null }: EnergyAsk,
): Promise<EnergyResult> {
  const { info, refreshMs } = recorder;
  try {
    if (refreshMs === null) {
      const message = `${info.sensor} did not change while it was watched: it is stuck. Check it with \`ofa-agent meters\`.`;
      return noEnergy('SENSOR_STALE', message, info);
    }
    let lengths = lengthsOf(recorder, refreshMs, relativeHalfWidth);
    if (totalMs(lengths) > LONGEST_ENERGY_MS) {
      const message = `${info.sensor} changes every ${(refreshMs / 1000).toPrecision(2)} s, so a figure to ±${(100 * relativeHalfWidth).toPrecision(2)} % would need ${Math.ceil(totalMs(lengths) / 1000)} s (limit ${LONGEST_ENERGY_MS / 1000} s). Take a faster sensor or ask for less precision.`;
      return noEnergy('SENSOR_TOO_SLOW', message, info);
    }
    lengths = withPlug(lengths, witness, relativeHalfWidth);
    const began = clock.monotonicMs();
    for (let n = 1; ; n++) {
      const roundBegan = clock.monotonicMs();
      const windows = await round(session, recorder, clock, lengths, refreshMs);
      if (!windows.ok) return noEnergy(windows.reason, windows.message, info);
      // One more refresh, so that the last window has readings up to its end.
      await clock.sleep(2 * refreshMs + SETTLE_MS / 10);
      const readings = { info, trace: recorder.trace(), refreshMs, ...windows.value };
      const figure = energyPerInference(readings);
      const growth = growthFor(figure, relativeHalfWidth);
      const checked = () => crossChecked(figure, readings, witness);
      if (growth === 1) return checked();
      const spentMs = clock.monotonicMs() - roundBegan;
      const leftMs = LONGEST_ENERGY_MS - (clock.monotonicMs() - began);
      const possible = Math.min(growth, (leftMs - 2 * lengths.settleMs) / (totalMs(lengths) - 2 * lengths.settleMs));
      if (n === ROUNDS || possible < LEAST_GROWTH || !Number.isFinite(growth)) {
        return figure.energy.net.value === null ? figure : shortOf(checked(), relativeHalfWidth, spentMs, growth);
      }
      lengths = { ...lengths, idleMs: lengths.idleMs * possible, loadMs: lengths.loadMs * possible };
    }
  } finally {
    await Promise.all([recorder.stop(), witness?.recorder.stop()]);
  }
}
