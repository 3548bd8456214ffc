// What a sensor inside a device shows against what its plug shows, fitted as wall = a + b·rail over load levels: a is what the rail does not see, b the losses and
// gain. Pure: recordings in, line and uncertainty out; and whether a later pair of readings still fits it.
import { z } from 'zod';
import { failed, ok, type Outcome } from '@ofa-fleet/shared/outcome.ts';
import { median } from '@ofa-fleet/shared/statistics.ts';
import { unwrapCounter } from './energy.ts';
import type { MeterInfo, MeterTrace } from './ports.ts';

export const calibrationSchema = z.object({
  rail: z.object({ sensor: z.string(), boundary: z.string() }),
  plug: z.string(),
  madeAt: z.string(),
  /** wall = interceptWatts + slope·rail, with standard uncertainties and covariance of the two. */
  interceptWatts: z.number(),
  slope: z.number().positive(),
  interceptU: z.number().min(0),
  slopeU: z.number().min(0),
  covariance: z.number(),
  /** Standard deviation of a minute's mean about the line. */
  residualWatts: z.number().min(0),
  /** Share of the wall's variance that the line explains. */
  r2: z.number(),
  /** How much later the plug shows a step. */
  lagMs: z.number(),
  /** Blocks of each level that the line was fitted to. */
  blocks: z.int().min(3),
  levels: z.array(z.object({ share: z.number(), railWatts: z.number(), wallWatts: z.number() })).min(3),
});
export type Calibration = Readonly<z.infer<typeof calibrationSchema>>;

/** A time of constant load, ms on the recordings' scale. */
export interface LoadLevel {
  /** Share of the processor that was kept busy. */
  readonly share: number;
  readonly startMs: number;
  readonly endMs: number;
}

interface Recording {
  readonly info: MeterInfo;
  readonly trace: MeterTrace;
}

export interface CalibrationReadings {
  readonly rail: Recording;
  readonly wall: Recording;
  readonly levels: readonly LoadLevel[];
  readonly madeAt: string;
}

/** A line through fewer levels has no residual. */
export const LEAST_LEVELS = 3;
/** Readings of a sensor in a level, below which its mean is not trusted. */
const LEAST_READINGS = 20;
const BLOCKS = 5;
/** After a step: power supplies, and plugs (2 to 3 s), follow it late. */
const SETTLE_MS = 10_000;
/** A plug may show a step earlier than a sensor that averages, and later by what its network takes. */
const LEAST_LAG_MS = -5000;
const MOST_LAG_MS = 15_000;
const LAG_STEP_MS = 250;
/** A line that explains less is no line: something else hangs on the plug, or a battery lies between. */
const LEAST_R2 = 0.95;
/** Longest silence, in usual distances of readings, in seconds at least. */
const SILENT_GAPS = 10;
const SILENT_MS = 10_000;
const COVERAGE_FACTOR = 2;

/** How long the recordings must go on behind the last level, so that a late plug has shown it. */
export const TAIL_MS = MOST_LAG_MS + 1000;

/** Joules since the first reading, at each reading. */
interface Course {
  readonly atMs: readonly number[];
  readonly joules: readonly number[];
}

function courseOf({ info, trace }: Recording): Outcome<Course> {
  const atMs = Array.from(trace.atMs);
  if (info.kind === 'power') {
    let sum = 0;
    const joules = atMs.map((at, i) => {
      if (i > 0) sum += (((trace.values[i] as number) + (trace.values[i - 1] as number)) / 2) * ((at - (atMs[i - 1] as number)) / 1000);
      return sum;
    });
    return ok({ atMs, joules });
  }
  const grown = unwrapCounter(trace, info.wrapJoules);
  if (!grown.ok) return grown;
  // a counter is known exactly only where it changed
  const known = atMs.map((_, i) => i).filter((i) => i > 0 && grown.value[i] !== grown.value[i - 1]);
  return ok({ atMs: known.map((i) => atMs[i] as number), joules: known.map((i) => grown.value[i] as number) });
}

