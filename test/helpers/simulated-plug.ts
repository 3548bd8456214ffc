// Hardware that does not exist: a processor whose power follows a load, a counter inside the device that sees it, and a smart plug before it, on a clock that the
// test moves. Truth is known: wall = a + b·rail.
import { xoroshiro128plus } from 'pure-rand/generator/xoroshiro128plus';
import type { MeterRecorder, MeterTrace } from '../../agent/ports.ts';
import type { Load } from '../../agent/calibration-run.ts';
import type { Clock } from '../../shared/clock.ts';

export interface SimulatedPlug {
  readonly seed: number;
  readonly a: number;
  readonly b: number;
  /** How late the plug's messages arrive, and how slowly its chip follows (time constant). */
  readonly delayMs?: number;
  readonly settleMs?: number;
  readonly plugEveryMs?: number;
  /** Standard deviation of one reading of the plug, W, and its steps. */
  readonly noiseWatts?: number;
  readonly stepWatts?: number;
  /** What the rail shows: a counter with this range, or watts. */
  readonly rail?: 'counter' | 'power';
  readonly wrapJoules?: number | null;
  /** When the rail's counter starts again from 0 for no reason, ms. */
  readonly railResetMs?: number;
  /** From here on the plug says nothing, ms. */
  readonly silentFromMs?: number;
  /** What the plug shows instead of the truth. */
  readonly plugShows?: (watts: number, atMs: number) => number;
}

export interface SimulatedDevice {
  readonly clock: Clock;
  readonly load: Load & { share(): number };
  readonly rail: MeterRecorder;
  readonly wall: MeterRecorder;
  readonly stopped: () => number;
}

const RAIL_EVERY_MS = 250;
const IDLE_WATTS = 4;
const BUSY_WATTS = 21;
/** The chip warms up and leaks more: the load's power creeps. */
const CREEP_WATTS = 0.8;
const CREEP_MS = 60_000;

function gaussian(seed: number): () => number {
  const generator = xoroshiro128plus(seed);
  const uniform = () => ((generator.next() >>> 0) + 0.5) / 2 ** 32;
  return () => Math.sqrt(-2 * Math.log(uniform())) * Math.cos(2 * Math.PI * uniform());
}

export function simulateDevice(truth: SimulatedPlug): SimulatedDevice {
  const {
    a,
    b,
    delayMs = 800,
    settleMs = 1000,
    plugEveryMs = 1000,
    noiseWatts = 0.15,
    stepWatts = 0.1,
    rail = 'counter',
    wrapJoules = null,
  } = truth;
  const noise = gaussian(truth.seed);
  let nowMs = 5000; // the recorders have begun by then
  let share = 0;
  let stops = 0;
  let creep = 0;
  let joules = 900;
  let shown = a + b * IDLE_WATTS;
  const railTrace: { atMs: number[]; values: number[] } = { atMs: [], values: [] };
  const wallTrace: { atMs: number[]; values: number[] } = { atMs: [], values: [] };

  function advance(untilMs: number): void {
    for (; nowMs < untilMs; nowMs += RAIL_EVERY_MS) {
      creep += ((share * CREEP_WATTS - creep) * RAIL_EVERY_MS) / CREEP_MS;
      const watts = IDLE_WATTS + share * BUSY_WATTS + creep + 0.05 * noise();
      joules = nowMs === truth.railResetMs ? 0 : joules + (watts * RAIL_EVERY_MS) / 1000;
      railTrace.atMs.push(nowMs + RAIL_EVERY_MS);
      railTrace.values.push(rail === 'power' ? watts : wrapJoules === null ? joules : joules % wrapJoules);
      const wall = a + b * watts;
      shown += (wall - shown) * (1 - Math.exp(-RAIL_EVERY_MS / settleMs));
      const arrivesMs = nowMs + RAIL_EVERY_MS + delayMs;
      const isDue = Math.floor((nowMs + RAIL_EVERY_MS) / plugEveryMs) > Math.floor(nowMs / plugEveryMs);
      if (!isDue || arrivesMs >= (truth.silentFromMs ?? Infinity)) continue;
      const reading = Math.round((shown + noiseWatts * noise()) / stepWatts) * stepWatts;
      wallTrace.atMs.push(arrivesMs);
      wallTrace.values.push(truth.plugShows === undefined ? reading : truth.plugShows(reading, arrivesMs));
    }
  }
  advance(nowMs + 5000);

  const recorder = (sensor: string, boundary: 'package' | 'wall', kind: 'counter' | 'power', trace: () => MeterTrace): MeterRecorder => ({
    info: { sensor, boundary, kind, lsb: 0.001, wrapJoules: kind === 'counter' ? wrapJoules : null, gain: 0.05 },
    refreshMs: boundary === 'wall' ? plugEveryMs : RAIL_EVERY_MS,
    trace,
    stop: () => {
      stops += 1;
      return Promise.resolve();
    },
  });
  const seen = ({ atMs, values }: typeof railTrace): MeterTrace => {
    const n = atMs.filter((at) => at <= nowMs).length;
    return { atMs: Float64Array.from(atMs.slice(0, n)), values: Float64Array.from(values.slice(0, n)) };
  };
  return {
    clock: {
      monotonicMs: () => nowMs,
      wallMs: () => Date.UTC(2026, 0, 2) + nowMs,
      sleep: (ms, signal) => {
        if (signal?.aborted !== true) advance(nowMs + ms);
        return Promise.resolve();
      },
    },
    load: { set: (next) => void (share = next), share: () => share },
    rail: recorder('rapl package-0', 'package', rail, () => seen(railTrace)),
    wall: recorder('tasmota desk power', 'wall', 'power', () => seen(wallTrace)),
    stopped: () => stops,
  };
}
