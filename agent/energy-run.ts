// Runs the energy protocol on a loaded model: idle window, load window, idle window, with the sensor recorded throughout.
import type { Clock, MeterRecorder, Session } from './ports.ts';
import { energyPerInference, noEnergy, type EnergyResult, type Window } from './energy.ts';

/** Windows are at least so long, and so many times the sensor's refresh. */
const LOAD_MS = 1000;
const LOAD_REFRESHES = 50;
const IDLE_MS = 5000;
const IDLE_REFRESHES = 20;
/** Pool threads may spin for a while after the last run; idle power counts from here on. */
const SETTLE_MS = 1000;
/** All windows of one round together; a sensor that needs longer is refused at once. */
const LONGEST_ROUND_MS = 90_000;
const ROUNDS = 2;
/** A measurement of energy takes no longer. */
export const LONGEST_ENERGY_MS = ROUNDS * LONGEST_ROUND_MS;
const GROWTH = 4;

export interface EnergyAsk {
  readonly relativeHalfWidth: number;
  readonly clock: Clock;
}

/** Shortest window of inferences over which a sensor of that refresh can tell joules. */
export function leastLoadMs(refreshMs: number): number {
  return Math.max(LOAD_MS, LOAD_REFRESHES * refreshMs);
}

function leastIdleMs(refreshMs: number): number {
  return Math.max(IDLE_MS, IDLE_REFRESHES * refreshMs);
}

async function round(session: Session, recorder: MeterRecorder, refreshMs: number, clock: Clock, growth: number): Promise<EnergyResult> {
  const idle = async (): Promise<Window> => {
    await clock.sleep(SETTLE_MS);
    const startMs = clock.monotonicMs();
    await clock.sleep(leastIdleMs(refreshMs) * Math.sqrt(growth));
    return { startMs, endMs: clock.monotonicMs() };
  };
  const before = await idle();
  const startMs = clock.monotonicMs();
  const until = startMs + leastLoadMs(refreshMs) * growth;
  let inferences = 0;
  let endMs = startMs;
  while (endMs < until) {
    await session.run();
    inferences += 1;
    endMs = clock.monotonicMs();
  }
  const after = await idle();
  // One more refresh, so that the last window has a reading behind its edge.
  await clock.sleep(2 * refreshMs + SETTLE_MS / 10);
  return energyPerInference({
    info: recorder.info,
    trace: recorder.trace(),
    refreshMs,
    before,
    load: { startMs, endMs },
    after,
    inferences,
  });
}

/**
 * Joules per inference of a loaded model, about 13 s with a sensor that refreshes within 20 ms. Where the net figure is less precise than
 * asked (without the sensor's gain, which no window can lower), one longer round is run; what it reaches is the answer. Stops the recorder.
 */
export async function measureEnergy(
  session: Session,
  recorder: MeterRecorder,
  { relativeHalfWidth, clock }: EnergyAsk,
): Promise<EnergyResult> {
  const { info, refreshMs } = recorder;
  try {
    if (refreshMs === null) {
      return noEnergy(
        'SENSOR_STALE',
        `${info.sensor} did not change while it was watched: it is stuck. Check it with \`ofa-agent meters\`.`,
        info,
      );
    }
    const neededMs = 2 * leastIdleMs(refreshMs) + leastLoadMs(refreshMs);
    if (neededMs > LONGEST_ROUND_MS) {
      const message = `${info.sensor} changes every ${(refreshMs / 1000).toPrecision(2)} s, so one figure would need ${Math.ceil(neededMs / 1000)} s (limit ${LONGEST_ROUND_MS / 1000} s). Take a faster sensor.`;
      return noEnergy('SENSOR_TOO_SLOW', message, info);
    }
    let result = await round(session, recorder, refreshMs, clock, 1);
    for (let n = 1, growth = GROWTH; n < ROUNDS && result.relativeHalfWidth > relativeHalfWidth; n++, growth *= GROWTH) {
      // No value means a refusal or noise that a longer window may or may not lift; a round beyond the limit is not tried.
      if (neededMs * growth > LONGEST_ROUND_MS) break;
      result = await round(session, recorder, refreshMs, clock, growth);
    }
    return result;
  } finally {
    await recorder.stop();
  }
}
