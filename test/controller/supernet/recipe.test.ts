import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { loadRecipe } from '../../../controller/supernet/training/load-recipe.ts';
import { parseRecipe } from '../../../controller/supernet/training/recipe.ts';
import { RECIPES } from '../../../controller/supernet/training/recipes.ts';
import { value } from '../../helpers/outcome.ts';

let folder: string;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'recipes-'));
});
afterAll(() => rmSync(folder, { recursive: true }));

function written(content: unknown): string {
  const file = join(folder, 'recipe.json');
  writeFileSync(file, JSON.stringify(content));
  return file;
}

describe('a recipe', () => {
  it.each(Object.keys(RECIPES))('that ships (%s) is one by its own rules, also out of a file', (name) => {
    expect(parseRecipe(RECIPES[name], name)).toEqual({ ok: true, value: RECIPES[name] });
    expect(value(loadRecipe(name))).toBe(RECIPES[name]);
    expect(value(loadRecipe(written(RECIPES[name])))).toEqual(RECIPES[name]);
  });

  it('in a file may say only what it changes', () => {
    const changed = value(
      loadRecipe(written({ basedOn: 'ofav2', batch: 32, distillation: { teacher: 'fixed' }, phases: { full: { epochs: [9] } } })),
    );
    const { name, batch, distillation, phases } = changed;
    expect([name, batch, distillation.teacher, distillation.loss]).toEqual(['ofav2 changed', 32, 'fixed', 'ce']);
    expect(phases).toEqual({
      ...RECIPES['ofav2']?.phases,
      full: { epochs: [9], warmUpEpochs: [0], rates: [0.08], subnetsPerStep: 1, dropout: 0.2 },
    });
    const shifted = value(loadRecipe(written({ basedOn: 'ofav2', augmentation: { kind: 'shift', pixels: 1, flip: false } })));
    expect(shifted.augmentation).toEqual({ kind: 'shift', pixels: 1, flip: false });
  });

  it('with mistakes is refused, all of them named at once', () => {
    const wrong = {
      basedOn: 'ofav2',
      batch: 0,
      momentum: 1.5,
      phases: { kernel: { rates: [] } },
      distillation: { loss: 'kl' },
      augmentation: { kind: 'twirl' },
    };
    const outcome = loadRecipe(written(wrong));
    expect(outcome).toMatchObject({ ok: false, reason: 'INVALID_INPUT' });
    if (!outcome.ok)
      for (const place of ['batch: ', 'momentum: ', 'phases.kernel.rates: ', 'distillation.loss: ', 'augmentation.kind: '])
        expect(outcome.message).toContain(place);
  });

  it('that is not there, or based on none, names the presets', () => {
    for (const outcome of [loadRecipe('ofav3'), loadRecipe(written({ basedOn: 'ofav3' }))]) {
      expect(outcome.ok).toBe(false);
      if (!outcome.ok) expect(outcome.message).toMatch(/ofav2, ofa, sandwich, fashion-tiny/);
    }
  });
});
