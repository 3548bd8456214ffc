// The runner of planted bugs tells a bug that a test noticed from one that none did, and from one that could not be planted.
import { describe, expect, it } from 'vitest';
import { MUTANTS } from './mutants/mutants.ts';
import { fateOf, plant } from './mutants/plant.ts';

const mutant = { file: 'a.ts', old: 'x + $1', planted: 'x - $&', tests: [], wrong: '' };
const report = (success: boolean, results: readonly (readonly [string, string])[], message = '') =>
  JSON.stringify({
    success,
    testResults: [{ name: 'a.test.ts', message, assertionResults: results.map(([status, fullName]) => ({ status, fullName })) }],
  });

describe('planting a bug', () => {
  it('replaces the text as it stands, and nothing else', () => {
    expect(plant('f(x + $1); g()', mutant)).toEqual({ ok: true, value: 'f(x - $&); g()' });
  });

  it.each(['f(y)', 'f(x + $1, x + $1)'])('fails, with what to do, where the text is not there exactly once: %s', (text) => {
    const planted = plant(text, mutant);
    expect(planted).toMatchObject({ ok: false, reason: 'NOT_FOUND' });
    expect(planted.ok ? '' : planted.message).toContain('mutants.ts');
  });
});

describe('a planted bug', () => {
  it('is killed by the first test that fails, or where the tests do not end', () => {
    const results = [
      ['passed', 'one'],
      ['failed', 'two'],
      ['failed', 'three'],
    ] as const;
    expect(fateOf(report(false, results))).toEqual({ kind: 'killed', by: 'two' });
    expect(fateOf(null)).toMatchObject({ kind: 'killed' });
  });

  it('survives where all tests pass', () => {
    expect(fateOf(report(true, [['passed', 'one']]))).toEqual({ kind: 'survived' });
  });

  it('is no bug where the program does not even load with it', () => {
    expect(fateOf(report(false, [], 'Unexpected token'))).toEqual({ kind: 'broken', why: 'Unexpected token' });
  });
});

describe('the list of planted bugs', () => {
  it('has twenty at least, none twice, each with tests and a sentence', () => {
    expect(MUTANTS.length).toBeGreaterThanOrEqual(20);
    expect(new Set(MUTANTS.map(({ file, planted, old }) => `${file} ${old} ${planted}`)).size).toBe(MUTANTS.length);
    for (const { tests, wrong, old, planted } of MUTANTS) {
      expect(tests.length).toBeGreaterThan(0);
      expect(wrong).not.toBe('');
      expect(planted).not.toBe(old);
    }
  });
});
