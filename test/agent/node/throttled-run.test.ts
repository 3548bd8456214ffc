// Whole measurements by real runner processes on a real runtime, while a simulated board (trees for /sys and /proc) tells that it slows itself.
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { createMeasurer } from '../../../agent/node/measure-process.ts';
import { DEFAULT_PLAN, measurementSchema, type Measurement, type Plan } from '../../../shared/measurement.ts';
import { value } from '../../helpers/outcome.ts';
import { writeConvStack } from '../../helpers/small-models.ts';
import { makeTree, type Tree } from '../../helpers/sysfs-tree.ts';

/** Long enough that what happens on the board meanwhile lies within. */
const PLAN: Plan = { ...DEFAULT_PLAN, warmUpMs: 100, minTimedMs: 2500, relativeHalfWidth: 0.2, capMs: 10_000 };
const FLAGS = 'devices/platform/soc/soc:firmware/get_throttled';
const ALARMS = 'class/hwmon/hwmon2';

let dir = '';
let sys: Tree;
let proc: Tree;
beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), 'ofa-throttled-'));
  sys = makeTree();
  proc = makeTree();
});
afterEach(() => {
  for (const made of [sys, proc]) made.remove();
  rmSync(dir, { recursive: true, force: true });
});

/** One measurement; `meanwhile` is done again and again until it has ended. */
async function measured(meanwhile: (n: number) => void): Promise<Measurement> {
  const source = writeConvStack(join(dir, 'small.onnx'), { channels: 8, size: 16, layers: 2 });
  let n = 0;
  const timer = setInterval(() => meanwhile(n++), 300);
  try {
    const measurer = createMeasurer({ runtime: 'onnxruntime-node', roots: { sysfsRoot: sys.root, procRoot: proc.root } });
    return value(await measurer.measure(source, PLAN, new AbortController().signal));
  } finally {
    clearInterval(timer);
  }
}

const reasons = ({ verdict }: Measurement) => verdict.findings.filter(({ effect }) => effect !== 'information').map(({ reason }) => reason);

describe('a measurement', () => {
  it('on a Raspberry Pi that lacked voltage for moments is invalid, though the flag was set before', async () => {
    sys.write({ [FLAGS]: '50000' });
    const m = await measured((n) => sys.write({ [FLAGS]: n % 2 === 0 ? '50005' : '50000' }));
    expect(m.verdict.state).toBe('invalid');
    expect(reasons(m)).toEqual(expect.arrayContaining(['THROTTLED', 'UNDER_VOLTAGE']));
    expect(m.provenance.conditions.firmwareEvents).toEqual({ seen: ['under-voltage', 'throttled'], unproven: [] });
    expect(measurementSchema.parse(JSON.parse(JSON.stringify(m)))).toEqual(m);
  }, 60_000);

  it('on one whose flags were set long ago, and not since, is not blamed for it', async () => {
    sys.write({ [FLAGS]: '50000' });
    const m = await measured(() => undefined);
    expect(reasons(m).filter((reason) => reason === 'THROTTLED' || reason === 'UNDER_VOLTAGE')).toEqual([]);
    expect(m.provenance.conditions.firmwareEvents).toEqual({ seen: [], unproven: ['under-voltage', 'throttled'] });
  }, 60_000);

  it('on a Jetson that drew too much current is suspect, in so many events', async () => {
    sys.write({
      [`${ALARMS}/name`]: 'soctherm_oc',
      [`${ALARMS}/oc3_event_cnt`]: 1000,
      'firmware/devicetree/base/compatible': 'nvidia,tegra234',
    });
    const m = await measured((n) => sys.write({ [`${ALARMS}/oc3_event_cnt`]: 1001 + n }));
    expect(reasons(m)).toContain('OVER_CURRENT');
    expect(m.provenance.conditions.supplyAlarms?.[0]?.events).toBeGreaterThan(0);
  }, 60_000);
});
