// Calibrations as they are kept, and the load that they are made under.
import { execFile } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { Calibration } from '../../../agent/calibration.ts';
import { calibrationPath, keepCalibration, readCalibrations } from '../../../agent/node/calibration-file.ts';
import { describeCalibration } from '../../../agent/node/cli-calibrate.ts';
import { startLoad } from '../../../agent/node/load.ts';
import { value } from '../../helpers/outcome.ts';

const LINE: Calibration = {
  rail: { sensor: 'rapl package-0', boundary: 'package' },
  plug: 'tasmota desk power',
  madeAt: '2026-01-02T03:04:05.000Z',
  interceptWatts: 5.25,
  slope: 1.175,
  interceptU: 0.06,
  slopeU: 0.004,
  covariance: -0.0002,
  residualWatts: 0.11,
  r2: 0.9991,
  lagMs: 1750,
  blocks: 5,
  levels: [0, 1, 0.5].map((share) => ({ share, railWatts: 4 + 20 * share, wallWatts: 9.95 + 23.5 * share })),
};

let dir = '';
beforeEach(() => (dir = join(mkdtempSync(join(tmpdir(), 'ofa-calibrate-')), 'state')));
afterEach(() => rmSync(join(dir, '..'), { recursive: true }));

describe('kept calibrations', () => {
  it('are none before the first, then the newest of each pair of sensor and plug', () => {
    expect(value(readCalibrations(dir))).toEqual([]);
    value(keepCalibration(dir, LINE));
    value(keepCalibration(dir, { ...LINE, plug: 'shelly desk power', slope: 1.3 }));
    value(keepCalibration(dir, { ...LINE, slope: 1.2 }));
    expect(value(readCalibrations(dir)).map(({ plug, slope }) => [plug, slope])).toEqual([
      ['shelly desk power', 1.3],
      ['tasmota desk power', 1.2],
    ]);
    expect(statSync(dir).mode & 0o77).toBe(0);
  });

  it('that cannot be read are CORRUPT_FILE, and are not overwritten', () => {
    value(keepCalibration(dir, LINE));
    writeFileSync(calibrationPath(dir), '[{"slope": 1}]');
    expect(readCalibrations(dir)).toMatchObject({ ok: false, reason: 'CORRUPT_FILE' });
    expect(keepCalibration(dir, LINE)).toMatchObject({ ok: false, reason: 'CORRUPT_FILE' });
    expect(readFileSync(calibrationPath(dir), 'utf8')).toBe('[{"slope": 1}]');
  });

  it('are told with both uncertainties at 95 %', () => {
    const text = describeCalibration(LINE);
    for (const part of ['5.250 W (±0.12) + 1.175 (±0.0080) × sensor', '1.75 s later', 'at 50 %', '0.11 W', '99.91 %'])
      expect(text).toContain(part);
  });
});

describe('the command', () => {
  const cli = fileURLToPath(new URL('../../../agent/node/cli.ts', import.meta.url));
  const call = (args: readonly string[]): Promise<{ readonly code: number; readonly said: string }> =>
    new Promise((resolve) => {
      const child = execFile(process.execPath, [cli, ...args], { env: { ...process.env, HOME: join(dir, '..') } }, (_, stdout, stderr) =>
        resolve({ code: child.exitCode ?? -1, said: stdout + stderr }),
      );
    });
  const plug = ['--plug', 'tasmota:desk@mqtt://me:geheim@127.0.0.1:1'];

  it.each([
    [['calibrate'], '--plug'],
    [['calibrate', ...plug, '--hold', '30s'], 'from 5min to 30min'],
    [['calibrate', ...plug, '--levels', '2'], 'from 3 to 10'],
    [['calibrate', ...plug, ...plug], 'given twice'],
    [['measure', 'm.onnx', '--plug', 'tasmota:desk@http://me:geheim@broker'], 'mqtt://'],
    [['join', 'mqtt://127.0.0.1:1', 'token', '--plug', 'kasa:desk@mqtt://me:geheim@broker'], 'zigbee2mqtt'],
  ])('ends with 2 and says what is wrong for %j, without the password', async (args, what) => {
    const { code, said } = await call(args);
    expect(code).toBe(2);
    expect(said).toContain(what);
    expect(said).not.toContain('geheim');
  });

  it('says where there is nothing to calibrate, and shows an example', async () => {
    const none = await call(['calibrate', ...plug, '--sysfs', dir]);
    expect(none.code).toBe(1);
    expect(none.said).toContain('nothing to calibrate');
    expect(none.said).not.toContain('geheim');
    expect((await call(['calibrate', '--help'])).said).toMatch(/Example:\s+ofa-agent calibrate --plug/);
  });
});

it('the load keeps the processor busy while it is asked to, and no longer', async () => {
  const busyMs = async (share: number) => {
    load.set(share);
    const before = process.cpuUsage();
    await new Promise((resolve) => setTimeout(resolve, 400));
    const { user, system } = process.cpuUsage(before);
    return (user + system) / 1000;
  };
  const load = startLoad();
  try {
    await new Promise((resolve) => setTimeout(resolve, 500)); // threads start
    const [half, none] = [await busyMs(0.5), await busyMs(0)];
    expect(half).toBeGreaterThan(100);
    expect(none).toBeLessThan(half / 2);
  } finally {
    await load.stop();
  }
});
