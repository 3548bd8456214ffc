// The power chip of a Raspberry Pi 5, played by shell scripts: no such board is at hand. The answers are made up, in the grammar of `vcgencmd pmic_read_adc`
// (Raspberry Pi documentation, "vcgencmd"); sums of volts times amperes are added by hand.
import { chmodSync } from 'node:fs';
import { join } from 'node:path';
import fc from 'fast-check';
import { afterEach, describe, expect, it } from 'vitest';
import { discoverPmic } from '../../../../agent/node/meters/pmic.ts';
import { parsePmicAdc } from '../../../../agent/node/meters/pmic-adc.ts';
import { recordMeter } from '../../../../agent/node/meters/recorder.ts';
import { makeTree, type Tree } from '../../../helpers/sysfs-tree.ts';

let trees: Tree[] = [];
afterEach(() => {
  for (const made of trees) made.remove();
  trees = [];
});

/** 0.05·3.3 + 0·0.6 + 4·0.9 + 0.2·1.8 = 0.165 + 0 + 3.6 + 0.36 = 4.125 W; EXT5V and BATT have no current. */
const CURRENTS = [
  '   3V3_SYS_A current(1)=0.05000000A',
  '  DDR_VDDQ_A current(4)=0.00000000A',
  '  VDD_CORE_A current(7)=4.00000000A',
  '   1V8_SYS_A current(2)=0.20000000A',
];
const VOLTS = [
  '  VDD_CORE_V volt(15)=0.90000000V',
  '   1V8_SYS_V volt(10)=1.80000000V',
  '   3V3_SYS_V volt(9)=3.30000000V',
  '  DDR_VDDQ_V volt(12)=0.60000000V',
  '     EXT5V_V volt(24)=5.10000000V',
  '      BATT_V volt(25)=0.00000000V',
];
const ANSWER = [...CURRENTS, ...VOLTS].join('\n');

function vcgencmd(script: string): string {
  const made = makeTree({ vcgencmd: `#!/bin/sh\n${script}` });
  trees.push(made);
  chmodSync(join(made.root, 'vcgencmd'), 0o755);
  return made.root;
}
const discover = (...programDirs: string[]) => discoverPmic({ sysfsRoot: '/nowhere', programDirs, plugs: [], computesOn: 'cpu' });

describe('the answer of pmic_read_adc', () => {
  it('is the sum of volts times amperes, paired by name whatever their order and index', () => {
    expect(parsePmicAdc(ANSWER)).toBeCloseTo(4.125, 9);
    expect(parsePmicAdc([...VOLTS, ...CURRENTS].reverse().join('\r\n'))).toBeCloseTo(4.125, 9);
    expect(parsePmicAdc(ANSWER.replaceAll(/[AV]$/gm, ''))).toBeCloseTo(4.125, 9);
    expect(parsePmicAdc(ANSWER.replaceAll('VDD_CORE', '0V8_SYS'))).toBeCloseTo(4.125, 9);
  });

  it.each([
    ['cut off before its voltages', CURRENTS.join('\n')],
    ['cut off within them', [...CURRENTS, ...VOLTS.slice(0, 2)].join('\n')],
    ['of a board without the chip', 'error=1 error_msg="Command not registered"'],
    ['of voltages only', VOLTS.join('\n')],
    ['of another command', 'throttled=0x50005'],
    ['of nothing', ''],
  ])('%s is no reading', (_, text) => {
    expect(parsePmicAdc(text)).toBeNull();
  });

  it('of any other kind never throws and never gives anything but a positive finite number or null', () => {
    const line = fc.oneof(
      fc.constantFrom(...CURRENTS, ...VOLTS),
      fc.string(),
      fc.constant('X_A current(1)=1e999A'),
      fc.constant('X_V volt(1)=-3V'),
    );
    fc.assert(
      fc.property(fc.array(line, { maxLength: 14 }), (lines) => {
        const value = parsePmicAdc(lines.join('\n'));
        return value === null || (Number.isFinite(value) && value > 0);
      }),
      { numRuns: 2000 },
    );
  });
});

describe('the power chip', () => {
  it('is a meter of the board, asked ten times a second', () => {
    const { meters, unusable } = discover(vcgencmd(`cat <<END\n${ANSWER}\nEND`));
    expect(unusable).toEqual([]);
    expect(meters[0]).toMatchObject({
      info: { sensor: 'pmic rails', boundary: 'board', kind: 'power' },
      source: { kind: 'command', everyMs: 100, parser: 'pmic' },
    });
    expect(meters[0]?.scope).toContain('not the 5 V loads');
  });

  it.each([
    ['an earlier board', 'echo \'error=1 error_msg="Command not registered"\'', 'only the Pi 5 has'],
    ['a user who may not ask', 'echo "VCHI initialization failed"; exit 255', 'usermod -aG video'],
    ['an answer that is none', 'exit 1', 'no pairs of volts and amperes'],
  ])('says why it cannot be used on %s', (_, script, text) => {
    const { meters, unusable } = discover(vcgencmd(script));
    expect(meters).toEqual([]);
    expect(unusable[0]).toMatchObject({ sensor: 'pmic', reason: 'SENSOR_MISSING' });
    expect(unusable[0]?.message).toContain(text);
  });

  it('is not looked for where there is no such program', () => {
    expect(discover('/nowhere')).toEqual({ meters: [], unusable: [] });
  });

  it('gives no readings, instead of wrong ones, once its program fails half-way', async () => {
    const dir = vcgencmd(
      `n=$(cat "$0.n" 2>/dev/null || echo 0); echo $((n+1)) > "$0.n"; [ $n -gt 12 ] && exit 1; cat <<END\n${ANSWER}\nEND`,
    );
    const [meter] = discover(dir).meters;
    if (meter === undefined) throw new Error('no meter');
    const recorder = await recordMeter(meter);
    const { values } = recorder.trace();
    await recorder.stop();
    expect(values.length).toBeGreaterThan(5);
    expect(values.length).toBeLessThanOrEqual(12);
    expect([...new Set(values)].map((watts) => Number(watts.toFixed(9)))).toEqual([4.125]);
    expect(recorder.refreshMs).toBeNull(); // it did not change: refused as stuck
  }, 30_000);
});
