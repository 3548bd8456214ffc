// The lines of NVIDIA's `tegrastats`. Grammar: Jetson Linux Developer Guide, "tegrastats Utility"; its releases differ in the date before a line, the
// unit after a number, and the count of numbers (now, average, and from JetPack 7 on peak).
import { isNoRail, totalOf } from './jetson-rails.ts';

/** `NAME 123mW/120mW`, `NAME 123/120`, `NAME 123mW/120mW/130mW`; memory has the same form with another unit behind it. */
const RAIL = /(?<=^|\s)([A-Za-z]\w*) (-?\d+)(?:mW)?(?:\/-?\d+(?:mW)?){1,2}(?=\s|$)/g;
const WATTS_PER_MILLIWATT = 1e-3;

/** Rail -> milliwatts now (the first number; the others are not of this moment). */
export function railsOf(line: string): ReadonlyMap<string, number> {
  const rails = new Map<string, number>();
  for (const [, name = '', now = ''] of line.matchAll(RAIL)) {
    const milliwatts = Number(now);
    if (!isNoRail(name) && !rails.has(name) && Number.isFinite(milliwatts)) rails.set(name, milliwatts);
  }
  return rails;
}

/** Watts of the module; null where the line holds no total (without root some releases show no rails). */
export function parseTegrastats(line: string): number | null {
  const rails = railsOf(line);
  const total = totalOf([...rails.keys()]);
  if (total === null) return null;
  const milliwatts = total.rails.reduce((sum, rail) => sum + (rails.get(rail) ?? 0), 0);
  return milliwatts > 0 ? milliwatts * WATTS_PER_MILLIWATT : null;
}
