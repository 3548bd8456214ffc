// The end of a run: every uniform setting on validation and on test images, once, after all training. The table is kept as it grows, so a
// killed run does not score again what it has scored.
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { z } from 'zod';
import { ok, type Outcome } from '@ofa-fleet/shared/outcome.ts';
import type { Space } from '../../space.ts';
import { subnetId, type Block } from '../../subnet.ts';
import { testedSettingSchema, writeAtomically, type TestedSetting, type UniformSummary } from '../checkpoint.ts';
import type { Weights } from '../elastic.ts';
import { scoreAt, type Scorer, type Split } from './scorer.ts';
import type { Trunk } from './uniform-settings.ts';

const tableSchema = z.object({
  weights: z.string(),
  trunks: z.array(z.object({ trunk: z.string(), settings: z.array(testedSettingSchema) })),
});
type Table = z.infer<typeof tableSchema>;

const TABLE_FILE = 'tested.json';

/** `weightsId` binds the kept table to the weights. null where the scorer was aborted; what it has scored is kept. */
export async function testTrunksOf(
  weights: Weights,
  weightsId: string,
  space: Space,
  trunks: readonly Trunk[],
  images: { readonly validation: number; readonly test: number },
  score: Scorer,
  folder: string,
): Promise<Outcome<TestedSetting[] | null>> {
  const file = join(folder, TABLE_FILE);
  let table = readTable(file, weightsId);
  const splits: Split[] = [
    { of: 'validation', images: images.validation },
    { of: 'test', images: images.test },
  ];
  for (const { subnet, heights } of trunks) {
    const trunk = subnetId(space, subnet);
    if (table.trunks.some((known) => known.trunk === trunk)) continue;
    const scores = await score(weights, subnet, splits);
    const [validation, test] = scores ?? [];
    if (validation === undefined || test === undefined) return ok(null);
    const block = subnet.stages[0]?.[0] as Block;
    const settings = heights.map((exit): TestedSetting => ({
      resolution: subnet.resolution,
      kernel: block.kernel ?? null,
      mask: block.mask ?? null,
      depth: subnet.stages[0]?.length ?? 0,
      expand: block.expand ?? null,
      exit,
      validation: scoreAt(space, validation, exit),
      test: scoreAt(space, test, exit),
    }));
    table = { ...table, trunks: [...table.trunks, { trunk, settings }] };
    const kept = writeAtomically(file, new TextEncoder().encode(JSON.stringify(table)));
    if (!kept.ok) return kept;
  }
  return ok(table.trunks.flatMap(({ settings }) => settings));
}

/** An unreadable table, or that of other weights, is begun anew: it can be made again. */
function readTable(file: string, weights: string): Table {
  const none: Table = { weights, trunks: [] };
  if (!existsSync(file)) return none;
  try {
    const table = tableSchema.parse(JSON.parse(readFileSync(file, 'utf8')));
    return table.weights === weights ? table : none;
  } catch {
    return none;
  }
}

/** Ties go to the earlier setting. */
export function summaryOf(settings: readonly TestedSetting[]): UniformSummary {
  const best = (value: (setting: TestedSetting) => number) =>
    settings.reduce((most, setting) => (value(setting) > value(most) ? setting : most));
  return {
    settings: settings.length,
    highest: best(({ test }) => test),
    lowest: best(({ test }) => -test),
    meanTest: settings.reduce((sum, { test }) => sum + test, 0) / settings.length,
    picked: best(({ validation }) => validation),
  };
}
