// powermetrics and nvidia-smi: programs that stand for them print lines of our own making in their grammar (no Mac and no graphics card is at hand).
import fc from 'fast-check';
import { chmodSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { meterHost } from '../../../agent/node/meters/discover.ts';
import type { MeterHost } from '../../../agent/node/meters/meter.ts';
import { discoverNvidia } from '../../../agent/node/meters/nvidia.ts';
import { parseNvidiaSmi, parsePowermetrics } from '../../../agent/node/meters/power-program-grammar.ts';
import { discoverPowermetrics } from '../../../agent/node/meters/powermetrics.ts';
import { recordMeter } from '../../../agent/node/meters/recorder.ts';

const SAMPLE = `
*** Sampled system activity (Sun Mar  1 10:15:02 2026 +0100) (101.37ms elapsed) ***

**** Processor usage ****

E-Cluster Online: 100%
E-Cluster HW active frequency: 1187 MHz
CPU 0 active residency:  18.22% (600 MHz:  41% 912 MHz:  22%)
CPU Power: 2210 mW
GPU Power: 31 mW
ANE Power: 0 mW
Combined Power (CPU + GPU + ANE): 2241 mW
`;

let dir = '';
beforeEach(() => (dir = mkdtempSync(join(tmpdir(), 'ofa-programs-'))));
afterEach(() => rmSync(dir, { recursive: true }));

function host(name: string, script: string, computesOn: MeterHost['computesOn'] = 'cpu'): MeterHost {
  writeFileSync(join(dir, name), `#!/bin/sh\n${script}\n`);
  chmodSync(join(dir, name), 0o755);
  return { ...meterHost('/nowhere', [], computesOn), programDirs: [dir] };
}

describe('powermetrics', () => {
  it('reads the line of the whole chip and no other', () => {
    expect(
      SAMPLE.split('\n')
        .map(parsePowermetrics)
        .filter((watts) => watts !== null),
    ).toEqual([2.241]);
    expect(parsePowermetrics('Package Power: 845 mW')).toBe(0.845);
    expect(parsePowermetrics('Intel energy model derived package power (CPUs+GT+SA): 7.35W')).toBe(7.35);
    for (const line of [
      'CPU Power: 2210 mW',
      'Combined Power (CPU + GPU + ANE): 0 mW',
      'Combined Power (CPU + GPU + ANE): many mW',
      'Combined Power',
      '',
    ]) {
      expect(parsePowermetrics(line)).toBeNull();
    }
  });

  it('is used by root alone, and says so to others', () => {
    const mac = host('powermetrics', 'exit 0');
    const { meters, unusable } = discoverPowermetrics(mac, false);
    expect(meters).toEqual([]);
    expect(unusable[0]?.message).toContain('sudo');
    const [meter] = discoverPowermetrics(mac, true).meters;
    expect(meter?.info).toMatchObject({ boundary: 'package', kind: 'power' });
    expect(meter?.scope).toContain('models');
    expect(discoverPowermetrics(meterHost('/nowhere'), true)).toEqual({ meters: [], unusable: [] });
  });

  it('follows its samples in the recording thread, which falls silent when the program dies', async () => {
    const [meter] = discoverPowermetrics(
      host(
        'powermetrics',
        'i=0; while [ $i -lt 30 ]; do i=$((i+1)); echo "CPU Power: 9 mW"; echo "Combined Power (CPU + GPU + ANE): $((1000 + i)) mW"; sleep 0.05; done',
      ),
      true,
    ).meters;
    if (meter === undefined) throw new Error('no meter');
    const recorder = await recordMeter(meter);
    try {
      expect(recorder.refreshMs).toBeGreaterThan(40);
      await expect.poll(() => recorder.trace().values.at(-1), { timeout: 10_000 }).toBeCloseTo(1.03, 9);
      const { length } = recorder.trace().values;
      await new Promise((resolve) => setTimeout(resolve, 200));
      expect(recorder.trace().values).toHaveLength(length);
      expect(recorder.trace().values[0]).toBeCloseTo(1.001, 9);
    } finally {
      await recorder.stop();
    }
  }, 20_000);
});

describe('nvidia-smi', () => {
  it('reads watts with and without their unit, and nothing that is no number', () => {
    expect(parseNvidiaSmi('61.27 W')).toBe(61.27);
    expect(parseNvidiaSmi('61.27')).toBe(61.27);
    for (const text of ['[N/A]', '[Not Supported]', '[Unknown Error]', '', '-3 W', '61.27 mW', '0, 61.27 W'])
      expect(parseNvidiaSmi(text)).toBeNull();
  });

  it('does not take a graphics card for what computes on the processor, and says so', () => {
    const { meters, unusable } = discoverNvidia(host('nvidia-smi', 'echo "0, NVIDIA Example 24GB, 61.27 W"'));
    expect(meters).toEqual([]);
    expect(unusable[0]).toMatchObject({ sensor: 'nvidia-smi 0 NVIDIA Example 24GB', reason: 'SENSOR_MISSING' });
    expect(unusable[0]?.message).toContain('both runtimes compute on the CPU');
  });

  it('takes the one card where models run on it, and none of several', () => {
    const { meters } = discoverNvidia(host('nvidia-smi', 'echo "0, NVIDIA Example 24GB, 61.27 W"', 'gpu'));
    expect(meters[0]?.info).toMatchObject({ sensor: 'nvidia-smi 0 NVIDIA Example 24GB', boundary: 'gpu-board', kind: 'power' });
    const two = discoverNvidia(host('nvidia-smi', 'echo "0, A, 61.27 W"; echo "1, A, 20.00 W"', 'gpu'));
    expect(two.meters).toEqual([]);
    expect(two.unusable[0]?.message).toContain('2 cards');
  });

  it.each(['[N/A]', '[Not Supported]'])(
    'says that a driver which answers %s has no power to show, so that the next meter is tried',
    (answer) => {
      const { meters, unusable } = discoverNvidia(host('nvidia-smi', `echo "0, Orin (nvgpu), ${answer}"`, 'gpu'));
      expect(meters).toEqual([]);
      expect(unusable[0]).toMatchObject({ reason: 'SENSOR_MISSING' });
      expect(unusable[0]?.message).toContain(answer);
    },
  );

  it('says that there is no card where the program fails', () => {
    expect(discoverNvidia(host('nvidia-smi', 'echo "NVIDIA-SMI has failed"; exit 9')).unusable[0]?.message).toContain('no graphics card');
  });
});

it('neither grammar throws, whatever is printed', () => {
  fc.assert(
    fc.property(fc.string(), (text) => {
      for (const parse of [parsePowermetrics, parseNvidiaSmi]) expect(parse(text) ?? 1).toBeGreaterThan(0);
    }),
  );
});
