// `npm run bench:candidate`: seconds until a candidate of the supernet has a model and an accuracy (extracted, calibrated on 1,000 images,
// exported and checked, scored on 5,000), beside Once-For-All's own code in PyTorch where it is here (OFA_REPO, OFA_PYTHON as in bench:train);
// same nets, images and threads, in turns. Weights and images are random: only time counts.
import { spawn } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { cpus, tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { openBlobStore } from '../../shared/node/blob-store.ts';
import { median } from '../../shared/statistics.ts';
import { evaluateAccuracy } from '../../controller/evaluate/accuracy.ts';
import { prepareImages } from '../../controller/materialise/images.ts';
import { materialise } from '../../controller/materialise/materialise.ts';
import { supernetWeights } from '../../controller/materialise/supernet-logits.ts';
import { uniformSubnet } from '../../controller/subnet.ts';
import { selectBackend } from '../../controller/supernet/backend.ts';
import { weightsHash, type Checkpoint } from '../../controller/supernet/checkpoint.ts';
import type { ImageSet } from '../../controller/supernet/data/dataset.ts';
import { initialWeights } from '../../controller/supernet/training/initial-weights.ts';
import { randomStream } from '../../controller/supernet/training/random.ts';
import { value } from '../helpers/outcome.ts';
import { NETS, type Net } from './train-nets.ts';

const { values } = parseArgs({
  options: {
    repeats: { type: 'string', default: '5' },
    threads: { type: 'string', default: '2' },
    calibration: { type: 'string', default: '1000' },
    scored: { type: 'string', default: '5000' },
  },
});
const threads = Number(values.threads);
const { OFA_REPO: repository, OFA_PYTHON: python = 'python3' } = process.env;

/** Seconds of each part, in order. */
type Parts = Readonly<Record<string, number>>;

function randomImages(net: Net, count: number, stream: string): ImageSet {
  const random = randomStream(1, stream);
  const pixels = Uint8Array.from({ length: count * net.side * net.side * 3 }, () => random.integer(0, 255));
  return { count, height: net.side, width: net.side, channels: 3, classes: net.space.classes, labels: new Uint8Array(count), pixels };
}

function ours(net: Net): () => Promise<Parts> {
  const { space } = net;
  const checkpoint: Checkpoint = { space, tensors: initialWeights(space, 1), recipe: null, provenance: null };
  const supernet = { checkpoint, weightsHash: weightsHash(checkpoint), weights: supernetWeights(checkpoint) };
  const images = prepareImages(randomImages(net, Number(values.calibration), 'calibration'), space);
  const scored = randomImages(net, Number(values.scored), 'scored');
  const prepared = prepareImages(scored, space).streamAt(net.side);
  images.at(net.side);
  const subnet = uniformSubnet(space, { resolution: net.side, kernel: 5, expand: 4, depth: 3 });
  return async () => {
    const dir = mkdtempSync(join(tmpdir(), 'ofa-candidate-'));
    const blobs = openBlobStore(dir);
    const began = performance.now();
    const artifact = value(await materialise(supernet, subnet, { blobs, images, statistics: 'calibrated', threads }));
    const made = performance.now();
    value(await evaluateAccuracy({ manifest: artifact.manifest, blobs, images: prepared, labels: scored.labels, threads }));
    const done = performance.now();
    rmSync(dir, { recursive: true });
    return { 'extract, calibrate, export, check': (made - began) / 1000, score: (done - made) / 1000 };
  };
}

function theirs(net: Net): { readonly run: () => Promise<Parts>; readonly stop: () => void } | null {
  if (repository === undefined) return null;
  const script = fileURLToPath(new URL('candidate_ofa.py', import.meta.url));
  const args = [script, repository, net.widthMultiplier, net.side, net.space.classes, values.calibration, values.scored, threads].map(String); // prettier-ignore
  const child = spawn(python, args, { stdio: ['pipe', 'pipe', 'ignore'] });
  const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
  return {
    async run() {
      child.stdin.write('run\n');
      const line = await lines.next();
      if (line.done === true) throw new Error(`${python} ended without an answer: try ${[python, ...args].join(' ')} and type a line.`);
      return JSON.parse(line.value) as Parts;
    },
    stop: () => child.stdin.end(),
  };
}

function print(who: string, runs: readonly Parts[]): number {
  const totals = runs.map((parts) => Object.values(parts).reduce((sum, seconds) => sum + seconds, 0));
  const names = Object.keys(runs[0] ?? {});
  const each = names.map((name) => `${name} ${median(runs.map((parts) => parts[name] as number)).toFixed(3)}`).join(' + ');
  console.log(`  ${who.padEnd(8)} ${median(totals).toFixed(2)} s (${Math.min(...totals).toFixed(2)}–${Math.max(...totals).toFixed(2)}): ${each}`); // prettier-ignore
  return median(totals);
}

await selectBackend({ purpose: 'inference', threads });
console.log(`${cpus()[0]?.model.trim() ?? ''}; ${threads} threads, subnet k5 e4 d3, calibrated on ${values.calibration}, scored on ${values.scored}; median (least–most) of ${values.repeats} turns`); // prettier-ignore
if (repository === undefined) console.log('PyTorch: not run; OFA_REPO and OFA_PYTHON say where Once-For-All and a Python with torch are.');
for (const net of NETS) {
  const [own, other] = [ours(net), theirs(net)];
  const runs: { own: Parts[]; other: Parts[] } = { own: [], other: [] };
  await own();
  await other?.run();
  for (let turn = 0; turn < Number(values.repeats); turn++) {
    runs.own.push(await own());
    if (other !== null) runs.other.push(await other.run());
  }
  other?.stop();
  console.log(`\n${net.name}:`);
  const ownSeconds = print('ours', runs.own);
  if (other !== null) console.log(`  ${(print('PyTorch', runs.other) / ownSeconds).toFixed(2)} x PyTorch's rate`);
}
