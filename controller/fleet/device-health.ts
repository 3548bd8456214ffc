// What a device's measurements say of the device itself: how fast it is when it is as it should be (the baseline of the reference workload),
// and whether it has to be kept from measuring until it is so again. Pure: time is an argument.
import type { Measurement, Plan, ReferenceBaseline } from '@ofa-fleet/shared/measurement.ts';
import { median, standardDeviation, studentT } from '@ofa-fleet/shared/statistics.ts';
import type { DeviceHealth } from '../store/device-health.ts';

/** Readings that make the baseline, each of another process, and how many are enough to begin with. */
const BASELINE_READINGS = 5;
const LEAST_READINGS = 3;
const LEVEL = 0.95;
/** The reference is that far off: the device is not the one that the baseline is of. */
const SHIFT_LIMIT = 0.1;
/** In a row. */
const INVALID_LIMIT = 3;
const SHIFTED_LIMIT = 3;
/** A device in quarantine is given one job so often; a good answer releases it. */
const RETRY_MS = 600_000;

/** With what one more process may differ from it (prediction interval of a single reading); null before three readings. */
function baselineOf(readingsMs: readonly number[]): ReferenceBaseline | null {
  const n = readingsMs.length;
  if (n < LEAST_READINGS) return null;
  const sd = standardDeviation(readingsMs.map(Math.log));
  return { medianMs: median(readingsMs), relativeHalfWidth: studentT(LEVEL, n - 1) * sd * Math.sqrt(1 + 1 / n) };
}

/** Of every workload that has one, for the plans of the device. */
export function baselinesOf({ workloads }: DeviceHealth): Plan['referenceBaselines'] {
  return Object.fromEntries(
    Object.entries(workloads).flatMap(([workload, { readingsMs }]) => {
      const baseline = baselineOf(readingsMs);
      return baseline === null ? [] : [[workload, baseline]];
    }),
  );
}

/** What a device that may not measure has to wait for, ms; 0 where it may. */
export function waitMs({ quarantine }: DeviceHealth, now: number): number {
  return quarantine === null ? 0 : Math.max(0, quarantine.retryAt - now);
}

/** After one more measurement of the device. A good one ends a quarantine. */
export function afterMeasurement(health: DeviceHealth, measurement: Measurement, now: number): DeviceHealth {
  const { state } = measurement.verdict;
  const invalidInRow = state === 'invalid' ? health.invalidInRow + 1 : 0;
  const key = measurement.reference?.workload;
  const reading = measurement.reference?.blocks[0]?.medianMs;
  let { workloads } = health;
  let shift: number | null = null;
  let shiftedInRow = 0;
  if (key !== undefined && reading !== undefined) {
    const known = workloads[key] ?? { readingsMs: [], shiftedInRow: 0 };
    const baseline = baselineOf(known.readingsMs);
    shift = baseline === null ? null : reading / baseline.medianMs - 1;
    shiftedInRow = shift !== null && Math.abs(shift) > SHIFT_LIMIT ? known.shiftedInRow + 1 : 0;
    const learns = known.readingsMs.length < BASELINE_READINGS && state === 'valid' && shiftedInRow === 0;
    workloads = { ...workloads, [key]: { readingsMs: learns ? [...known.readingsMs, reading] : known.readingsMs, shiftedInRow } };
  }
  const trouble =
    shiftedInRow >= SHIFTED_LIMIT
      ? `its reference workload is ${(100 * Math.abs(shift ?? 0)).toFixed(0)} % ${(shift ?? 0) > 0 ? 'slower' : 'faster'} than its baseline in ${shiftedInRow} measurements in a row (limit ${100 * SHIFT_LIMIT} %). Look at its cooling, power mode and load (ofa-agent doctor).`
      : invalidInRow >= INVALID_LIMIT
        ? `its last ${invalidInRow} measurements were invalid (limit ${INVALID_LIMIT}); the last: ${measurement.verdict.findings.find(({ effect }) => effect === 'invalid')?.message ?? 'without a finding'}`
        : null;
  const isGood = state !== 'invalid' && shiftedInRow === 0;
  const since = health.quarantine?.since ?? now;
  const quarantine =
    trouble !== null
      ? { message: trouble, since, retryAt: now + RETRY_MS }
      : isGood || health.quarantine === null
        ? null
        : { ...health.quarantine, retryAt: now + RETRY_MS };
  return { workloads, invalidInRow, quarantine };
}
