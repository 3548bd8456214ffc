// The experiment's own command on a user's copy of Tiny ImageNet: a small folder in its exact layout stands for the copy, a hair of the
// published schedule for its length.
import { execFile } from 'node:child_process';
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { afterAll, expect, it } from 'vitest';
import { writeTinyImageNet } from './data/made-images.ts';

const scratch = mkdtempSync(join(tmpdir(), 'experiment-'));
afterAll(() => rmSync(scratch, { recursive: true }));

it('experiment:ofav2 trains by the published recipe on a folder in the layout of Tiny ImageNet, and reports what it saw', async () => {
  const [data, results, out] = ['tiny-imagenet-200', 'results', 'out'].map((name) => join(scratch, name)) as [string, string, string];
  writeTinyImageNet(data, 28); // one batch, once 15 % are split off
  const program = fileURLToPath(new URL('../../experiments/ofav2/run.ts', import.meta.url));
  const args = ['--data', data, '--results', results, '--out', out, '--scale', '0.00001', '--settings', '2', '--arms', 'EE_D-pet', '--seeds', '1', '--minutes', '4']; // prettier-ignore
  const { stdout } = await promisify(execFile)(process.execPath, [program, ...args]);
  expect(stdout).toContain('EE_D-pet-1: done');
  expect(readdirSync(results).sort()).toEqual(['EE_D-pet-1.json', 'README.md', 'phases.svg', 'uniform.svg']);
  const run = JSON.parse(readFileSync(join(results, 'EE_D-pet-1.json'), 'utf8')) as { phases: { phase: string }[]; provenance: unknown };
  expect(run.phases.map(({ phase }) => phase)).toEqual(['full', 'kernel', 'height-1', 'height-2', 'height-3', 'height-4', 'depth-1', 'depth-2', 'width-1', 'width-2']); // prettier-ignore
  expect(run.provenance).toMatchObject({ trainingImages: 71, testImages: 6 });
  expect(readFileSync(join(results, 'README.md'), 'utf8')).toContain('published recipe at scale 0.00001');
}, 300_000);
