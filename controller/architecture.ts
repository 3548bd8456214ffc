// The eight architectures of OFAv2 (arXiv 2302.01888) by name: {SE, EE} x {B, D, P, DP} = single or early exits, with dense skips, parallel
// blocks, both or neither. A name turns any space into that architecture; everything else of the space stays.
import { failed, ok, type Outcome } from '@ofa-fleet/shared/outcome.ts';
import type { Space } from './space.ts';

const FORMS = {
  B: { denseSkips: false, parallel: false },
  D: { denseSkips: true, parallel: false },
  P: { denseSkips: false, parallel: true },
  DP: { denseSkips: true, parallel: true },
} as const;

export const ARCHITECTURES = ['SE_B', 'SE_D', 'SE_P', 'SE_DP', 'EE_B', 'EE_D', 'EE_P', 'EE_DP'] as const;
export type Architecture = (typeof ARCHITECTURES)[number];

/** Where a space is made parallel, it gets every mask, and the third branch unless it says another. */
const ALL_MASKS = [1, 2, 3, 4, 5, 6, 7];

export function architectureOf(space: Space): Architecture {
  const parallel = space.parallel !== undefined;
  const form = space.denseSkips ? (parallel ? 'DP' : 'D') : parallel ? 'P' : 'B';
  return `${space.exits === 'early' ? 'EE' : 'SE'}_${form}`;
}

/**
 * The space in the architecture of that name, `fashion` in `SE_P` being named `fashion-se_p`; the same value where it has that architecture.
 * INVALID_INPUT names the eight.
 */
export function withArchitecture(space: Space, name: string): Outcome<Space> {
  const architecture = ARCHITECTURES.find((known) => known === name.toUpperCase());
  if (architecture === undefined) {
    return failed('INVALID_INPUT', `"${name}" is no architecture: name one of ${ARCHITECTURES.join(', ')}.`);
  }
  if (architectureOf(space) === architecture) return ok(space);
  const [exits, formName] = architecture.split('_') as ['SE' | 'EE', keyof typeof FORMS];
  const { denseSkips, parallel } = FORMS[formName];
  const { parallel: before, ...rest } = space;
  const base = ARCHITECTURES.map((known) => `-${known.toLowerCase()}`).find((suffix) => space.name.endsWith(suffix));
  return ok({
    ...rest,
    name: `${base === undefined ? space.name : space.name.slice(0, -base.length)}-${architecture.toLowerCase()}`,
    exits: exits === 'EE' ? 'early' : 'single',
    denseSkips,
    ...(parallel ? { parallel: before ?? { masks: ALL_MASKS, third: 'transformation' } } : {}),
  });
}
