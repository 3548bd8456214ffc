// Lesions: one part cut out of the real loop, and the result has to move as predicted. If it did not, the part would be a shell.
import { execFile } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, rmdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { afterEach, describe, expect, it } from 'vitest';
import { DEFAULT_PLAN, type Measurement } from '../../shared/measurement.ts';
import { ok } from '../../shared/outcome.ts';
import { wilson } from '../../shared/statistics.ts';
import { measureOnce } from '../../controller/api/measure-beside.ts';
import type { Fleet, JobEnd } from '../../controller/fleet/fleet.ts';
import { randomSubnet } from '../../controller/search/operators.ts';
import { below, stream } from '../../controller/search/rng.ts';
import { largestSubnet, smallestSubnet, subnetId } from '../../controller/subnet.ts';
import { encodeCheckpoint, readCheckpoint } from '../../controller/supernet/checkpoint.ts';
import { value } from '../helpers/outcome.ts';
import { AGENT, frontOf, openLab, share, type Lab, type LabAgent, type Point } from './lab.ts';
import { SHIPPED_CHECKPOINT } from '../../controller/main.ts';

const run = promisify(execFile);
const never = new AbortController().signal;
const PLAIN_LOOP = fileURLToPath(new URL('../bench/plain-loop.ts', import.meta.url));
const CPU_CGROUP = '/sys/fs/cgroup/cpu';

let lab: Lab | null = null;
async function open(agents: readonly LabAgent[], checkpoint?: string): Promise<Lab> {
  lab = await openLab(agents, checkpoint);
  return lab;
}
afterEach(async () => {
  await lab?.close();
  lab = null;
});

/** One measurement of a subnet through controller, broker and agent. */
async function measure(
  { controller }: Lab,
  deviceClass: string,
  subnet = largestSubnet(controller.checkpoint.space),
  attempt = 1,
): Promise<JobEnd> {
  const { manifestSha256 } = value(await controller.prepare(subnet, never));
  const name = { campaignId: 'lesion', purpose: 'search', subnetId: subnetId(controller.checkpoint.space, subnet), deviceClass } as const;
  return (await measureOnce(controller.fleet, { name, manifestSha256, plan: DEFAULT_PLAN }, attempt, never)) as JobEnd;
}

function quotaCgroup(): { readonly confine: (pid: number) => void; readonly remove: () => Promise<void> } {
  const dir = join(CPU_CGROUP, `ofa-lesion-${process.pid}`);
  mkdirSync(dir);
  writeFileSync(join(dir, 'cpu.cfs_period_us'), '100000');
  writeFileSync(join(dir, 'cpu.cfs_quota_us'), '50000');
  return {
    confine: (pid) => writeFileSync(join(dir, 'cgroup.procs'), String(pid)),
    async remove() {
      for (let tries = 0; tries < 50; tries++) {
        try {
          rmdirSync(dir);
          return;
        } catch {
          await sleep(100); // the kernel still counts the processes that have just ended
        }
      }
    },
  };
}

