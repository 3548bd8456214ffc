// The `ofa-agent` program as a user calls it, from the checkout and from the packed tarball.
import { execFile } from 'node:child_process';
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { z } from 'zod';
import { measurementSchema } from '@ofa-fleet/shared/measurement.ts';
import { writeConvStack } from '../../helpers/small-models.ts';
import { makeTree } from '../../helpers/sysfs-tree.ts';

const ROOT = fileURLToPath(new URL('../../..', import.meta.url));
const CLI = join(ROOT, 'agent/node/cli.ts');

let dir = '';
let model = '';
beforeAll(() => {
  dir = mkdtempSync(join(tmpdir(), 'ofa-cli-'));
  model = join(dir, 'model.onnx');
  writeConvStack(model, { channels: 8, size: 16, layers: 2 });
});
afterAll(() => rmSync(dir, { recursive: true, force: true }));

interface Ended {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

/** Runs a script under this Node; the host lock lies in a folder of the test's own, so that nobody waits for anybody. */
function call(script: string, args: readonly string[], node = process.execPath): Promise<Ended> {
  return new Promise((resolve) => {
    const env = { ...process.env, TMPDIR: dir };
    const child = execFile(node, [script, ...args], { env }, (_, stdout, stderr) =>
      resolve({ code: child.exitCode ?? -1, stdout, stderr }),
    );
  });
}

describe('ofa-agent compare', () => {
  it('says which of two models is faster and with what certainty, and does not tell a model from its copy', async () => {
    const [larger, copy] = [join(dir, 'larger.onnx'), join(dir, 'copy.onnx')];
    writeConvStack(larger, { channels: 16, size: 24, layers: 3 });
    writeConvStack(copy, { channels: 8, size: 16, layers: 2 });
    const { code, stdout } = await call(CLI, ['compare', larger, model, copy, '--processes', '3', '--cap', '6s']);
    expect(code).toBe(0);
    const [first = '', ...others] = stdout.split('\n');
    expect(first).toMatch(/^larger\.onnx .* slower than (model|copy)\.onnx, with 95 % certainty$/);
    expect(others.join(' ')).toContain('3 process(es)');
    expect(stdout).toContain('the fastest by its median');
  }, 60_000);
});

describe('ofa-agent measure', () => {
  it('prints the number with its interval, a verdict and where it comes from', async () => {
    const { code, stdout } = await call(CLI, ['measure', model, '--cap', '5s', '--precision', '20%']);
    expect(code).toBe(0);
    for (const word of ['latency', 'at 95 %', 'verdict', 'onnxruntime-node 1.30.0', 'input 1×8×16×16']) expect(stdout).toContain(word);
  }, 30_000);

  it('prints the whole record as JSON and writes each run as CSV', async () => {
    const samples = join(dir, 'runs.csv');
    const { code, stdout } = await call(CLI, ['measure', model, '--json', '--samples', samples, '--precision', '20%']);
    expect(code).toBe(0);
    const m = measurementSchema.parse(JSON.parse(stdout));
    const lines = readFileSync(samples, 'utf8').trim().split('\n');
    expect(lines[0]).toBe('run,ms');
    expect(lines.slice(1).map((line) => Number(line.split(',')[1]))).toEqual(m.samplesMs);
  }, 30_000);

  it('says on a full disk that the disk is full, and still prints the number', async () => {
    const { code, stdout, stderr } = await call(CLI, ['measure', model, '--samples', '/dev/full', '--precision', '20%']);
    expect(code).toBe(1);
    expect(stderr).toContain('the disk is full');
    expect(stdout).toContain('latency');
  }, 30_000);

  it('measures in several processes and says what one differs from another by', async () => {
    const { code, stdout } = await call(CLI, ['measure', model, '--json', '--processes', '3', '--precision', '20%']);
    expect(code).toBe(0);
    const { processes, medianMs, ci } = z.object({ processes: z.array(measurementSchema), medianMs: z.number(), ci: z.object({ method: z.string() }) }).parse(JSON.parse(stdout)); // prettier-ignore
    expect(processes).toHaveLength(3);
    expect(processes.map(({ latency }) => latency.value).sort()[1]).toBeCloseTo(medianMs, 9);
    expect(ci.method).toBe("Student's t over 3 processes");
    expect(processes.every(({ peakMemoryBytes }) => (peakMemoryBytes ?? 0) > 2 ** 24)).toBe(true);
  }, 60_000);

  it('shows where the time goes, by operator, as a table and as a chart', async () => {
    const chart = join(dir, 'operators.svg');
    const { code, stdout } = await call(CLI, ['measure', model, '--precision', '20%', '--profile', chart]);
    expect(code).toBe(0);
    expect(stdout).toContain('operators, mean of 50 runs');
    expect(stdout.split('\n').filter((line) => line.includes('Conv'))).toHaveLength(2);
    expect(readFileSync(chart, 'utf8')).toContain('<svg');
    const web = await call(CLI, ['measure', model, '--runtime', 'onnxruntime-web', '--precision', '20%', '--profile']);
    expect(web).toMatchObject({ code: 1 });
    expect(web.stderr).toContain('has no profiler. Take --runtime onnxruntime-node');
  }, 60_000);

  it('counts no pause as a run, and names the mode in its protocol', async () => {
    const { stdout } = await call(CLI, ['measure', model, '--json', '--mode', 'gap:5', '--cap', '3s', '--precision', '50%']);
    const m = measurementSchema.parse(JSON.parse(stdout));
    expect(m.protocolId).toContain(' gap:5 ');
    expect(m.latency.value).toBeLessThan(5);
  }, 30_000);

  it('ends with 1 and one sentence where there is no model, or the runtime cannot do what is asked', async () => {
    const missing = await call(CLI, ['measure', join(dir, 'none.onnx')]);
    expect(missing.code).toBe(1);
    expect(missing.stderr.trim().split('\n')).toHaveLength(1);
    const threads = await call(CLI, ['measure', model, '--runtime', 'onnxruntime-web', '--threads', '2']);
    expect(threads).toMatchObject({ code: 1, stdout: '' });
    expect(threads.stderr).toContain('2 threads asked');
  }, 30_000);

  it.each([
    [['measure'], 'missing required argument'],
    [['measure', 'm', '--precision', '2'], 'e.g. 2%'],
    [['measure', 'm', '--cap', '1h'], 'e.g. 30s'],
    [['measure', 'm', '--mode', 'gap:0'], 'e.g. gap:200'],
    [['measure', 'm', '--processes', '51'], 'from 1 to 50'],
    [['compare', 'm'], 'missing required argument'],
    [['measure', 'm', '--threads', '0'], 'from 1 to 64'],
    [['measure', 'm', '--runtime', 'tflite'], 'onnxruntime-web'],
    [['weigh'], 'unknown command'],
  ])('ends with 2 and says what is wrong for %j', async (args, said) => {
    const { code, stderr } = await call(CLI, args);
    expect(code).toBe(2);
    expect(stderr).toContain(said);
  });

  it.each(['measure', 'meters', 'join'])('%s --help shows an example', async (command) => {
    const { code, stdout } = await call(CLI, [command, '--help']);
    expect(code).toBe(0);
    expect(stdout).toMatch(new RegExp(`Example:\\s+ofa-agent ${command}\\s`));
  });

  it('stops within seconds on SIGINT and leaves no runner', async () => {
    const child = execFile(process.execPath, [CLI, 'measure', model, '--precision', '0.1%', '--cap', '60s'], {
      env: { ...process.env, TMPDIR: dir },
    });
    const ended = new Promise<number | null>((resolve) => child.once('exit', resolve));
    const isRunner = (pid: string) => /^\d+$/.test(pid) && parentOf(pid) === child.pid;
    let runners: readonly string[] = [];
    for (let i = 0; i < 500 && runners.length === 0; i++) {
      await new Promise((resolve) => setTimeout(resolve, 10));
      runners = readdirSync('/proc').filter(isRunner);
    }
    expect(runners).toHaveLength(1);
    child.kill('SIGINT');
    expect(await ended).toBe(1);
    expect(parentOf(runners[0] as string)).toBeNull();
  }, 30_000);
});

/** Parent of a process that runs; null where it does not run any more. */
function parentOf(pid: string): number | null {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
    const [state, parent] = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
    return state === 'Z' ? null : Number(parent);
  } catch {
    return null;
  }
}

