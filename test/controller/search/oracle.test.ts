// The benchmark problem against its own vectors: what is compared on it later is only as good as this port.
import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { evaluate, observeLatencyMs, subnetFromDigits } from '../../bench/search/oracle.ts';

const rows = readFileSync(new URL('../../bench/search/data/vectors.csv', import.meta.url), 'utf8')
  .trim()
  .split('\n')
  .slice(1)
  .map((line) => {
    const [genotype = '', ...numbers] = line.split(',');
    return { subnet: subnetFromDigits(genotype), expected: numbers.map(Number) };
  });

/** Largest deviation relative to the expected value over all columns that both have. */
function deviation(actual: readonly number[], expected: readonly number[]): number {
  return Math.max(...actual.map((value, i) => Math.abs(value - (expected[i] as number)) / Math.max(1, Math.abs(expected[i] as number))));
}

describe('the benchmark problem', () => {
  it('gives error, MACs, parameters, latencies and energies of all 200 vectors to 1e-9', () => {
    expect(rows).toHaveLength(200);
    for (const { subnet, expected } of rows) {
      const truth = evaluate(subnet);
      const { pi, gpu, npu } = truth.latencyMs;
      const energy = truth.energyMillijoules;
      const actual = [truth.errorPercent, truth.macs, truth.parameters, pi, gpu, npu, energy.pi, energy.gpu, energy.npu];
      expect(deviation(actual, expected)).toBeLessThanOrEqual(1e-9);
    }
  });

  it('gives the noisy, drifting readings of all 200 vectors to 1e-9', () => {
    for (const { subnet, expected } of rows) {
      const readings = [0, 5].map((t) => observeLatencyMs(subnet, 'gpu', { seed: 7, t, sd: 0.02, driftSd: 0.03, rho: 0.97 }));
      expect(deviation(readings, expected.slice(9))).toBeLessThanOrEqual(1e-9);
    }
  });
});