/** Index of the last reading not after `at`; -1 where all are. */
function lastUntil(times: readonly number[], at: number): number {
  let [low, high] = [0, times.length];
  while (low < high) {
    const middle = (low + high) >> 1;
    if ((times[middle] as number) <= at) low = middle + 1;
    else high = middle;
  }
  return low - 1;
}

function joulesAt({ atMs, joules }: Course, at: number): number {
  const i = Math.min(Math.max(lastUntil(atMs, at), 0), atMs.length - 2);
  const [t0, t1, e0, e1] = [atMs[i], atMs[i + 1], joules[i], joules[i + 1]] as [number, number, number, number];
  return e0 + ((e1 - e0) * (at - t0)) / (t1 - t0);
}

/** Mean watts between two times within the course. */
function meanWatts(course: Course, startMs: number, endMs: number): number {
  return (joulesAt(course, endMs) - joulesAt(course, startMs)) / ((endMs - startMs) / 1000);
}

interface Line {
  readonly intercept: number;
  readonly slope: number;
  readonly r2: number;
}

const mean = (values: readonly number[]) => values.reduce((sum, value) => sum + value, 0) / values.length;

function leastSquares(x: readonly number[], y: readonly number[]): Line {
  const [mx, my] = [mean(x), mean(y)];
  const sum = (a: readonly number[], ma: number, b: readonly number[], mb: number) =>
    a.reduce((total, value, i) => total + (value - ma) * ((b[i] as number) - mb), 0);
  const [xx, xy, yy] = [sum(x, mx, x, mx), sum(x, mx, y, my), sum(y, my, y, my)];
  const slope = xx === 0 ? 0 : xy / xx;
  return { intercept: my - slope * mx, slope, r2: xx === 0 || yy === 0 ? 0 : xy ** 2 / (xx * yy) };
}

/** The shift of the plug at which its steps fall on the rail's: clocks and networks are not to be trusted with that. */
function findLag(rail: Course, wall: Course, startMs: number, endMs: number, cellMs: number): number {
  const cells = Array.from({ length: Math.floor((endMs - startMs) / cellMs) }, (_, i) => startMs + i * cellMs);
  const railWatts = cells.map((at) => meanWatts(rail, at, at + cellMs));
  let best = { lagMs: 0, r2: -1 };
  for (let lagMs = LEAST_LAG_MS; lagMs <= MOST_LAG_MS; lagMs += LAG_STEP_MS) {
    const { r2 } = leastSquares(
      railWatts,
      cells.map((at) => meanWatts(wall, at + lagMs, at + lagMs + cellMs)),
    );
    // of equals the smallest shift
    if (r2 > best.r2 + 1e-9 || (r2 > best.r2 - 1e-9 && Math.abs(lagMs) < Math.abs(best.lagMs))) best = { lagMs, r2 };
  }
  return best.lagMs;
}

