// More than a thousand random measurements on simulated hardware in virtual time: sensors as they really are, loads that step, drift, rustle and
// burst, idle power that moves, readers that come late. The true joules are known. `npm run bench:energy` prints the same as a table.
import { beforeAll, describe, expect, it } from 'vitest';
import { median } from '@ofa-fleet/shared/statistics.ts';
import { answer, drawScenario, emptyScore, KINDS, scoreInto, type Score } from '../helpers/energy-scenarios.ts';

const EACH = 175;

describe('joules over more than a thousand simulated measurements', () => {
  const scores: Score[] = [];
  const sum = (of: (score: Score) => number) => scores.reduce((total, score) => total + of(score), 0);

  beforeAll(() => {
    for (const kind of KINDS) {
      const score = emptyScore(kind);
      for (let i = 0; i < EACH; i++) {
        const scenario = drawScenario(1000 + i, kind);
        scoreInto(score, scenario, answer(scenario));
      }
      scores.push(score);
    }
  }, 60_000);

  it('are refused where the protocol says so, and nowhere else', () => {
    expect(sum(({ given, refused }) => given + refused)).toBe(EACH * KINDS.length);
    expect(scores.filter(({ wronglyRefused, wronglyGiven }) => wronglyRefused + wronglyGiven > 0).map(({ kind }) => kind)).toEqual([]);
    expect(scores.find(({ kind }) => kind === 'sticking gauge')?.given).toBe(0);
    expect(scores.filter(({ given }) => given > 0).map(({ kind }) => kind)).toEqual(KINDS.filter((kind) => kind !== 'sticking gauge'));
  });

  it('lie, gross and with the gain known, within 2 % of the truth wherever a value is given', () => {
    expect(Math.max(...scores.flatMap(({ errors }) => errors))).toBeLessThan(0.02);
  });

  it('hold the truth in their 95 % interval in 95 ± 2 % of all, gross and net alike, each sensor drawing its gain from what it states', () => {
    const given = sum((score) => score.given);
    expect(given).toBeGreaterThan(800);
    for (const name of ['gross', 'net'] as const) {
      const share = sum(({ covered }) => covered[name]) / given;
      expect(share).toBeGreaterThanOrEqual(0.93);
      expect(share).toBeLessThanOrEqual(0.97);
    }
  });

  it('hold it as well where the gain is known, with intervals that are a few tenths of a per cent wide', () => {
    const given = sum((score) => score.given);
    for (const name of ['grossKnownGain', 'netKnownGain'] as const)
      expect(sum(({ covered }) => covered[name]) / given).toBeGreaterThanOrEqual(0.93);
    expect(median(scores.flatMap(({ widths }) => widths.grossKnownGain))).toBeLessThan(0.005);
    expect(median(scores.flatMap(({ widths }) => widths.netKnownGain))).toBeLessThan(0.015);
  });
});
