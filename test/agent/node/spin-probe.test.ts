// The probe for spinning threads on the real runtime: it must tell one that spins from one that does not.
import { describe, expect, it } from 'vitest';
import { onnxRuntimeNode } from '../../../agent/node/runtime/onnxruntime-node.ts';
import { probeSpinning } from '../../../agent/node/spin-probe.ts';
import { value } from '../../helpers/outcome.ts';

describe('the probe for spinning threads', () => {
  it('sees more cores busy between runs where threads spin than where they sleep', async () => {
    const off = await probeSpinning(value(await onnxRuntimeNode({ spinning: false })), 2);
    const on = await probeSpinning(value(await onnxRuntimeNode({ spinning: true })), 2);
    expect(off).toBeGreaterThanOrEqual(0);
    expect(on).toBeGreaterThan(2 * (off ?? NaN));
  });
});
