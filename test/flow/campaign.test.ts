// The controller as a service, by hand: serve, join, search, deploy, report, with kill -9 in the middle. Real processes and a tiny supernet.
import { existsSync, mkdtempSync, readFileSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { run, start, type Finished, type RunningProgram } from '../helpers/ofa-fleet.ts';
import { writeTinyCheckpoint, writeTinyImages } from '../helpers/tiny-supernet.ts';

const PATIENCE_MS = 240_000;
let dir: string;
const started: RunningProgram[] = [];

beforeAll(() => {
  dir = mkdtempSync(join(tmpdir(), 'ofa-serve-'));
  writeTinyCheckpoint(join(dir, 'tiny.safetensors'));
  writeTinyImages(join(dir, 'images'));
});

afterEach(async () => {
  for (const { process, finished } of started.splice(0).reverse()) {
    process.kill('SIGKILL');
    await finished;
  }
});

afterAll(() => rmSync(dir, { recursive: true, force: true }));

const options = () => ({ env: { TMPDIR: dir } });

function begin(program: 'ofa-fleet' | 'ofa-agent', ...args: readonly string[]): RunningProgram {
  const running = start(program, args, options());
  started.push(running);
  return running;
}

function serve(state: string, mqttPort = '0'): RunningProgram {
  return begin('ofa-fleet', 'serve', '--state', state, '--checkpoint', join(dir, 'tiny.safetensors'), '--data', join(dir, 'images'), '--mqtt-port', mqttPort, '--http-port', '0'); // prettier-ignore
}

const command = (state: string, name: string, ...args: readonly string[]): Promise<Finished> => run('ofa-fleet', [name, ...args, '--state', state], options()); // prettier-ignore

/** Broker and token out of the line that `serve` prints for a second machine. */
async function joinLine(controller: RunningProgram): Promise<{ readonly url: string; readonly token: string; readonly http: string }> {
  const line = await controller.said(/npm exec --yes --ignore-scripts --package=(\S+)\/ofa-agent\.tgz -- ofa-agent join (\S+) (\S+)/);
  return { http: line[1] as string, url: line[2] as string, token: line[3] as string };
}

/** How the campaign ended, from the controller's own stream of events: asking with a program again and again would load the machine that measures. */
async function campaignEnd(state: string, http: string, campaignId: string): Promise<string> {
  const { token } = JSON.parse(readFileSync(join(state, 'api.json'), 'utf8')) as { token: string };
  const answer = await fetch(`${http}/api/campaigns/${campaignId}/events`, { headers: { authorization: `Bearer ${token}` } });
  const events = await answer.text();
  return events.slice(events.lastIndexOf('data: '));
}

describe('serve, search, deploy and report', () => {
  it('go on after kill -9 of the controller: nothing is asked or counted twice, and the choice is deployed and answers', async () => {
    const state = join(dir, 'state');
    const first = serve(state);
    const { url, token } = await joinLine(first);
    expect(statSync(join(state, 'api.json')).mode & 0o777).toBe(0o600);
    begin('ofa-agent', 'join', url, token, '--state', join(dir, 'agent'), '--name', 'bench', '--class', 'native');
    while (!(await command(state, 'fleet')).stdout.includes('online')) await new Promise((resolve) => setTimeout(resolve, 200));

    const searching = begin('ofa-fleet', 'search', '--subnets', '3', '--state', state);
    await searching.said(/1 of 3 subnets measured on every device/);
    first.process.kill('SIGKILL');
    await first.finished;
    expect((await searching.finished).stderr).toMatch(/controller is gone/);

    const second = serve(state, new URL(url).port);
    await second.said(/Going on with campaign \S+: [1-9]\d* asked, [1-9]\d* results so far/);
    const campaignId = /Campaign (\S+):/.exec(searching.output())?.[1] as string;
    expect(await campaignEnd(state, (await joinLine(second)).http, campaignId)).toMatch(/All 3 subnets are measured on every device/);
    expect((await command(state, 'report', '--out', join(dir, 'report'))).stdout).toMatch(/^3 subnets of tiny measured on native/m);
    const { trials } = JSON.parse(readFileSync(join(dir, 'report', 'trials.json'), 'utf8')) as { trials: { ask: number; subnetId: string }[] };
    expect(new Set(trials.map(({ subnetId }) => subnetId)).size).toBe(trials.length);
    expect(existsSync(join(dir, 'report', 'report.html'))).toBe(true);

    const tight = await command(state, 'deploy', 'bench', '--budget', '0.000001');
    expect(tight.stderr).toMatch(/No measured subnet meets 0\.000001 ms on native: the fastest is .* ms ± .*Allow at least/);
    expect(tight.code).toBe(1);
    const unknown = await command(state, 'deploy', 'pi');
    expect(unknown.stderr).toMatch(/no device "pi"; the fleet has bench/);
    const deployed = await command(state, 'deploy', 'bench');
    expect(deployed.stderr).toBe('');
    const address = /at (http:\S+)\./.exec(deployed.stdout)?.[1] as string;
    expect((await fetch(`${address}/health`)).status).toBe(200);
    expect((await command(state, 'fleet')).stdout).toMatch(/bench +online +native .*serves [0-9a-f]{12} at http/);

    const busy = await run('ofa-fleet', ['serve', '--state', state, '--checkpoint', join(dir, 'tiny.safetensors'), '--data', join(dir, 'images'), '--mqtt-port', '0'], options()); // prettier-ignore
    expect(busy.stderr).toMatch(/Another controller works in .*--state/);
    expect(busy.code).toBe(1);
    second.process.kill('SIGTERM');
    expect((await second.finished).code).toBe(0);
    expect(existsSync(join(state, 'api.json'))).toBe(false);
  }, PATIENCE_MS); // prettier-ignore

  it('refuse a token that is wrong, and a request without one', async () => {
    const controller = serve(join(dir, 'guarded'));
    const { url, token, http } = await joinLine(controller);
    const wrong = `${token.slice(0, -4)}${token.endsWith('0000') ? '1111' : '0000'}`;
    const refused = await run('ofa-agent', ['join', url, wrong, '--state', join(dir, 'intruder')], options());
    expect(refused.code).toBe(1);
    expect(refused.stderr).toMatch(/token/);
    for (const headers of [{}, { authorization: 'Bearer guess' }]) {
      const answer = await fetch(`${http}/api/devices`, { headers: headers as Record<string, string> });
      expect(answer.status).toBe(401);
      expect(((await answer.json()) as { message: string }).message).toContain('api.json');
    }
    const bearer = (JSON.parse(readFileSync(join(dir, 'guarded', 'api.json'), 'utf8')) as { token: string }).token;
    const post = (body: string) => fetch(`${http}/api/campaigns`, { method: 'POST', headers: { authorization: `Bearer ${bearer}`, 'content-type': 'application/json' }, body }); // prettier-ignore
    const mistaken = await post('{"subnets": 0, "algorithm": "guess"}');
    expect(mistaken.status).toBe(400);
    expect(((await mistaken.json()) as { message: string }).message).toMatch(/subnets: .*algorithm: .*plan: /);
    expect((await post('{')).status).toBe(400);
    const alone = await command(join(dir, 'guarded'), 'search', '--subnets', '2');
    expect(alone.stderr).toMatch(/No device is online.*ofa-fleet fleet --token/);
  }, PATIENCE_MS); // prettier-ignore
});
