// What a user sees when something is wrong: one clear sentence with the value, the limit and the next step, and an exit code that says
// whether the program failed (1) or was used wrongly (2). Real processes.
import { spawn } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, truncateSync, writeFileSync, copyFileSync } from 'node:fs';
import { createServer } from 'node:net';
import type { AddressInfo } from 'node:net';
import { tmpdir, userInfo } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { run, start, type Finished } from '../../helpers/ofa-fleet.ts';
import { TINY_SPACE, writeTinyCheckpoint, writeTinyImages } from '../../helpers/tiny-supernet.ts';

const PATIENCE_MS = 120_000;
let dir: string;
const at = (name: string) => join(dir, name);

beforeAll(() => {
  dir = mkdtempSync(join(tmpdir(), 'ofa-cli-'));
  writeTinyCheckpoint(at('good.safetensors'));
  copyFileSync(at('good.safetensors'), at('cut.safetensors'));
  truncateSync(at('cut.safetensors'), 20_000);
  writeFileSync(at('text.safetensors'), 'this is no supernet, and longer than eight bytes');
  writeTinyImages(at('images'));
  writeTinyImages(at('cut-images'));
  truncateSync(join(at('cut-images'), 't10k-images-idx3-ubyte.gz'), 1000);
  writeFileSync(at('foreign.json'), JSON.stringify({ resolution: 13, stages: [[{ kernel: 9, expand: 2 }]] }));
  writeFileSync(at('broken.json'), '{');
  writeFileSync(at('space.json'), JSON.stringify(TINY_SPACE));
  mkdirSync(at('full'));
  writeFileSync(join(at('full'), 'file'), '');
});

afterAll(() => rmSync(dir, { recursive: true, force: true }));