/** Says of one recording why it cannot serve; null where it can. */
function check({ info, trace: { atMs, values } }: Recording, levels: readonly LoadLevel[]): Outcome<never> | null {
  const first = levels[0] as LoadLevel;
  const last = levels.at(-1) as LoadLevel;
  const moves = values.some((value) => value !== values[0]);
  if (atMs.length < 2 || !moves) {
    const what = atMs.length === 0 ? 'gave no reading' : `showed ${values[0]} all the time`;
    return failed('SENSOR_STALE', `${info.sensor} ${what}. Check that it is on, and its address and name, with \`ofa-agent meters\`.`);
  }
  const times = Array.from(atMs);
  const gaps = times.slice(1).map((at, i) => at - (times[i] as number));
  const patienceMs = Math.max(SILENT_MS, SILENT_GAPS * median(gaps));
  const ends = [first.startMs, ...times.filter((at) => at > first.startMs && at < last.endMs), last.endMs];
  const silence = ends.slice(1).find((at, i) => at - (ends[i] as number) > patienceMs);
  if (silence !== undefined) {
    return failed(
      'SENSOR_STALE',
      `${info.sensor} was silent for more than ${(patienceMs / 1000).toFixed(0)} s, up to ${((silence - first.startMs) / 1000).toFixed(0)} s after the start. Calibrate again with it in reach.`,
    );
  }
  for (const level of levels) {
    const readings = times.filter((at) => at >= level.startMs && at <= level.endMs).length;
    if (readings >= LEAST_READINGS) continue;
    const needMs = ((level.endMs - level.startMs) * LEAST_READINGS) / Math.max(1, readings);
    return failed(
      'SENSOR_TOO_SLOW',
      `${info.sensor} gave ${readings} readings at one load (needed ${LEAST_READINGS}). Hold each load for ${Math.ceil(needMs / 60_000)} min (--hold).`,
    );
  }
  return null;
}

/** Least squares over blocks of each level. Where the levels lie about the line by more than their blocks scatter, that is what counts as its uncertainty. */
function fitLine(levels: readonly { readonly rail: readonly number[]; readonly wall: readonly number[] }[]) {
  const x = levels.flatMap(({ rail }) => rail);
  const y = levels.flatMap(({ wall }) => wall);
  const n = x.length;
  const line = leastSquares(x, y);
  const at = (railWatts: number) => line.intercept + line.slope * railWatts;
  const within = y.reduce((sum, watts, i) => sum + (watts - at(x[i] as number)) ** 2, 0) / (n - 2);
  const between = levels.reduce((sum, { rail, wall }) => sum + wall.length * (mean(wall) - at(mean(rail))) ** 2, 0) / (levels.length - 2);
  const variance = Math.max(within, between);
  const mx = mean(x);
  const xx = x.reduce((sum, watts) => sum + (watts - mx) ** 2, 0);
  return {
    interceptWatts: line.intercept,
    slope: line.slope,
    interceptU: Math.sqrt(variance * (1 / n + mx ** 2 / xx)),
    slopeU: Math.sqrt(variance / xx),
    covariance: (-mx * variance) / xx,
    residualWatts: Math.sqrt(within),
    r2: line.r2,
  };
}

/**
 * SENSOR_STALE: one of the two is stuck, silent or not there; SENSOR_TOO_SLOW: too few readings, with the time that would do; COUNTER_RESET; METERS_DISAGREE: they do
 * not see the same load; INVALID_INPUT: fewer than three levels. Recordings must reach TAIL_MS beyond the last level. Method: ordinary least squares (JCGM
 * 100:2008, H.3) over the means of equal blocks.
 */
