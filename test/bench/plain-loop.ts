// The other side of bench:truth: what anyone would write to time a model with onnxruntime-node. Uses nothing of this project.
// Arguments: the model, and a fixed number of runs after one. Prints the median in ms; without a number that of half a second (30 runs at least)
// after half a second of warm-up.
import * as ort from 'onnxruntime-node';

const session = await ort.InferenceSession.create(process.argv[2] as string, { intraOpNumThreads: 1, interOpNumThreads: 1 });
const metadata = session.inputMetadata[0];
const shape = metadata?.isTensor === true ? metadata.shape.map((dim) => (typeof dim === 'number' ? dim : 1)) : [];
const values = Float32Array.from({ length: shape.reduce((product, dim) => product * dim, 1) }, () => Math.random());
const feeds = { [session.inputNames[0] as string]: new ort.Tensor('float32', values, shape) };

const WARM_UP_MS = 500;
const TIMED_MS = 500;
const RUNS = 30;

const fixed = process.argv[3] === undefined ? null : Number(process.argv[3]);
const warm = performance.now() + (fixed === null ? WARM_UP_MS : 0);
do await session.run(feeds);
while (performance.now() < warm);

const times: number[] = [];
const until = performance.now() + TIMED_MS;
while (times.length < (fixed ?? RUNS) || (fixed === null && performance.now() < until)) {
  const began = performance.now();
  await session.run(feeds);
  times.push(performance.now() - began);
}
times.sort((a, b) => a - b);
process.stdout.write(`${times[times.length >> 1]}\n`);
