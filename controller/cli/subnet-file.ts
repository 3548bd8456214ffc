// Which subnet a user means: `largest`, `smallest`, or a JSON file in one of two forms: ours, or Once-For-All's flat lists {ks, e, d}.
import { readFileSync } from 'node:fs';
import { z } from 'zod';
import { failed, ok, type Outcome } from '@ofa-fleet/shared/outcome.ts';
import type { Space } from '../space.ts';
import { blockOf, largestSubnet, masksOf, parseSubnet, smallestSubnet, type Subnet } from '../subnet.ts';

const FORMS = '{"ks": […], "e": […], "d": […]} or {"resolution": …, "stages": [[{"kernel": …, "expand": …}]]}';

export interface NamedSubnet {
  readonly subnet: Subnet;
  /** Sentences for the user about what was supposed. */
  readonly notes: readonly string[];
}

/** A gene that is dead may be anything, so what is alive is judged where it is used. */
const genes = z.union([z.number(), z.array(z.unknown())]);
const flatSchema = z.looseObject({
  /** One kernel side, expand ratio and (in parallel spaces) branch mask for each block of each stage; or one number for all. */
  ks: genes,
  e: genes,
  level: genes.nullish(),
  /** One depth for each stage. */
  d: genes,
  /** Active stages, 1 = the first alone; default all. */
  height: z.int().nullish(),
  r: z.int().nullish(),
  resolution: z.int().nullish(),
});

/**
 * `resolution` null: the file's, or else the largest of the space. One that is given may be outside of the space's list: a net of
 * convolutions takes any. Fails with NOT_FOUND or INVALID_INPUT.
 */
export function subnetNamed(space: Space, name: string, resolution: number | null): Outcome<NamedSubnet> {
  const notes =
    resolution !== null && !space.resolutions.includes(resolution)
      ? [
          `Resolution ${resolution} is none of those that space ${space.name} lists (${space.resolutions[0]} … ${space.resolutions[space.resolutions.length - 1]}).`,
        ]
      : [];
  if (name === 'largest' || name === 'smallest') {
    const subnet = name === 'largest' ? largestSubnet(space) : smallestSubnet(space);
    return ok({ subnet: { ...subnet, resolution: resolution ?? subnet.resolution }, notes });
  }
  const value = readJson(name);
  if (!value.ok) return value;
  const isFlat =
    typeof value.value === 'object' && value.value !== null && ('ks' in value.value || 'e' in value.value || 'd' in value.value);
  const allowed = resolution === null ? space : { ...space, resolutions: [resolution] };
  if (!isFlat) {
    const asked = resolution === null || typeof value.value !== 'object' ? value.value : { ...value.value, resolution };
    const subnet = parseSubnet(allowed, asked, name);
    return subnet.ok ? ok({ subnet: subnet.value, notes }) : subnet;
  }
  const flat = flatSchema.safeParse(value.value);
  if (!flat.success) {
    const mistakes = flat.error.issues.map((issue) => `${issue.path.join('.') || '(whole)'}: ${issue.message}`);
    return failed('INVALID_INPUT', `${name} is not a subnet: ${mistakes.join('; ')}; write ${FORMS}.`);
  }
  const known: readonly string[] = Object.keys(flatSchema.shape);
  const ignored = Object.keys(flat.data).filter((key) => !known.includes(key));
  const stages = stagesOf(space, flat.data, name);
  if (!stages.ok) return stages;
  const side = resolution ?? flat.data.r ?? flat.data.resolution ?? space.resolutions[space.resolutions.length - 1];
  const subnet = parseSubnet(allowed, { resolution: side, stages: stages.value }, name);
  if (!subnet.ok) return subnet;
  return ok({ subnet: subnet.value, notes: ignored.length === 0 ? notes : [...notes, `Ignored in ${name}: ${ignored.join(', ')}.`] });
}

function readJson(file: string): Outcome<unknown> {
  let text: string;
  try {
    text = readFileSync(file, 'utf8');
  } catch {
    return failed('NOT_FOUND', `There is no file ${file} to read a subnet from: give one, or \`largest\` or \`smallest\`.`);
  }
  try {
    return ok(JSON.parse(text) as unknown);
  } catch (error) {
    return failed('INVALID_INPUT', `${file} is not JSON (${error instanceof Error ? error.message : String(error)}): write ${FORMS}.`);
  }
}

/** The stages that are alive, in our form; their genes are still to be checked. */
function stagesOf(space: Space, flat: z.infer<typeof flatSchema>, name: string): Outcome<unknown[][]> {
  const deepest = Math.max(...space.depths);
  const blocks = space.stages.length * deepest;
  const masks = masksOf(space);
  const mistakes: string[] = [];
  const list = (key: string, value: z.infer<typeof genes>, length: number): readonly unknown[] => {
    if (typeof value === 'number') return new Array<number>(length).fill(value);
    if (value.length !== length) mistakes.push(`${key} has ${value.length} values, ${length} are needed`);
    return value;
  };
  const kernels = list('ks', flat.ks, blocks);
  const expands = list('e', flat.e, blocks);
  const depths = list('d', flat.d, space.stages.length);
  const levels = flat.level == null ? null : list('level', flat.level, blocks);
  if (levels !== null && masks === null) mistakes.push('level: the space has no parallel blocks');
  const height = flat.height ?? space.stages.length;
  if (height < 1 || height > space.stages.length) mistakes.push(`height ${height} is not within 1 and ${space.stages.length}`);
  const alive = depths.slice(0, height);
  alive.forEach((depth, s) => {
    if (!space.depths.includes(Number(depth)))
      mistakes.push(`d of stage ${s + 1}, ${String(depth)}, is none of ${space.depths.join(', ')}`);
  });
  if (mistakes.length > 0) return failed('INVALID_INPUT', `${name} is not a subnet of ${space.name}: ${mistakes.join('; ')}.`);
  const blockAt = (i: number): unknown => {
    const mask = masks === null ? null : Number(levels?.[i] ?? Math.max(...masks));
    return blockOf(mask, kernels[i] as number, expands[i] as number);
  };
  return ok(alive.map((depth, s) => Array.from({ length: Number(depth) }, (_, b) => blockAt(s * deepest + b))));
}
