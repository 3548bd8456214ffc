// `npm run bench:train`: training images per second of the elastic supernet with distillation from its largest net, native TensorFlow and WebAssembly
// beside Once-For-All's own code in PyTorch where it is here; same net, batch and threads, in turns; then where the time goes (`--profile-steps`) and
// whether memory stays flat (`--memory-steps 1000 --repeats 0`). For PyTorch, OFA_REPO names a clone of github.com/mit-han-lab/once-for-all and
// OFA_PYTHON a Python with all that it imports: pip install torch torchvision pillow numpy pyyaml tqdm (CPU builds do).
import { spawn } from 'node:child_process';
import { cpus } from 'node:os';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { median } from '../../shared/statistics.ts';
import type { OperatorTimes } from './operator-times.ts';
import { NETS, type Net } from './train-nets.ts';

const { values } = parseArgs({
  options: {
    nets: { type: 'string', default: NETS.map(({ name }) => name).join() },
    subnets: { type: 'string', default: '1,4' },
    threads: { type: 'string', default: '1' },
    batch: { type: 'string', default: '64' },
    repeats: { type: 'string', default: '5' },
    /** Images a repeat of an arm trains on, so that fast and slow nets take about the same care. */
    images: { type: 'string', default: '128' },
    arms: { type: 'string', default: 'native,wasm,pytorch,pytorch-channels-last' },
    'profile-steps': { type: 'string', default: '3' },
    'memory-steps': { type: 'string', default: '0' },
  },
});
const { OFA_REPO: repository, OFA_PYTHON: python = 'python3' } = process.env;
const batch = Number(values.batch);

interface Trainer {
  ask(what: 'run' | 'profile', steps: number): Promise<unknown>;
  stop(): void;
}

interface Run {
  readonly seconds: number;
  readonly after: { readonly tensors: number; readonly rssBytes: number };
}

function start(command: string, args: readonly string[]): Trainer {
  const child = spawn(command, args, { stdio: ['pipe', 'pipe', 'inherit'] });
  const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
  return {
    async ask(what, steps) {
      child.stdin.write(`${what} ${steps}\n`);
      const line = await lines.next();
      if (line.done === true) throw new Error(`${command} ${args.join(' ')} ended without an answer.`);
      return JSON.parse(line.value) as unknown;
    },
    stop: () => child.stdin.end(),
  };
}

const file = (name: string) => fileURLToPath(new URL(name, import.meta.url));

/** null: that arm cannot run here. */
function startArm(arm: string, net: Net, subnets: string, threads: string): Trainer | null {
  const ours = (backend: string) => start(process.execPath, [file('train-worker.ts'), backend, net.name, subnets, values.batch, threads]);
  const theirs = (layout: string) =>
    repository === undefined
      ? null
      : start(python, [file('train_ofa.py'), repository, String(net.widthMultiplier), String(net.side), String(net.space.classes), subnets, values.batch, threads, layout]); // prettier-ignore
  if (arm === 'native') return ours('tensorflow');
  if (arm === 'wasm') return threads === '1' ? ours('wasm') : null; // the backend has one thread in Node
  return theirs(arm === 'pytorch' ? 'contiguous' : 'channels_last');
}

function table(arms: readonly string[], rates: readonly (readonly number[])[]): void {
  const reference = arms.indexOf('pytorch');
  const theirs = reference < 0 ? null : median(rates[reference] as readonly number[]);
  arms.forEach((arm, i) => {
    const own = rates[i] as readonly number[];
    const ratio = theirs === null ? '' : `${(median(own) / theirs).toFixed(2)} x PyTorch`;
    const spread = `(${Math.min(...own).toFixed(1)}–${Math.max(...own).toFixed(1)})`;
    console.log(`  ${arm.padEnd(22)}${median(own).toFixed(1).padStart(8)} images/s ${spread.padEnd(18)}${ratio}`);
  });
}

function printProfile(arm: string, { seconds, operators }: OperatorTimes): void {
  const inside = Object.values(operators).reduce((sum, s) => sum + s, 0);
  const share = (s: number) => `${((100 * s) / seconds).toFixed(1)} %`;
  const largest = Object.entries(operators).sort(([, a], [, b]) => b - a);
  const slicing = largest.filter(([name]) => /^(Slice|Pad|PadV2)$/.test(name)).reduce((sum, [, s]) => sum + s, 0);
  console.log(`  ${arm}: ${largest.slice(0, 14).map(([name, s]) => `${name} ${share(s)}`).join(', ')}`); // prettier-ignore
  console.log(
    `    slices of weights and their gradients (Slice, Pad): ${share(slicing)}; outside of operators: ${share(seconds - inside)}`,
  );
}

/** Tensors and resident memory after the first hundred steps, when every parameter has its momentum and the heap its size, halfway, and at the end. */
async function printMemory(arm: string, trainer: Trainer, last: number): Promise<void> {
  const seen: string[] = [];
  let done = 0;
  for (const at of [100, Math.round(last / 2), last].filter((steps, i, all) => steps > (all[i - 1] ?? 0))) {
    const { after } = (await trainer.ask('run', at - done)) as Run;
    seen.push(`${at}: ${after.tensors} tensors, ${(after.rssBytes / 1e6).toFixed(0)} MB`);
    done = at;
  }
  console.log(`  ${arm}, memory after steps ${seen.join('; ')}`);
}

console.log(
  `${cpus()[0]?.model.trim() ?? ''}; batch ${batch}, float32, random images in memory; median (least–most) of ${values.repeats} turns`,
);
if (repository === undefined) console.log('PyTorch: not run; OFA_REPO and OFA_PYTHON say where Once-For-All and a Python with torch are.');
for (const net of NETS.filter(({ name }) => values.nets.split(',').includes(name))) {
  for (const threads of values.threads.split(',')) {
    for (const subnets of values.subnets.split(',')) {
      const steps = Math.max(1, Math.round(Number(values.images) / batch / Number(subnets)));
      const started = values.arms.split(',').map((arm) => ({ arm, trainer: startArm(arm, net, subnets, threads) }));
      const running = started.filter((each): each is { arm: string; trainer: Trainer } => each.trainer !== null);
      console.log(`\n${net.name}, ${net.space.classes} classes, ${subnets} subnet(s) a step, ${threads} thread(s):`);
      if (Number(values.repeats) > 0) for (const { trainer } of running) await trainer.ask('run', 1);
      const rates = running.map((): number[] => []);
      for (let turn = 0; turn < Number(values.repeats); turn++) {
        for (const [i, { trainer }] of running.entries()) {
          const { seconds } = (await trainer.ask('run', steps)) as Run;
          rates[i]?.push((steps * batch) / seconds);
        }
      }
      if (Number(values.repeats) > 0) table(running.map(({ arm }) => arm), rates); // prettier-ignore
      for (const { arm, trainer } of running.filter((each) => !each.arm.startsWith('pytorch'))) {
        if (Number(values['profile-steps']) > 0) {
          printProfile(arm, (await trainer.ask('profile', Number(values['profile-steps']))) as OperatorTimes);
        }
        if (Number(values['memory-steps']) > 0) await printMemory(arm, trainer, Number(values['memory-steps']));
      }
      for (const { trainer } of running) trainer.stop();
    }
  }
}
