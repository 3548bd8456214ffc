// The same way by the programs, as a user goes it: import -> export -> what plain ONNX Runtime says; and back to torch's file.
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { InferenceSession, Tensor } from 'onnxruntime-node';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { readCheckpoint, weightsHash } from '../../controller/supernet/checkpoint.ts';
import { run } from '../helpers/ofa-fleet.ts';
import { value } from '../helpers/outcome.ts';
import { expectLogits, inputsAt, part, publicFile, readFloats, SUBNETS, type PublicSubnet } from './ofa-public.ts';

const PATIENCE_MS = 120_000;
let dir: string;
beforeAll(() => {
  dir = mkdtempSync(join(tmpdir(), 'ofa-programs-'));
});
afterAll(() => rmSync(dir, { recursive: true, force: true }));

const at = (name: string) => join(dir, name);

async function succeeds(...args: readonly string[]): Promise<string> {
  const { code, stdout, stderr } = await run('ofa-fleet', args);
  expect(stderr).toBe('');
  expect(code).toBe(0);
  return stdout;
}

async function logitsOf(folder: string, side: number): Promise<Float32Array> {
  const session = await InferenceSession.create(join(folder, 'model.onnx'), { intraOpNumThreads: 1 });
  const { shape, count, data } = inputsAt(side);
  const logits: number[] = [];
  for (let i = 0; i < count; i++) {
    const image = data.subarray((i * data.length) / count, ((i + 1) * data.length) / count);
    logits.push(...((await session.run({ input: new Tensor('float32', image, [1, ...shape]) }))['logits']?.data as Float32Array));
  }
  await session.release();
  return Float32Array.from(logits);
}

describe('the programs', { timeout: PATIENCE_MS }, () => {
  it('import a checkpoint, and export a subnet of it with statistics, recalibrated and sorted, as the reference has it', async () => {
    const { id, ks, e, d, r } = SUBNETS[3] as PublicSubnet;
    writeFileSync(at('subnet.json'), JSON.stringify({ ks, e, d }));
    expect(await succeeds('import', publicFile('checkpoint.pth'), '--out', at('net.safetensors'))).toMatch(
      /SE_B.*10 classes.*\nWeights of checkpoint\.pth \(sha256 [0-9a-f]{12}\) by ofa-fleet import, keys of Once-For-All; space read off/,
    );
    const exporting = ['export', at('net.safetensors'), '--subnet', at('subnet.json'), '--resolution', String(r)];
    const calibrating = ['--calibration', publicFile('calib_u8.npy'), '--calibration-scale', '128,64']; // in batches of 32

    await succeeds(...exporting, ...calibrating, '--out', at('after'));
    expectLogits(await logitsOf(at('after'), r), part('logits_after.npy', id));
    await succeeds(...exporting, ...calibrating, '--calibration-batch', '24', '--out', at('uneven'));
    expectLogits(await logitsOf(at('uneven'), r), readFloats('logits_after_uneven_s3.npy').data);
    expect(await succeeds(...exporting, '--statistics', 'stored', '--out', at('before'))).toMatch(/near chance/);
    expect(readFileSync(join(at('before'), 'manifest.json'), 'utf8')).toContain('"statistics":"stored');
    expectLogits(await logitsOf(at('before'), r), part('logits_before.npy', id));
    await succeeds(...exporting, ...calibrating, '--sort', '--out', at('sorted'));
    expectLogits(await logitsOf(at('sorted'), r), part('logits_reorg0_after.npy', id));
  });

  it('bring a supernet back into a file of torch, equal after another import', async () => {
    await succeeds('import', publicFile('checkpoint_legacy.pth'), '--out', at('a.safetensors'), '--resolutions', '32,48,64');
    await succeeds('export-ofa', at('a.safetensors'), '--out', at('back.pth'));
    await succeeds('import', at('back.pth'), '--out', at('b.safetensors'), '--resolutions', '32,48,64');
    const [a, b] = ['a.safetensors', 'b.safetensors'].map((name) => value(readCheckpoint(at(name))));
    expect(a?.space.resolutions).toEqual([32, 48, 64]);
    expect(a && weightsHash(a)).toBe(b && weightsHash(b));
  });

  it('refuse a hostile file by name, images that do not fit, and colour without images, each in one sentence', async () => {
    writeFileSync(at('evil.pth'), Buffer.from('\x80\x02cposix\nsystem\nX\x02\x00\x00\x00ls\x85R.', 'latin1'));
    const evil = await run('ofa-fleet', ['import', at('evil.pth'), '--out', at('evil.safetensors')]);
    expect([evil.code, evil.stderr]).toEqual([1, expect.stringMatching(/^ofa-fleet: .*evil\.pth asks to load "posix\.system".*\n$/)]);
    await succeeds('import', publicFile('checkpoint.pth'), '--out', at('c.safetensors'));
    const exporting = ['export', at('c.safetensors'), '--subnet', 'smallest', '--out', at('none')];
    const large = await run('ofa-fleet', [...exporting, '--resolution', '96', '--calibration', publicFile('calib_u8.npy')]);
    expect([large.code, large.stderr]).toEqual([1, expect.stringMatching(/images of 64x64, the subnet takes 96x96/)]);
    const grey = await run('ofa-fleet', [...exporting, '--resolution', '32']);
    expect([grey.code, grey.stderr]).toEqual([
      1,
      expect.stringMatching(/do not fit space checkpoint .*--calibration IMAGES\.npy or --data DIR/),
    ]);
  });
});