/** One sentence (or two) on stderr, no stack trace, nothing half-done on stdout. */
function expectSentence({ stderr, stdout }: Finished, pattern: RegExp): void {
  expect(stderr).toMatch(pattern);
  expect(stderr).not.toMatch(/\n\s+at |Error:.*\n.*at /);
  expect(stderr.trim().split('\n').length).toBeLessThanOrEqual(2);
  expect(stdout).not.toMatch(/undefined|NaN|\[object/);
}

describe('a failure', () => {
  const exporting = (checkpoint: string, ...rest: readonly string[]) => ['export', at(checkpoint), '--subnet', 'smallest', '--out', at('out'), '--data', at('images'), ...rest]; // prettier-ignore
  const serving = (...rest: readonly string[]) => ['serve', '--state', at('state'), '--checkpoint', at('good.safetensors'), '--data', at('images'), '--mqtt-port', '0', '--http-port', '0', ...rest]; // prettier-ignore

  it.each<[string, () => readonly string[], RegExp]>([
    ['no model', () => exporting('absent.safetensors'), /Cannot read the supernet .*absent\.safetensors.*ofa-fleet train/],
    ['a model that is none', () => exporting('text.safetensors'), /text\.safetensors is not a readable .* header should have \d+ bytes, the whole file has 48\. Copy the file again, or make it anew with `ofa-fleet train`/], // prettier-ignore
    ['a checkpoint cut short', () => exporting('cut.safetensors'), /cut\.safetensors is not .*ends at byte \d+, the file at 20000; it was cut short\. Copy the file again, or make it anew/], // prettier-ignore
    ['a subnet of another space', () => exporting('good.safetensors', '--subnet', at('foreign.json')), /resolution 13 is none of 12, 16.*kernel of stage 1 block 1 9 is none of 3, 5/], // prettier-ignore
    ['a subnet file that is no JSON', () => exporting('good.safetensors', '--subnet', at('broken.json')), /broken\.json is not JSON \(.*\): write \{"ks"/], // prettier-ignore
    ['no subnet file', () => exporting('good.safetensors', '--subnet', at('none.json')), /no file .*none\.json.*`largest` or `smallest`/],
    ['a folder that is in use', () => exporting('good.safetensors', '--out', at('full')), /not empty: name a new one/],
    ['no data', () => exporting('good.safetensors', '--data', at('no-images')), /There is no .*no-images.*apt-get install dataset-fashion-mnist/], // prettier-ignore
    ['a data file cut short', () => exporting('good.safetensors', '--data', at('cut-images')), /t10k-images-idx3-ubyte\.gz .*cut short or no gzip file: download or copy it again/], // prettier-ignore
    ['images of more classes than the space has', () => exporting('good.safetensors', '--data', '/usr/share/datasets/fashion-mnist'), /10 classes.*tells 4 apart|There is no/], // prettier-ignore
    ['a training space that is not there', () => ['train', '--space', at('none.json'), '--out', at('x'), '--data', at('images')], /No space ".*none\.json".*fashion-tiny/], // prettier-ignore
    ['a space of coloured images', () => ['train', '--preset', 'ofa-mbv3-w1.0', '--out', at('x'), '--data', at('images')], /Space ofa-mbv3-w1\.0 takes images of 3 channels, those of images hold 1 \(grey\): give --preset fashion-tiny, or --space/], // prettier-ignore
    ['an output inside a file', () => ['train', '--out', join(at('broken.json'), 'x'), '--data', at('images'), '--space', at('space.json')], /Cannot write .*broken\.json\/x\.run.*: choose a folder that you may write to/], // prettier-ignore
    ['no controller to search with', () => ['search', '--state', at('nowhere')], /No controller runs with the state folder .*nowhere.*ofa-fleet serve --state/], // prettier-ignore
    ['no controller to ask for devices', () => ['fleet', '--state', at('nowhere')], /ofa-fleet serve --state/],
    ['no controller to deploy with', () => ['deploy', 'pi', '--state', at('nowhere')], /ofa-fleet serve --state/],
    ['nothing to report', () => ['report', '--state', at('nowhere'), '--out', at('report')], /no .*fleet\.sqlite.*--state/],
    ['an address that others reach, without --insecure', () => serving('--host', '0.0.0.0'), /0\.0\.0\.0 is reachable by other machines.*--insecure/], // prettier-ignore
    ['an address of another machine', () => serving('--host', '203.0.113.7', '--insecure'), /203\.0\.113\.7/],
    ['a demo without its supernet', () => ['demo', '--checkpoint', at('absent.safetensors'), '--out', at('demo')], /Cannot read the supernet .*absent\.safetensors.*ofa-fleet train/], // prettier-ignore
  ])('for %s is one sentence with the next step, and exit code 1', async (_, args, pattern) => {
    const finished = await run('ofa-fleet', args());
    expectSentence(finished, pattern);
    expect(finished.code).toBe(1);
  }, PATIENCE_MS); // prettier-ignore

  it('for a port in use names the port and the option, for the broker and for HTTP', async () => {
    const taken = createServer().listen(0, '127.0.0.1');
    await new Promise((resolve) => taken.once('listening', resolve));
    const port = String((taken.address() as AddressInfo).port);
    try {
      for (const option of ['--mqtt-port', '--http-port']) {
        const finished = await run('ofa-fleet', serving(option, port));
        expectSentence(finished, new RegExp(`(?=.*${port})(?=.*port)`, 's'));
        expect(finished.code).toBe(1);
      }
    } finally {
      taken.close();
    }
  }, PATIENCE_MS); // prettier-ignore

  it('leaves no half-written model behind', () => {
    expect(() => readFileSync(join(at('out'), 'model.onnx'))).toThrow();
  });
});

describe('wrong use', () => {
  it.each<[string, readonly string[], RegExp]>([
    ['no command', [], /Usage: ofa-fleet/],
    ['an unknown command', ['serch'], /unknown command 'serch'.*Did you mean search/s],
    ['an unknown option', ['search', '--budgt', '3'], /unknown option '--budgt'.*Did you mean --budget/s],
    ['a count that is none', ['search', '--subnets', 'many'], /--subnets.*whole number from 1/s],
    ['a budget below zero', ['search', '--budget', '-1'], /--budget.*number of ms above 0/s],
    ['a precision without unit', ['search', '--precision', '2'], /--precision.*0\.1% to 50%/s],
    ['a port that is none', ['serve', '--mqtt-port', '70000'], /--mqtt-port.*0 to 65535/s],
    ['an output that is not given', ['train'], /--out/],
    ['a device that is not given', ['deploy'], /missing required argument 'device'/],
    ['a budget and a subnet at once', ['deploy', 'pi', '--budget', '3', '--subnet', 'x'], /--budget or --subnet, not both/],
    ['a folder as the one file to write', ['train', '--out', '/tmp'], /--out \/tmp is a folder, the supernet is one file: give e\.g\. --out \/tmp\/supernet\.safetensors/],
    ['two spaces at once', ['train', '--preset', 'fashion-tiny', '--space', 'x.json', '--out', 'y'], /--preset or --space, not both/],
  ])('by %s exits with 2 and says what is right', async (_, args, pattern) => {
    const { code, stderr } = await run('ofa-fleet', args);
    expect(stderr).toMatch(pattern);
    expect(code).toBe(2);
  }, PATIENCE_MS); // prettier-ignore
});

describe('--help', () => {
  it.each(['train', 'finetune', 'exits', 'export', 'search', 'serve', 'fleet', 'deploy', 'report', 'demo'])('of %s shows an example', async (command) => {
    const { code, stdout } = await run('ofa-fleet', [command, '--help']);
    expect(stdout).toMatch(new RegExp(`Example:\\n  ofa-fleet ${command}`));
    expect(code).toBe(0);
  }, PATIENCE_MS); // prettier-ignore
});

describe('export', () => {
  it('waits, and says so, while another process has its turn on this host', async () => {
    const env = { TMPDIR: at('turns') };
    const lock = join(at('turns'), `ofa-fleet-${userInfo().username}`, 'host.lock');
    mkdirSync(at('turns'));
    const holder = spawn(process.execPath, [join(import.meta.dirname, '../../helpers/lock-holder.ts'), lock], { stdio: ['pipe', 'pipe', 'inherit'] }); // prettier-ignore
    await new Promise<void>((resolve) => holder.stdout.on('data', (chunk: Buffer) => chunk.toString().includes('held') && resolve()));
    const program = start('ofa-fleet', ['export', at('good.safetensors'), '--subnet', 'smallest', '--out', at('after-turn'), '--data', at('images')], { env }); // prettier-ignore
    await program.said(/Waiting for its turn/);
    expect(existsSync(at('after-turn'))).toBe(false);
    holder.stdin.write('go\n');
    expect((await program.finished).code).toBe(0);
    expect(existsSync(join(at('after-turn'), 'model.onnx'))).toBe(true);
  }, PATIENCE_MS); // prettier-ignore

  it('writes a model with its data, and says what to do next', async () => {
    const { code, stdout } = await run('ofa-fleet', ['export', at('good.safetensors'), '--subnet', 'largest', '--out', at('model'), '--data', at('images')]); // prettier-ignore
    expect(stdout).toMatch(/MACs.*parameters.*1 x 1 x 16 x 16/);
    expect(stdout).toContain('ofa-agent measure');
    expect(code).toBe(0);
    expect(readFileSync(join(at('model'), 'model.onnx')).length).toBeGreaterThan(1000);
  }, PATIENCE_MS); // prettier-ignore
});
