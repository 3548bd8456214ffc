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

  it('lie, gross and with the gain known, within 2 % of the truth wherever the sensor counts or averages what it gives', () => {
    const seeing = scores.filter(({ kind }) => kind !== 'pmic');
    expect(Math.max(...seeing.flatMap(({ errors }) => errors))).toBeLessThan(0.02);
  });

  // One moment's power every 25 to 100 ms says little of 50 ms that an inference's ripple fills, and nothing where both keep step. Over 600
  // other seeds 6 of 568 figures were off by 2 to 4 %, so what holds here by these seeds alone is not claimed.
  it('lie within 2 % for 98 of 100 where the sensor shows single moments', () => {
    const errors = scores.find(({ kind }) => kind === 'pmic')?.errors ?? [];
    expect(errors.length).toBeGreaterThan(100);
    expect(errors.filter((error) => error < 0.02).length / errors.length).toBeGreaterThanOrEqual(0.98);
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
