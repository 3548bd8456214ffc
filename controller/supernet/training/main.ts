// `node controller/supernet/training/main.ts --help`: trains without the rest of the program, e.g. in a container that has nothing else.
import { parseArgs } from 'node:util';
import { loadSpace } from '../../space.ts';
import { selectBackend } from '../backend.ts';
import { DEBIAN_FASHION_MNIST, loadIdxFolder } from '../data/idx.ts';
import { RECIPES } from './recipe.ts';
import { train } from './train.ts';

const { values } = parseArgs({
  options: {
    preset: { type: 'string', default: 'fashion-tiny' },
    data: { type: 'string', default: DEBIAN_FASHION_MNIST },
    out: { type: 'string', default: 'out/train' },
    recipe: { type: 'string', default: 'short' },
    seed: { type: 'string', default: '0' },
    scale: { type: 'string', default: '1' },
    threads: { type: 'string', default: '1' },
  },
});
const space = loadSpace(values.preset);
const dataset = loadIdxFolder(values.data);
for (const outcome of [space, dataset]) if (!outcome.ok) throw new Error(outcome.message);
if (!space.ok || !dataset.ok) process.exit(1);
const backend = await selectBackend({ purpose: 'training', threads: Number(values.threads) });
console.log(backend.description);
const result = await train({
  space: space.value,
  dataset: dataset.value,
  backend,
  recipe: values.recipe === 'published' ? RECIPES.published : RECIPES.short,
  seed: Number(values.seed),
  scale: Number(values.scale),
  folder: values.out,
  command: `ofa-fleet train --preset ${values.preset} --seed ${values.seed} --scale ${values.scale} --threads ${values.threads}`,
  onProgress: (p) =>
    console.log(
      `${new Date().toISOString().slice(11, 19)} ${p.phase} (${p.phaseNumber}/${p.phases}) step ${p.step}/${p.steps} loss ${p.loss.toFixed(4)} ${p.imagesPerSecond.toFixed(1)} images/s ETA ${Math.round(p.etaSeconds / 60)} min${p.validation === null ? '' : ` validation ${(100 * p.validation).toFixed(2)} %`}`,
    ),
});
console.log(result.ok ? JSON.stringify(result.value?.provenance, null, 1) : result.message);
