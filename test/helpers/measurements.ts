// Measurements as values: what a device would answer, with a verdict that the caller plans.
import { DEFAULT_PLAN, measurementSchema, protocolId, type Measurement } from '@ofa-fleet/shared/measurement.ts';
import { estimateMedian } from '@ofa-fleet/shared/statistics.ts';

/** 40 runs around `latencyMs`, the interval taken from them. */
export function measurementOf(latencyMs: number, state: 'valid' | 'suspect' | 'invalid' = 'valid'): Measurement {
  const samplesMs = Array.from({ length: 40 }, (_, i) => latencyMs * (1 + 0.002 * (((i * 17) % 40) - 19.5)));
  const { value, ci, n, nEff } = estimateMedian(samplesMs, 0.95);
  const noEnergy = { value: null, ci: null, unit: 'J', kind: 'measured', n: 0, nEff: 0, reason: 'NOT_ASKED', message: 'The plan asks for no energy.' } as const; // prettier-ignore
  const finding = { reason: 'NEIGHBOUR_LOAD', effect: state, message: 'Others used 9 % of the cores; the limit is 5 %.' };
  return measurementSchema.parse({
    protocolId: protocolId(DEFAULT_PLAN),
    modelSha256: 'a'.repeat(64),
    inputShape: [1, 1, 28, 28],
    latency: { value, ci, unit: 'ms', kind: 'measured', n, nEff, reason: null, message: null },
    p90Ms: latencyMs * 1.04,
    p99Ms: latencyMs * 1.04,
    madMs: latencyMs * 0.02,
    maxMs: latencyMs * 1.04,
    loadMs: 3,
    firstRunMs: latencyMs * 2,
    warmUpRuns: 100,
    bindingMs: 0.02,
    samplesMs,
    energy: { gross: noEnergy, net: noEnergy, sensor: null, boundary: null, windowMs: null, inferences: null, idleWatts: null },
    verdict: { state, findings: state === 'valid' ? [] : [finding] },
    provenance: {
      agentVersion: '0.1.0',
      bootId: 'boot',
      startedAt: '2026-01-01T00:00:00.000Z',
      runtime: { name: 'onnxruntime-node', version: '1.30.0', providerAsked: 'cpu', providerObtained: 'cpu', intraOpThreads: 1, interOpThreads: 1, spinning: false, graphOptimisation: 'all', executionMode: 'sequential' }, // prettier-ignore
      nodeVersion: 'v24',
      cpuModel: 'test',
      onlineCores: 2,
      conditions: { foreignCpuShare: 0, cgroupThrottledPeriods: 0, governor: null, clockMHz: null, temperatureC: null, loadAverage: 0, freeMemoryBytes: 1, garbageCollections: 0 }, // prettier-ignore
    },
  });
}