export function fitCalibration({ rail, wall, levels, madeAt }: CalibrationReadings): Outcome<Calibration> {
  const [first] = levels;
  const last = levels.at(-1);
  if (first === undefined || last === undefined || levels.length < LEAST_LEVELS) {
    return failed('INVALID_INPUT', `${levels.length} load levels are too few for a line with a residual (least ${LEAST_LEVELS})`);
  }
  const refusal = check(rail, levels) ?? check(wall, levels);
  if (refusal !== null) return refusal;
  const railCourse = courseOf(rail);
  if (!railCourse.ok) return railCourse;
  const wallCourse = courseOf(wall);
  if (!wallCourse.ok) return wallCourse;
  const few = [rail, wall].find((_, i) => (i === 0 ? railCourse : wallCourse).value.atMs.length < LEAST_READINGS);
  if (few !== undefined) {
    return failed(
      'SENSOR_TOO_SLOW',
      `${few.info.sensor} changed fewer than ${LEAST_READINGS} times in all. Hold each load for longer (--hold).`,
    );
  }
  const gaps = (course: Course) => median(course.atMs.slice(1).map((at, i) => at - (course.atMs[i] as number)));
  const slowestMs = Math.max(gaps(railCourse.value), gaps(wallCourse.value));
  const lagMs = findLag(railCourse.value, wallCourse.value, first.startMs, last.endMs, Math.max(1000, slowestMs));
  const settleMs = Math.max(SETTLE_MS, 3 * slowestMs);
  const measured = levels.map(({ share, startMs, endMs }) => {
    const blockMs = (endMs - startMs - settleMs - slowestMs) / BLOCKS;
    const starts = Array.from({ length: BLOCKS }, (_, i) => startMs + settleMs + i * blockMs);
    return {
      share,
      blockMs,
      rail: starts.map((at) => meanWatts(railCourse.value, at, at + blockMs)),
      wall: starts.map((at) => meanWatts(wallCourse.value, at + lagMs, at + lagMs + blockMs)),
    };
  });
  if (measured.some(({ blockMs }) => blockMs < slowestMs)) {
    const needS = (settleMs + (BLOCKS + 1) * slowestMs) / 1000;
    return failed(
      'SENSOR_TOO_SLOW',
      `each load must be held for ${Math.ceil(needS)} s at least, ${(settleMs / 1000).toFixed(0)} s of which pass until power has settled (--hold)`,
    );
  }
  const fit = fitLine(measured);
  if (fit.slope <= 0 || fit.r2 < LEAST_R2) {
    return failed(
      'METERS_DISAGREE',
      `${wall.info.sensor} does not follow this device's load: ${rail.info.sensor} explains ${(100 * fit.r2).toFixed(0)} % of what it shows (least ${100 * LEAST_R2} %). Plug nothing else into it, take a battery out or let it fill up first, and calibrate again.`,
    );
  }
  return ok({
    rail: { sensor: rail.info.sensor, boundary: rail.info.boundary },
    plug: wall.info.sensor,
    madeAt,
    ...fit,
    lagMs,
    blocks: BLOCKS,
    levels: measured.map((level) => ({ share: level.share, railWatts: mean(level.rail), wallWatts: mean(level.wall) })),
  });
}

/** Mean power of a window and its standard uncertainty without the sensor's gain, which the line has taken in. */
export interface MeanPower {
  readonly watts: number;
  readonly u: number;
}

export interface Disagreement {
  /** What the line makes of the rail's reading. */
  readonly expectedWatts: number;
  readonly differenceWatts: number;
  /** Two combined standard uncertainties. */
  readonly limitWatts: number;
  /** METERS_DISAGREE in a sentence. */
  readonly message: string;
}

/** Null where rail and plug of one window still fit the calibration, within two combined standard uncertainties. */
export function disagreement(calibration: Calibration, rail: MeanPower, wall: MeanPower): Disagreement | null {
  const { interceptWatts, slope, interceptU, slopeU, covariance, residualWatts } = calibration;
  const expectedWatts = interceptWatts + slope * rail.watts;
  const lineVariance = interceptU ** 2 + (rail.watts * slopeU) ** 2 + 2 * rail.watts * covariance;
  // rounding may leave a negative zero under the root
  const limitWatts = COVERAGE_FACTOR * Math.sqrt(Math.max(0, lineVariance) + residualWatts ** 2 + (slope * rail.u) ** 2 + wall.u ** 2);
  const differenceWatts = wall.watts - expectedWatts;
  if (Math.abs(differenceWatts) <= limitWatts) return null;
  const message = `${calibration.plug} shows ${wall.watts.toPrecision(4)} W where ${calibration.rail.sensor} at ${rail.watts.toPrecision(4)} W makes ${expectedWatts.toPrecision(4)} W expected (limit ±${limitWatts.toPrecision(2)} W): one of them has changed. See what else hangs on the plug, or calibrate again: ofa-agent calibrate.`;
  return { expectedWatts, differenceWatts, limitWatts, message };
}