describe('a lesion of the machine', () => {
  const writable = existsSync(join(CPU_CGROUP, 'cpu.cfs_quota_us'));
  it.skipIf(!writable)(
    'half the CPU by a quota is flagged on every measurement, and no such number is believed (needs a writable cgroup v1)',
    async () => {
      const quota = quotaCgroup();
      const cut = await open([{ name: 'quota', confine: quota.confine }]);
      const { points, censored } = await cut.search({ subnets: 3, seed: 1, capMs: 120_000 });
      console.log(`quota: ${points['quota']?.length ?? 0} believed, ${censored.length} censored: ${censored.join(', ')}`);
      await lab?.close();
      lab = null;
      await quota.remove();
      expect(points['quota']).toEqual([]);
      expect(censored.length).toBeGreaterThanOrEqual(3);
      expect(new Set(censored)).toEqual(new Set(['THROTTLED']));
    },
  );

  it('without the addon of onnxruntime the agent says so and joins no fleet, and there is no number', async () => {
    const { controller } = await open([]);
    const { manifestSha256 } = value(await controller.prepare(smallestSubnet(controller.checkpoint.space), never));
    const model = lab?.exportModel(manifestSha256) as string;
    const token = await controller.fleet.createToken({ name: 'bare', lifetimeMs: 60_000 });
    const state = mkdtempSync(join(tmpdir(), 'ofa-bare-'));
    const options = { env: { ...process.env, NODE_OPTIONS: `--import=${new URL('../helpers/without-addons.mjs', import.meta.url).href}` } };
    const calls = [
      ['measure', model, '--json'],
      ['join', controller.fleet.brokerUrl, token, '--state', state, '--name', 'bare'],
    ];
    for (const args of calls) {
      const ended = await run(process.execPath, [AGENT, ...args], options).then(
        () => ({ code: 0, stdout: '', stderr: '' }),
        (error: unknown) => error as { code: number; stdout: string; stderr: string },
      );
      console.log(`no addon, ${args[0]}: exit ${ended.code}, ${(ended.stdout + ended.stderr).trim()}`);
      expect(ended.code).toBe(1);
      expect(ended.stdout + ended.stderr).toMatch(/onnxruntime-node cannot be loaded .* Reinstall it/);
      expect(ended.stdout).not.toMatch(/latency|samples/);
    }
    rmSync(state, { recursive: true });
    expect(await controller.fleet.devices()).toEqual([]);
  });
});

describe('a lesion of the supernet', () => {
  it('random weights answer as chance does: about 10 %', async () => {
    const checkpoint = value(readCheckpoint(SHIPPED_CHECKPOINT));
    const rng = stream(7, 0);
    const tensors = new Map(
      [...checkpoint.tensors].map(([name, tensor]) => {
        const scale = Math.sqrt(tensor.data.reduce((sum, x) => sum + x * x, 0) / tensor.data.length);
        // convolutions and linears only: statistics stay positive, and calibration replaces them anyway
        if (tensor.shape.length < 2) return [name, tensor] as const;
        return [name, { ...tensor, data: tensor.data.map(() => scale * 1.732 * (below(rng, 2_000_001) / 1e6 - 1)) }] as const;
      }),
    );
    const dir = mkdtempSync(join(tmpdir(), 'ofa-random-weights-'));
    const path = join(dir, 'random.safetensors');
    writeFileSync(path, encodeCheckpoint({ ...checkpoint, tensors, provenance: null }));
    const { controller } = await open([], path);
    const { correct, total } = value(await controller.testAccuracy(largestSubnet(checkpoint.space), never));
    rmSync(dir, { recursive: true });
    const { lo, hi } = wilson(correct, total);
    console.log(`random weights: accuracy ${(100 * correct) / total} % [${100 * lo}, ${100 * hi}]`);
    // An untrained net leans to few classes, each a tenth of the images, so its accuracy scatters about 10 % by more than Wilson's interval.
    expect(correct / total).toBeGreaterThan(0.05);
    expect(correct / total).toBeLessThan(0.15);
  });
});

