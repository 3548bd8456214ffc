// The demo as a user runs it, with a tiny supernet: real controller, broker, agents and runtimes, killed and taken up again.
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import Database from 'better-sqlite3';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { start, type RunningProgram } from '../helpers/ofa-fleet.ts';
import { writeTinyCheckpoint, writeTinyImages } from '../helpers/tiny-supernet.ts';

const PATIENCE_MS = 240_000;
let dir: string;

beforeAll(() => {
  dir = mkdtempSync(join(tmpdir(), 'ofa-demo-'));
  writeTinyCheckpoint(join(dir, 'tiny.safetensors'));
  writeTinyImages(join(dir, 'images'));
});

afterAll(() => rmSync(dir, { recursive: true, force: true }));

/** With a temporary folder of its own, so that no other user of this host's lock takes part. */
function startDemo(out: string, ...options: readonly string[]): RunningProgram {
  const args = [
    'demo',
    '--subnets',
    '4',
    '--cap',
    '150',
    '--checkpoint',
    join(dir, 'tiny.safetensors'),
    '--data',
    join(dir, 'images'),
    '--out',
    out,
  ];
  return start('ofa-fleet', [...args, ...options], { env: { TMPDIR: dir } });
}

/** Processes with `text` among their arguments. */
function processesOf(text: string): readonly number[] {
  return readdirSync('/proc').flatMap((name) => {
    if (!/^\d+$/.test(name) || Number(name) === process.pid) return [];
    try {
      return readFileSync(`/proc/${name}/cmdline`, 'utf8').includes(text) ? [Number(name)] : [];
    } catch {
      return []; // it has ended meanwhile
    }
  });
}

async function until(condition: () => boolean): Promise<void> {
  while (!condition()) await new Promise((resolve) => setTimeout(resolve, 50));
}

describe('the demo', () => {
  it('survives kill -9 of itself and of an agent, counts nothing twice, and leaves everything it promises', async () => {
    const out = join(dir, 'out');
    const first = startDemo(out);
    await first.said(/[12] of 4 subnets measured on every device/);
    first.process.kill('SIGKILL');
    await first.finished;
    // nobody is left to measure for a demo that is gone
    await until(() => processesOf(join(out, 'agents')).length === 0);

    const second = startDemo(out);
    await second.said(/Going on with the demo that was cut off: [1-9]/);
    process.kill(processesOf(join(out, 'agents', 'wasm'))[0] as number, 'SIGKILL');
    await second.said(/Agent wasm was killed by SIGKILL; it is started again/);
    const { code, stdout, stderr } = await second.finished;
    expect(code, stdout + stderr).toBe(0);
    expect(processesOf(join(out, 'agents'))).toEqual([]);

    const db = new Database(join(out, 'fleet.sqlite'), { readonly: true });
    const count = (sql: string) => (db.prepare(sql).get() as { n: number }).n;
    expect(count('SELECT count(DISTINCT id) n FROM campaign')).toBe(1);
    expect(count('SELECT count(*) n FROM ask')).toBe(count('SELECT count(DISTINCT subnet_id) n FROM ask'));
    expect(count('SELECT count(*) n FROM job')).toBe(count('SELECT count(DISTINCT dedupe_key) n FROM job'));
    expect(count(`SELECT count(*) n FROM (SELECT subnet_id FROM tell WHERE json_extract(outcome_json, '$.ok') GROUP BY subnet_id HAVING count(*) = 2)`)).toBeGreaterThanOrEqual(4); // prettier-ignore
    expect(count('SELECT count(*) n FROM device')).toBe(2);
    expect(count('SELECT count(*) n FROM served_check')).toBe(4);
    expect(count('SELECT min(agreeing) n FROM served_check')).toBeGreaterThanOrEqual(499);
    const measured = count('SELECT count(*) n FROM job_result');
    db.close();

    for (const name of ['front.svg', 'trials.csv', 'trials.json', 'report.html', 'summary.txt']) expect(existsSync(join(out, name)), name).toBe(true);
    expect(readdirSync(join(out, 'samples'))).toHaveLength(measured);
    for (const sentence of [/1\/5 This machine/, /No energy sensor|rapl|hwmon/, /4\/5 One subnet for each device/, /On native, with a budget of/, /On wasm, with a budget of/, /largest subnet/, /choice by MACs alone/, /500 of 500|499 of 500/]) {
      expect(stdout).toMatch(sentence);
    }
    expect(stdout).not.toMatch(/undefined|NaN|\[object/);

    const third = startDemo(out);
    await third.said(/The last demo's results are moved to .*previous/);
    await third.said(/0 of 4 subnets measured on every device/);
    third.process.kill('SIGINT');
    const stopped = await third.finished;
    expect(stopped.code).toBe(130);
    expect(stopped.stderr).toContain('the same command goes on from there');
    expect(processesOf(join(out, 'agents'))).toEqual([]);
    expect(existsSync(join(`${out}.previous`, 'summary.txt'))).toBe(true);
  }, PATIENCE_MS); // prettier-ignore

  it('says what the fastest subnet is where none keeps the budget, deploys nothing, and fails', async () => {
    const { code, stdout, stderr } = await startDemo(join(dir, 'tight'), '--subnets', '2', '--budget', '0.000001').finished;
    expect(stdout).toMatch(/No measured subnet meets 0\.000001 ms on native: the fastest is .* ms ± /);
    expect(stderr).toMatch(/Nothing was deployed.*--budget/);
    expect(code).toBe(1);
  }, PATIENCE_MS); // prettier-ignore
});
