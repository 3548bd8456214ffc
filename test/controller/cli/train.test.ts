// What `ofa-fleet train` leaves behind. A real process.
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { readCheckpoint } from '../../../controller/supernet/checkpoint.ts';
import { run } from '../../helpers/ofa-fleet.ts';
import { value } from '../../helpers/outcome.ts';
import { TINY_SPACE, writeTinyImages } from '../../helpers/tiny-supernet.ts';

let dir: string;
beforeAll(() => {
  dir = mkdtempSync(join(tmpdir(), 'ofa-train-'));
  writeTinyImages(join(dir, 'my images'));
  writeFileSync(join(dir, 'space.json'), JSON.stringify(TINY_SPACE));
});
afterAll(() => rmSync(dir, { recursive: true, force: true }));

describe('a trained supernet', () => {
  it('says the command that made it as it was typed, fit to be typed again', async () => {
    const out = join(dir, 'net.safetensors');
    const space = join(dir, 'space.json');
    const args = ['train', '--out', out, '--space', space, '--data', join(dir, 'my images'), '--scale', '1e-3', '--threads', '1'];
    const { code, stderr } = await run('ofa-fleet', args);
    expect(stderr.split('\n').filter((line) => line.startsWith('ofa-fleet:'))).toEqual([]);
    expect(code).toBe(0);
    expect(value(readCheckpoint(out)).provenance?.command).toBe(
      `ofa-fleet train --out ${out} --space ${space} --data '${join(dir, 'my images')}' --scale 1e-3 --threads 1`,
    );
  }, 120_000); // prettier-ignore
});