describe('a lesion of the feedback', () => {
  it('latencies shuffled among the candidates before they are told give a clearly worse front', async () => {
    const whole = await open([{ name: 'native' }]);
    const { fleet } = whole.controller;
    const real = await whole.search({ subnets: 40, seed: 3 });
    const truth = new Map((real.points['native'] ?? []).map((point) => [point.subnetId, point]));

    // The lesion: each result carries the latency of a candidate drawn from those measured so far.
    const seen: Measurement['latency'][] = [];
    const swapped = new Map<string, JobEnd>();
    const rng = stream(11, 0);
    const swap = (end: JobEnd): JobEnd => {
      if (!end.outcome.ok) return end;
      const known = swapped.get(end.jobId);
      if (known !== undefined) return known;
      const { latency } = end.outcome.value;
      seen.push(latency);
      const told = { ...end, outcome: ok({ ...end.outcome.value, latency: seen[below(rng, seen.length)] ?? latency }) };
      swapped.set(end.jobId, told);
      return told;
    };
    const shuffled: Fleet = {
      ...fleet,
      onJobEnd: (listener) => fleet.onJobEnd((end) => listener(swap(end))),
      jobEnd: async (jobId) => {
        const end = await fleet.jobEnd(jobId);
        return end === null ? null : swap(end);
      },
    };
    const cut = await whole.search({ subnets: 40, seed: 3, fleet: shuffled });

    // What its believers would deploy, at the latency that it really has: measured in this run or in the other.
    const honest: Point[] = [];
    for (const point of frontOf(cut.points['native'] ?? [])) {
      const known = truth.get(point.subnetId);
      if (known !== undefined) honest.push(known);
      else {
        const end = await measure(whole, 'native', point.subnet);
        const { latency } = value(end.outcome);
        honest.push({ ...point, latencyMs: latency.value ?? NaN, ci: latency.ci ?? point.ci });
      }
    }
    const limitMs = 1.1 * Math.max(...[...truth.values()].map(({ latencyMs }) => latencyMs));
    const front = frontOf([...truth.values()]);
    const pessimistic = share(front.map((point) => ({ ...point, latencyMs: point.ci.hi })), 0.9, limitMs); // prettier-ignore
    const lesioned = share(honest.map((point) => ({ ...point, latencyMs: point.ci.lo })), 0.9, limitMs); // prettier-ignore
    console.log(`front by hypervolume: whole >= ${pessimistic.toFixed(4)}, shuffled <= ${lesioned.toFixed(4)}`);
    expect(lesioned).toBeLessThan(pessimistic);
  });
});

describe('a lesion of one operator on one device', () => {
  it('7x7 convolutions that are three times slower there drive their gene off its front, and not off the other device’s', async () => {
    const cut = await open([{ name: 'slowed', preload: new URL('./slow-kernel7.ts', import.meta.url) }, { name: 'plain' }]);
    const { points } = await cut.search({ subnets: 60, seed: 5 });
    const kernels = (deviceClass: string) => {
      const blocks = frontOf(points[deviceClass] ?? []).flatMap(({ subnet }) => subnet.stages.flat());
      return { seven: blocks.filter(({ kernel }) => kernel === 7).length, total: blocks.length };
    };
    const [slowed, plain] = [kernels('slowed'), kernels('plain')];
    const [a, b] = [slowed.seven / slowed.total, plain.seven / plain.total];
    console.log(`7x7 blocks on the front: slowed ${slowed.seven} of ${slowed.total}, plain ${plain.seven} of ${plain.total}`);
    expect(b).toBeGreaterThan(0);
    expect(a).toBeLessThan(b / 2);
  });
});

describe('a check from outside', () => {
  it('of 30 random subnets, a plain loop finds at least 27 inside the agent’s interval plus the cost of the binding', async () => {
    const whole = await open([{ name: 'native' }]);
    const { space } = whole.controller.checkpoint;
    const rng = stream(13, 0);
    let inside = 0;
    for (let trial = 0; trial < 30; trial++) {
      const subnet = randomSubnet(space, rng);
      const { manifestSha256 } = value(await whole.controller.prepare(subnet, never));
      const { latency, bindingMs } = value((await measure(whole, 'native', subnet, trial)).outcome);
      const turn = value(await whole.controller.takeTurn(never));
      const { stdout } = await run(process.execPath, [PLAIN_LOOP, whole.exportModel(manifestSha256)]);
      turn.release();
      const plainMs = Number(stdout);
      const slack = bindingMs ?? 0;
      const { lo, hi } = latency.ci ?? { lo: NaN, hi: NaN };
      const hit = plainMs >= lo - slack && plainMs <= hi + slack;
      if (hit) inside++;
      console.log(
        `${hit ? 'inside ' : 'OUTSIDE'} plain ${plainMs.toFixed(4)} agent ${latency.value?.toFixed(4)} [${lo.toFixed(4)}, ${hi.toFixed(4)}] binding ${slack.toFixed(4)} ms`,
      );
    }
    console.log(`${inside} of 30 inside`);
    expect(inside).toBeGreaterThanOrEqual(27);
  });
});
