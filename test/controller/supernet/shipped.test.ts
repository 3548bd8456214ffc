import { readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { PRESETS } from '../../../controller/space.ts';
import { readCheckpoint } from '../../../controller/supernet/checkpoint.ts';

const FILE = join(import.meta.dirname, '../../../controller/assets/fashion-tiny.safetensors');

describe('the supernet that ships with the program', () => {
  const checkpoint = readCheckpoint(FILE);
  if (!checkpoint.ok) throw new Error(checkpoint.message);
  const { space, provenance } = checkpoint.value;

  it('is small and belongs to the preset of today', () => {
    expect(statSync(FILE).size).toBeLessThanOrEqual(4_000_000);
    expect(readFileSync(FILE).subarray(8, 24).toString()).toBe('{"__metadata__":');
    expect(space).toEqual(PRESETS['fashion-tiny']);
  });

  it('says how it was made, on all training images', () => {
    expect(provenance?.command).toMatch(/^ofa-fleet train --preset fashion-tiny /);
    expect(provenance?.data).toMatchObject({ name: 'fashion-mnist', trainingImages: 55_000, validationImages: 5_000, testImages: 10_000 });
    expect(provenance?.backend).toBe('tensorflow');
  });

  it('offers something to choose from: its largest net is at least 5 points better than its smallest', () => {
    const best = provenance?.accuracy.largest.at(-1)?.accuracy ?? 0;
    const least = provenance?.accuracy.smallest[0]?.accuracy ?? 1;
    expect(best - least).toBeGreaterThanOrEqual(0.05);
  });
});
