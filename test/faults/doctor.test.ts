// `ofa-agent doctor --apply` on simulated sysfs trees, and its real death: whatever ends it, the settings come back.
import { spawn, type ChildProcess } from 'node:child_process';
import { mkdtempSync, readFileSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { makeTree, type Tree } from '../helpers/sysfs-tree.ts';

const CLI = fileURLToPath(new URL('../../agent/node/cli.ts', import.meta.url));
const CPUFREQ = 'devices/system/cpu/cpufreq';
const PROFILE = 'firmware/acpi/platform_profile';
const POLICIES = 16;

const governorFile = (n: number) => `${CPUFREQ}/policy${n}/scaling_governor`;
function clock(n: number): (readonly [string, string | number])[] {
  return [
    [governorFile(n), n % 2 === 0 ? 'schedutil' : 'powersave'],
    [`${CPUFREQ}/policy${n}/scaling_available_governors`, n === 3 ? 'powersave' : 'performance schedutil powersave'],
    [`${CPUFREQ}/policy${n}/scaling_min_freq`, 400000],
    [`${CPUFREQ}/policy${n}/scaling_max_freq`, 2400000],
  ];
}
/** A machine that saves power: 16 clocks, one of which knows no `performance`. */
const SAVING: Readonly<Record<string, string | number>> = {
  [PROFILE]: 'low-power',
  [`${PROFILE}_choices`]: 'low-power balanced performance',
  ...Object.fromEntries(Array.from({ length: POLICIES }, (_, n) => clock(n)).flat()),
};
const FILES = Object.keys(SAVING);

let sys: Tree;
let state = '';
let started: ChildProcess[] = [];
beforeEach(() => {
  sys = makeTree(SAVING);
  state = mkdtempSync(join(tmpdir(), 'ofa-doctor-'));
  started = [];
});
afterEach(() => {
  for (const child of started) child.kill('SIGKILL');
  sys.remove();
  rmSync(state, { recursive: true, force: true });
});

const read = (file: string) => readFileSync(join(sys.root, file), 'utf8').trim();
const now = () => Object.fromEntries(FILES.map((file) => [file, read(file)]));
const asItWas = Object.fromEntries(Object.entries(SAVING).map(([file, content]) => [file, String(content)]));
const journals = () => readdirSync(state).filter((name) => name.startsWith('undo-'));
const journalPath = () => join(state, journals()[0] ?? 'none');

async function until(condition: () => boolean): Promise<void> {
  for (let i = 0; i < 750 && !condition(); i++) await new Promise((resolve) => setTimeout(resolve, 20));
  expect(condition()).toBe(true);
}

interface Running {
  readonly child: ChildProcess;
  readonly ended: Promise<{ readonly code: number | null; readonly stdout: string; readonly stderr: string }>;
}

function doctor(...args: readonly string[]): Running {
  const child = spawn(process.execPath, [CLI, 'doctor', '--sysfs', sys.root, '--state', state, ...args], { stdio: 'pipe' });
  started.push(child);
  let stdout = '';
  let stderr = '';
  child.stdout.on('data', (chunk: Buffer) => (stdout += chunk.toString()));
  child.stderr.on('data', (chunk: Buffer) => (stderr += chunk.toString()));
  return { child, ended: new Promise((resolve) => child.once('close', (code) => resolve({ code, stdout, stderr }))) };
}

const isHeld = () => read(PROFILE) === 'performance' && read(governorFile(POLICIES - 1)) === 'performance';

describe('ofa-agent doctor', () => {
  it('changes nothing without --apply, and says what it would', async () => {
    const { code, stdout } = await doctor('--threads', '2').ended;
    expect(code).toBe(0);
    expect(stdout).toMatch(/doubtful\s+governor .*powersave/);
    expect(stdout).toMatch(/-> echo performance|-> for p in/);
    expect(stdout).toContain(`sets ${POLICIES + 1} setting(s) steady`);
    expect(now()).toEqual(asItWas);
    expect(journals()).toEqual([]);
  });

  it('shows by an example how it is used', async () => {
    const { code, stdout } = await doctor('--help').ended;
    expect(code).toBe(0);
    expect(stdout).toMatch(/Example:\s+ofa-agent doctor\s+sudo ofa-agent doctor --apply -- /);
  });

  it('prints its findings as JSON', async () => {
    const { stdout } = await doctor('--json').ended;
    const { findings, appliable } = JSON.parse(stdout) as { findings: { topic: string; state: string }[]; appliable: number };
    expect(appliable).toBe(POLICIES + 1);
    expect(findings.find(({ topic }) => topic === 'governor')?.state).toBe('doubtful');
  });

  it('with --apply holds the settings while a command runs, gives them back, and ends as the command did', async () => {
    const seen = join(state, 'seen');
    const script = `require('fs').copyFileSync(${JSON.stringify(join(sys.root, governorFile(0)))}, ${JSON.stringify(seen)}); process.exit(7)`;
    const { code, stderr } = await doctor('--apply', '--', process.execPath, '-e', script).ended;
    expect(code).toBe(7);
    expect(readFileSync(seen, 'utf8').trim()).toBe('performance');
    expect(stderr).toContain(`${governorFile(0)}: schedutil -> performance`);
    expect(stderr).toContain(`${CPUFREQ}/policy3/scaling_min_freq: 400000 -> 2400000`);
    expect(now()).toEqual(asItWas);
    expect(journals()).toEqual([]);
  });

  it('with --apply holds them until it is asked to stop, alone, and leaves what somebody changed meanwhile', async () => {
    const { child, ended } = doctor('--apply');
    await until(isHeld);
    sys.write({ [governorFile(0)]: 'ondemand' });
    const second = await doctor('--apply').ended;
    expect(second.code).toBe(1);
    expect(second.stderr).toContain('Another `ofa-agent doctor --apply` holds the settings');
    child.kill('SIGTERM');
    const { code, stderr } = await ended;
    expect(code).toBe(0);
    expect(stderr).toContain('is ondemand by now, not performance: left as it is');
    expect(now()).toEqual({ ...asItWas, [governorFile(0)]: 'ondemand' });
  });
});

describe('the death of a doctor that holds settings', () => {
  it('by kill -9 wakes the process that gives them back', async () => {
    const { child, ended } = doctor('--apply');
    await until(isHeld);
    child.kill('SIGKILL');
    await ended;
    await until(() => journals().length === 0);
    expect(now()).toEqual(asItWas);
  });

  it('by kill -9 at any moment leaves nothing changed', async () => {
    const { child, ended } = doctor('--apply');
    await until(() => journals().length > 0);
    child.kill('SIGKILL'); // as soon as the journal is there: before, between or after the writes
    await ended;
    await until(() => journals().length === 0);
    expect(now()).toEqual(asItWas);
  });

  it('together with that process leaves a journal, from which the next start restores', async () => {
    const { child, ended } = doctor('--apply');
    await until(isHeld);
    const { watcher } = JSON.parse(readFileSync(journalPath(), 'utf8')) as { watcher: { pid: number } };
    process.kill(watcher.pid, 'SIGKILL');
    child.kill('SIGKILL');
    await ended;
    expect(isHeld()).toBe(true);
    const { code, stderr } = await doctor().ended;
    expect(code).toBe(0);
    expect(stderr).toContain('ended without giving its settings back');
    expect(now()).toEqual(asItWas);
    expect(journals()).toEqual([]);
  });
});

describe('a journal', () => {
  /** Left by a doctor and its watcher that were both killed; changed by `edit`. */
  async function leave(edit: (journal: Record<string, unknown>) => unknown): Promise<void> {
    const { child, ended } = doctor('--apply');
    await until(isHeld);
    const journal = JSON.parse(readFileSync(journalPath(), 'utf8')) as Record<string, unknown>;
    process.kill((journal['watcher'] as { pid: number }).pid, 'SIGKILL');
    child.kill('SIGKILL');
    await ended;
    const edited = edit(journal);
    writeFileSync(journalPath(), typeof edited === 'string' ? edited : JSON.stringify(edited));
  }

  it('of before a restart of the machine is dropped: the restart has set everything back', async () => {
    await leave((journal) => ({ ...journal, bootId: 'another' }));
    await doctor().ended;
    expect(isHeld()).toBe(true);
    expect(journals()).toEqual([]);
  });

  it.each([
    ['that is cut off', () => '{"bootId":'],
    [
      'that names a file which the doctor never writes',
      (journal: Record<string, unknown>) => ({ ...journal, changes: [{ file: 'class/secret', before: 'stolen', set: 'kept' }] }),
    ],
  ])('%s is not followed, and said', async (_, edit) => {
    sys.write({ 'class/secret': 'kept' });
    await leave(edit);
    const { stderr } = await doctor().ended;
    expect(stderr).toContain('cannot be read; nothing was restored');
    expect(read('class/secret')).toBe('kept');
    expect(journals()).toEqual([]);
  });
});
