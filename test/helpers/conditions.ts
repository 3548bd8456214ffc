// The state of a machine around a run, as values.
import type { RunConditions } from '@ofa-fleet/shared/measurement.ts';

/** Nobody else at work, the clock held, nothing that tells of trouble. */
export const QUIET: RunConditions = {
  foreignCpuShare: 0,
  cgroupThrottledPeriods: 0,
  governor: 'performance',
  clockMHz: null,
  temperatureC: null,
  loadAverage: 0,
  freeMemoryBytes: null,
  garbageCollections: 0,
};
