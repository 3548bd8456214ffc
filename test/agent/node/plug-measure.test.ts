// Joules of a whole measurement from a smart plug (simulated) over a real broker: what `ofa-agent measure --plug` says, and what it says when the plug falls silent.
import { execFile } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { measurementSchema, type Measurement } from '../../../shared/measurement.ts';
import { startPlugBroker, type PlugBroker } from '../../helpers/plug-broker.ts';
import { writeConvStack } from '../../helpers/small-models.ts';

const CLI = fileURLToPath(new URL('../../../agent/node/cli.ts', import.meta.url));
const PASSWORD = 'geheim-1';

describe('measuring with a plug', () => {
  let dir = '';
  let broker: PlugBroker;
  let plug: NodeJS.Timeout | undefined;
  beforeEach(async () => {
    dir = mkdtempSync(join(tmpdir(), 'ofa-plug-'));
    broker = await startPlugBroker({ user: 'me', password: PASSWORD });
  });
  afterEach(async () => {
    clearInterval(plug);
    await broker.close();
    rmSync(dir, { recursive: true });
  });

  /** Publishes as a plug that is faster than any, so that a test takes seconds; `watts` may fall silent. */
  async function measure(watts: (sinceMs: number) => number | null): Promise<{ readonly record: Measurement; readonly said: string }> {
    const model = join(dir, 'model.onnx');
    writeConvStack(model, { channels: 8, size: 16, layers: 2 });
    let began: number | null = null;
    broker.onMessage(() => (began ??= performance.now())); // the first question
    plug = setInterval(() => {
      const power = began === null ? null : watts(performance.now() - began);
      if (power !== null) broker.publish('tele/desk/SENSOR', { Time: '2026-02-03T04:05:06', ENERGY: { Power: power } });
    }, 40);
    const args = [
      'measure',
      model,
      '--json',
      '--precision',
      '20%',
      '--energy-precision',
      '50%',
      '--plug',
      `tasmota:desk@mqtt://me:${PASSWORD}@127.0.0.1:${broker.port}`,
    ];
    return new Promise((resolve, reject) => {
      execFile(process.execPath, [CLI, ...args], { env: { ...process.env, TMPDIR: dir } }, (error, stdout, stderr) => {
        if (error !== null) reject(new Error(`${error.message} ${stderr}`));
        else resolve({ record: measurementSchema.parse(JSON.parse(stdout)), said: stdout + stderr });
      });
    });
  }

  const wobble = () => 12 + 0.1 * Math.round(10 * Math.random());

  it('gives joules at the wall, and never the password', async () => {
    const { record, said } = await measure(wobble);
    expect(record.energy).toMatchObject({ sensor: 'tasmota desk power', boundary: 'wall' });
    const { gross, windowMs, inferences } = record.energy;
    // 12 to 13 W, whatever ran
    const watts = ((gross.value ?? NaN) * (inferences ?? NaN)) / ((windowMs ?? NaN) / 1000);
    expect(watts).toBeGreaterThan(12);
    expect(watts).toBeLessThan(13);
    expect(said).not.toContain(PASSWORD);
  }, 90_000);

  it('gives latency all the same, and SENSOR_STALE instead of joules, where the plug falls silent half-way', async () => {
    const { record } = await measure((sinceMs) => (sinceMs < 6000 ? wobble() : null));
    expect(record.latency.value).toBeGreaterThan(0);
    expect(record.energy.gross).toMatchObject({ value: null, reason: 'SENSOR_STALE' });
    expect(record.energy.gross.message).toContain('tasmota desk power');
  }, 90_000);
});
