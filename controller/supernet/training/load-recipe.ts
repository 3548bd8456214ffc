// A recipe by the name that a user gives: a preset, or a JSON file, which may say only what it changes of a preset.
import { readFileSync } from 'node:fs';
import { failed, ok, type Outcome } from '@ofa-fleet/shared/outcome.ts';
import { parseRecipe, type RecipeTemplate } from './recipe.ts';
import { RECIPES } from './recipes.ts';

/** A preset by name, or a JSON file by path. A file may hold parts of a recipe only: `{"basedOn": "ofav2", ...}` changes that preset. */
export function loadRecipe(nameOrFile: string): Outcome<RecipeTemplate> {
  const preset = RECIPES[nameOrFile];
  if (preset !== undefined) return ok(preset);
  const known = Object.keys(RECIPES).join(', ');
  let value: unknown;
  try {
    value = JSON.parse(readFileSync(nameOrFile, 'utf8'));
  } catch (error) {
    return failed('NOT_FOUND', `No recipe "${nameOrFile}": it is neither a preset (${known}) nor a readable JSON file (${String(error)}).`);
  }
  if (!isRecord(value) || value['basedOn'] === undefined) return parseRecipe(value, nameOrFile);
  const { basedOn, ...changes } = value;
  const base = typeof basedOn === 'string' ? RECIPES[basedOn] : undefined;
  if (base === undefined) {
    return failed('INVALID_INPUT', `${nameOrFile} is based on ${JSON.stringify(basedOn)}, which is no preset: give one of ${known}.`);
  }
  return parseRecipe(merged({ ...base, name: `${base.name} changed` }, changes), nameOrFile);
}

/** `changes` over `base`, objects key by key; lists and plain values are replaced whole. */
function merged(base: Readonly<Record<string, unknown>>, changes: Readonly<Record<string, unknown>>): Record<string, unknown> {
  const result: Record<string, unknown> = { ...base };
  for (const [key, change] of Object.entries(changes)) {
    const old = base[key];
    result[key] = isRecord(old) && isRecord(change) && !('kind' in change) ? merged(old, change) : change;
  }
  return result;
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
