// Which of two models is faster, in virtual time: what the device does meanwhile, and what a process is worth, are scripted.
import { describe, expect, it } from 'vitest';
import { ok } from '@ofa-fleet/shared/outcome.ts';
import { concludeComparison, interleave, type ProcessRounds } from '../../agent/compare.ts';
import type { ModelUnderTest } from '../../agent/measure.ts';
import type { Clock, Runtime } from '../../agent/ports.ts';

function stream(seed: number): () => number {
  let state = seed;
  return () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return state / 2 ** 32;
  };
}

/** A device on which the model with `n` bytes takes `times[n]` ms, times what it is slowed by at that moment. */
async function compared(times: readonly number[], slowed: (nowMs: number) => number, seed = 1): Promise<ProcessRounds> {
  let now = 0;
  const clock: Clock = { monotonicMs: () => now, wallMs: () => 0, sleep: () => Promise.resolve() };
  const noise = stream(seed);
  const runtime: Runtime = {
    identity: { name: 'onnxruntime-node', version: '0', providerAsked: 'cpu', providerObtained: 'cpu', library: null, interOpThreads: 1, spinning: false, graphOptimisation: 'all', executionMode: 'sequential' }, // prettier-ignore
    load: ({ graph }) =>
      Promise.resolve(
        ok({
          inputShape: [1, 2],
          outputShape: [1, 2],
          setInput: () => undefined,
          run: () => {
            now += (times[graph.length] ?? 1) * slowed(now) * (1 + 0.02 * (noise() - 0.5));
            return Promise.resolve();
          },
          output: () => Float32Array.of(1, 2),
          release: () => Promise.resolve(),
        }),
      ),
  };
  const models: ModelUnderTest[] = times.map((_, n) => ({
    sha256: '',
    bytes: { graph: new Uint8Array(n), externalData: [] },
    golden: null,
  }));
  const outcome = await interleave(models, 1, 5000, { runtime, clock, random: stream(seed + 1) });
  if (!outcome.ok) throw new Error(outcome.message);
  return outcome.value;
}

describe('comparing models', () => {
  it('tells two apart that differ by 3 % on a device that slows down by a third meanwhile', async () => {
    const processes = await Promise.all([1, 2, 3, 4, 5].map((seed) => compared([10, 10.3], (now) => 1 + now / 20_000, seed)));
    const { fastest, models, referenceMoved } = concludeComparison(processes, 0.95);
    expect(fastest).toBe(0);
    expect(models[1]?.ratio?.value).toBeCloseTo(1.03, 2);
    expect(models[1]?.ratio?.ci?.lo).toBeGreaterThan(1.02);
    expect(models[1]?.ratio?.ci?.hi).toBeLessThan(1.04);
    expect(referenceMoved).toBeGreaterThan(0.2);
  });

  it('does not tell identical ones apart, whatever the device does', async () => {
    const processes = await Promise.all([1, 2, 3, 4, 5].map((seed) => compared([10, 10], (now) => 1 + 0.3 * Math.sin(now / 700), seed)));
    const { models, fastest } = concludeComparison(processes, 0.95);
    const ci = models[1 - fastest]?.ratio?.ci;
    expect(ci?.lo).toBeLessThan(1);
    expect((ci?.hi ?? 9) - 1).toBeLessThan(0.02);
  });

  it('trusts no single process where processes differ: their spread is the interval', () => {
    // in each process the second model is 10 % slower or faster for good, by the layout of its memory
    const rounds = (shift: number): ProcessRounds => ({ logs: [[0, 0, 0], [shift, shift, shift]], reference: [] }); // prettier-ignore
    const alone = concludeComparison([rounds(0.1)], 0.95);
    expect(alone.models[1]?.ratio?.ci).toMatchObject({ method: "Student's t over 3 rounds of one process" });
    const several = concludeComparison([0.1, -0.1, 0.12, -0.08, 0.02].map(rounds), 0.95);
    const slower = several.models[1 - several.fastest]?.ratio?.ci;
    expect(slower?.lo).toBeLessThan(1);
    expect(slower?.method).toBe("Student's t over 5 processes");
  });
});
