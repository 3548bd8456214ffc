// The demo's folder: what is moved and deleted, and what never is.
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { setAsidePrevious } from '../../../controller/cli/demo-folder.ts';

let dir: string;
let out: string;
beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), 'ofa-demo-folder-'));
  out = join(dir, 'out');
});
afterEach(() => rmSync(dir, { recursive: true, force: true }));

function fill(folder: string, ...names: readonly string[]): void {
  mkdirSync(folder, { recursive: true });
  for (const name of names) writeFileSync(join(folder, name), folder);
}

it('sets a finished demo aside, in place of the one before', () => {
  fill(out, 'summary.txt', 'fleet.sqlite');
  fill(`${out}.previous`, 'summary.txt', 'fleet.sqlite', 'older');
  expect(setAsidePrevious(out)).toEqual({ ok: true, value: true });
  expect(existsSync(out)).toBe(false);
  expect(existsSync(join(`${out}.previous`, 'older'))).toBe(false);
  expect(readFileSync(join(`${out}.previous`, 'summary.txt'), 'utf8')).toBe(out);
});

it('leaves a demo that was cut off where it is', () => {
  fill(out, 'fleet.sqlite');
  expect(setAsidePrevious(out)).toEqual({ ok: true, value: false });
  expect(existsSync(join(out, 'fleet.sqlite'))).toBe(true);
});

it("moves no folder of another program's summary, and deletes no folder that is only named like a previous demo", () => {
  fill(out, 'summary.txt', 'thesis.tex');
  expect(setAsidePrevious(out)).toMatchObject({ ok: false, reason: 'INVALID_INPUT' });
  expect(existsSync(join(out, 'thesis.tex'))).toBe(true);
  fill(out, 'fleet.sqlite');
  fill(`${out}.previous`, 'photos.zip');
  expect(setAsidePrevious(out)).toMatchObject({ ok: false, reason: 'INVALID_INPUT' });
  expect(existsSync(join(`${out}.previous`, 'photos.zip'))).toBe(true);
});
