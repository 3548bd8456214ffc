// Three classes of 9 x 9 images told apart by where the light is, plus noise: what a training run in a test learns from.
import type { Dataset, ImageSet } from '../../controller/supernet/data/dataset.ts';

export function madeImages(count: number, first = 0): ImageSet {
  const labels = Uint8Array.from({ length: count }, (_, i) => i % 3);
  const pixels = Uint8Array.from(
    { length: count * 81 },
    (_, i) => (((i + first * 81) * 7919) % 64) + (Math.floor((i % 81) / 27) === Math.floor(i / 81) % 3 ? 190 : 0),
  );
  return { count, height: 9, width: 9, channels: 1, pixels, labels, classes: 3 };
}

export function madeDataset(): Dataset {
  return { name: 'made', sha256: 'made', train: madeImages(88), validation: madeImages(24, 88), test: madeImages(24, 112) };
}
