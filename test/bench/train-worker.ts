// One backend of `npm run bench:train`, in a process of its own: trains the elastic supernet by the product's own step on random images, as
// many steps as each line on stdin asks for, and answers with one JSON line.
import { createInterface } from 'node:readline';
import * as tf from '@tensorflow/tfjs';
import { selectBackend } from '../../controller/supernet/backend.ts';
import { startElasticSteps } from '../helpers/elastic-steps.ts';
import { profiled } from './operator-times.ts';
import { NETS } from './train-nets.ts';

const [only, netName, subnets, batch, threads] = process.argv.slice(2) as ['tensorflow' | 'wasm', string, string, string, string];
const net = NETS.find(({ name }) => name === netName);
if (net === undefined) throw new Error(`no net "${netName}"`);
await selectBackend({ purpose: 'training', only, threads: Number(threads) });
const trainer = startElasticSteps(net.space, Number(batch), Number(subnets));

async function steps(number: number): Promise<number> {
  const began = performance.now();
  await trainer.run(number);
  return (performance.now() - began) / 1000;
}

const rssBytes = () => process.memoryUsage().rss;
for await (const line of createInterface({ input: process.stdin })) {
  const [what, number] = line.split(' ') as [string, string];
  let answer: object;
  if (what === 'profile') {
    answer = await profiled(() => steps(Number(number)));
  } else {
    const seconds = await steps(Number(number));
    answer = { seconds, after: { tensors: tf.memory().numTensors, rssBytes: rssBytes() } };
  }
  process.stdout.write(`${JSON.stringify(answer)}\n`);
}