describe('ofa-agent meters', () => {
  it('says what it found under the root it was given, and why not the rest', async () => {
    const rapl = 'class/powercap/intel-rapl:0';
    const sys = makeTree({
      [`${rapl}/name`]: 'package-0',
      [`${rapl}/energy_uj`]: 12_000_000,
      [`${rapl}/max_energy_range_uj`]: 123456789012,
      'class/powercap/intel-rapl:0:0/name': 'core',
      'class/powercap/intel-rapl:0:0/energy_uj': 5,
    });
    const { code, stdout } = await call(CLI, ['meters', '--sysfs', sys.root]);
    sys.remove();
    expect(code).toBe(0);
    expect(stdout).toMatch(/usable\s+rapl package-0: boundary package, counter, now 12\.0000 J, did not change/);
    expect(stdout).toMatch(/not used\s+rapl core .*inside the package/);
  }, 30_000);

  it('says that there is no sensor, and what that means', async () => {
    const sys = makeTree();
    const { code, stdout } = await call(CLI, ['meters', '--sysfs', sys.root]);
    sys.remove();
    expect(code).toBe(0);
    expect(stdout).toContain('SENSOR_MISSING');
  });
});

describe('the packed agent', () => {
  it('starts outside the checkout with its native packages alone, measures on both runtimes, and refuses an old Node in words', async () => {
    const run = promisify(execFile);
    const { stdout: packed } = await run(process.execPath, [join(ROOT, 'agent/pack.ts')], { cwd: ROOT });
    const home = join(dir, 'device');
    const installed = join(home, 'node_modules', 'ofa-agent');
    mkdirSync(installed, { recursive: true });
    await run('tar', ['-xzf', join(ROOT, packed.trim()), '-C', installed, '--strip-components=1']);
    const manifest = JSON.parse(readFileSync(join(installed, 'package.json'), 'utf8')) as { dependencies: Record<string, string> };
    expect(Object.keys(manifest.dependencies).sort()).toEqual(['better-sqlite3', 'onnxruntime-node']);
    for (const name of Object.keys(manifest.dependencies)) symlinkSync(join(ROOT, 'node_modules', name), join(home, 'node_modules', name));
    const bin = join(installed, 'bin', 'ofa-agent.js');
    for (const runtime of ['onnxruntime-node', 'onnxruntime-web']) {
      const { code, stdout } = await call(bin, ['measure', model, '--json', '--runtime', runtime, '--precision', '20%']);
      expect(code).toBe(0);
      expect(measurementSchema.parse(JSON.parse(stdout)).provenance.runtime.name).toBe(runtime);
    }
    const joined = await call(bin, ['join', 'mqtt://127.0.0.1:1', 'no-token', '--state', join(dir, 'state')]);
    expect(joined.code).not.toBe(0);
    // An old Node is one that says so: the check reads nothing else.
    const old = join(dir, 'old.mjs');
    writeFileSync(old, `Object.defineProperty(process.versions, 'node', { value: '20.11.1' });\nawait import(${JSON.stringify(bin)});\n`);
    const refused = await call(old, ['measure', model]);
    expect(refused).toMatchObject({ code: 1, stdout: '' });
    expect(refused.stderr).toContain('needs Node >= 22.18; this is 20.11.1');
  }, 60_000);
});
