// Makes the small image set that ships with the program, so that a demo needs no data:
// `node controller/assets/make-mini.ts [IDX folder]`. Same input, same bytes.
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { permutation, pick, SPLIT_SEED, type ImageSet } from '../supernet/data/dataset.ts';
import { DEBIAN_FASHION_MNIST, encodeIdxPair, loadIdxFolder } from '../supernet/data/idx.ts';

const COUNTS = { calibration: 500, validation: 2_500, test: 2_500 };

const dataset = loadIdxFolder(process.argv[2] ?? DEBIAN_FASHION_MNIST);
if (!dataset.ok) throw new Error(dataset.message);
const folder = join(import.meta.dirname, 'fashion-mnist-mini');
mkdirSync(folder, { recursive: true });
const { train, validation, test } = dataset.value;
const sources: Record<keyof typeof COUNTS, ImageSet> = { calibration: train, validation, test };
for (const name of ['calibration', 'validation', 'test'] as const) {
  const source = sources[name];
  const subset = pick(source, permutation(source.count, SPLIT_SEED).subarray(0, COUNTS[name]));
  const { images, labels } = encodeIdxPair(subset);
  writeFileSync(join(folder, `${name}-images-idx3-ubyte.gz`), images);
  writeFileSync(join(folder, `${name}-labels-idx1-ubyte.gz`), labels);
  process.stdout.write(`${name}: ${subset.count} images, ${images.length + labels.length} bytes\n`);
}
