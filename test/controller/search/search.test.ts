// The search as its caller sees it: the same story gives the same asks, nothing is asked twice, every class is served, mistakes are told.
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { replay } from '../../../controller/search/replay.ts';
import { createSearch, DEFAULTS, type Ask, type Search, type SearchSettings, type Tell } from '../../../controller/search/search.ts';
import { withArchitecture } from '../../../controller/architecture.ts';
import { PRESETS, type Space } from '../../../controller/space.ts';
import { largestSubnet, parseSubnet, smallestSubnet, type Subnet } from '../../../controller/subnet.ts';
import { failed, ok } from '../../../shared/outcome.ts';
import { value } from '../../helpers/outcome.ts';

const SPACE = PRESETS['fashion-tiny'] as Space;
/** 1 resolution, 1 depth, 1 stage, 2 kernels, 3 expands of a single block: six subnets in all. */
const SIX: Space = { ...SPACE, resolutions: [24], stages: SPACE.stages.slice(0, 1), kernels: [3, 5], depths: [1] };

const SETTINGS: SearchSettings = {
  space: SPACE,
  seed: 3,
  deviceClasses: ['node', 'web'],
  objectives: ['error', 'latencyMs'],
  algorithm: 'nsga2',
};

/** A block without MBConv as a very small one. */
const blocksOf = (subnet: Subnet) => subnet.stages.flat().map(({ kernel = 1, expand = 1 }) => ({ kernel, expand }));
/** A smooth stand-in for a device: bigger nets err less and take longer; `web` is slow on large kernels. */
function truth(subnet: Subnet, deviceClass: string): { error: number; latencyMs: number } {
  const size = blocksOf(subnet).reduce(
    (sum, { kernel, expand }) => sum + expand * (deviceClass === 'web' ? kernel * kernel : 9 + kernel),
    0,
  );
  const worth = blocksOf(subnet).reduce((sum, { kernel, expand }) => sum + Math.sqrt(expand) + kernel / 4, 0);
  return { error: 1 / (1 + worth), latencyMs: (size * subnet.resolution ** 2) / 1e4 };
}

const tellOf = (ask: Ask, deviceClass: string): Tell => ({
  subnetId: ask.subnetId,
  deviceClass,
  outcome: ok(truth(ask.subnet, deviceClass)),
});

interface Story {
  readonly asks: readonly Ask[];
  readonly tells: readonly Tell[];
  readonly search: Search;
}

/**
 * Runs a search as a fleet would: each step asks, or tells one of the results that are out, in any order; about one in ten fails.
 * `steps` are numbers in 0..999.
 */
function live(settings: SearchSettings, steps: readonly number[]): Story {
  const search = createSearch(settings);
  const asks: Ask[] = [];
  const tells: Tell[] = [];
  const out: Tell[] = [];
  for (const step of steps) {
    if (step < 400 || out.length === 0) {
      const ask = search.ask();
      if (ask === null) continue;
      asks.push(ask);
      out.push(...settings.deviceClasses.map((deviceClass) => tellOf(ask, deviceClass)));
    } else {
      const [tell] = out.splice(step % out.length, 1) as [Tell];
      const told = step % 10 === 0 ? { ...tell, outcome: failed('CRASHED', 'the runner died') } : tell;
      search.tell(told);
      tells.push(told);
    }
  }
  return { asks, tells, search };
}

const anySteps = fc.array(fc.integer({ min: 0, max: 999 }), { minLength: 20, maxLength: 150 });
const anySettings = fc.record({
  seed: fc.integer({ min: 0, max: 2 ** 40 }),
  algorithm: fc.constantFrom('nsga2' as const, 'random' as const),
  firstAsks: fc.constantFrom(0, 3, 24),
  population: fc.constantFrom(2, 10, 50),
  space: fc.constantFrom(SPACE, SIX, PRESETS['ofa-mbv3-w1.0'] as Space, value(withArchitecture(SPACE, 'EE_DP'))),
});

describe('asking', () => {
  it('gives the same asks to the same seed and interleaving of asks and tells, also when replayed after a restart', () => {
    fc.assert(
      fc.property(anySettings, anySteps, fc.double({ min: 0, max: 1, noNaN: true }), (drawn, steps, when) => {
        const settings = { ...SETTINGS, ...drawn };
        const whole = live(settings, steps);
        expect(live(settings, steps).asks).toEqual(whole.asks);

        const before = live(settings, steps.slice(0, Math.floor(when * steps.length)));
        const restarted = createSearch(settings);
        expect(replay(restarted, before.asks, before.tells)).toMatchObject({ ok: true });
        expect(restarted.archive).toEqual(before.search.archive);
        expect(restarted.ask()).toEqual(before.search.ask());
      }),
      { numRuns: 30 },
    );
  }, 30_000);

  it('does not depend on the order of tells between two asks', () => {
    const [forth, back] = [createSearch(SETTINGS), createSearch(SETTINGS)];
    const asks = Array.from({ length: 30 }, () => [forth.ask(), back.ask()] as [Ask, Ask]).map(([ask]) => ask);
    const tells = asks.flatMap((ask) => [tellOf(ask, 'node'), tellOf(ask, 'web')]);
    for (const tell of tells) forth.tell(tell);
    for (const tell of tells.reverse()) back.tell(tell);
    expect(forth.ask()).toEqual(back.ask());
  });

  it('never proposes a subnet twice, nor one outside the space', () => {
    fc.assert(
      fc.property(anySettings, anySteps, (drawn, steps) => {
        const { asks } = live({ ...SETTINGS, ...drawn }, steps);
        expect(new Set(asks.map((ask) => JSON.stringify(ask.subnet))).size).toBe(asks.length);
        expect(asks.every(({ subnet }) => parseSubnet(drawn.space, subnet, 'it').ok)).toBe(true);
        expect(asks.map(({ n }) => n)).toEqual(asks.map((_, i) => i));
      }),
      { numRuns: 30 },
    );
  }, 30_000);

  it('differs by seed', () => {
    const steps = Array.from({ length: 100 }, (_, i) => (i * 397) % 1000);
    const ids = [1, 2].map((seed) => live({ ...SETTINGS, seed }, steps).asks.map((ask) => ask.subnetId).join());
    expect(ids[0]).not.toBe(ids[1]);
  }); // prettier-ignore

  it('answers null once the space is used up, each time, and counts no ask for it', () => {
    for (const algorithm of ['nsga2', 'random'] as const) {
      const search = createSearch({ ...SETTINGS, space: SIX, algorithm });
      const asks = Array.from({ length: 10 }, () => {
        const ask = search.ask();
        if (ask !== null) search.tell(tellOf(ask, 'node'));
        return ask;
      });
      expect(asks.slice(0, 6)).not.toContain(null);
      expect(asks.slice(6)).toEqual([null, null, null, null]);
      expect(search.archive).toHaveLength(6);
    }
  });

  it('goes on without any tell, so that a slow device holds up nobody', () => {
    const search = createSearch(SETTINGS);
    const asks = Array.from({ length: 60 }, () => search.ask());
    expect(asks).not.toContain(null);
    expect(search.pending('web')).toBe(60);
  });

  it('starts with the smallest and the largest subnet, the random baseline does not', () => {
    const opening = (algorithm: 'nsga2' | 'random') => {
      const search = createSearch({ ...SETTINGS, algorithm });
      return [search.ask()?.subnet, search.ask()?.subnet];
    };
    expect(opening('nsga2')).toEqual([smallestSubnet(SPACE), largestSubnet(SPACE)]);
    expect(opening('random')).not.toEqual([smallestSubnet(SPACE), largestSubnet(SPACE)]);
  });
});

describe('selection', () => {
  it('serves the classes in turn, each by its own ranking', () => {
    // one objective, opposed: `few` wants small kernels, `many` large ones
    const search = createSearch({ ...SETTINGS, deviceClasses: ['few', 'many'], objectives: ['cost'], population: 10 });
    const mean = { few: 0, many: 0 };
    for (let n = 0; n < 300; n++) {
      const ask = search.ask() as Ask;
      const kernels = blocksOf(ask.subnet).map(({ kernel }) => kernel);
      const average = kernels.reduce((sum, kernel) => sum + kernel, 0) / kernels.length;
      search.tell({ subnetId: ask.subnetId, deviceClass: 'few', outcome: ok({ cost: average }) });
      search.tell({ subnetId: ask.subnetId, deviceClass: 'many', outcome: ok({ cost: -average }) });
      if (n >= 200) mean[n % 2 === 0 ? 'few' : 'many'] += average / 50;
    }
    expect(mean.few).toBeLessThan(4);
    expect(mean.many).toBeGreaterThan(6);
  });

  it('draws parents only from subnets told on that class and not censored there', () => {
    // all that has resolution 24 fails on `node`; told nothing else, children could not leave it without mutation
    const search = createSearch({ ...SETTINGS, deviceClasses: ['node'], mutations: 0, crossoverRate: 1 });
    for (let n = 0; n < DEFAULTS.firstAsks; n++) {
      const ask = search.ask() as Ask;
      const outcome = ask.subnet.resolution === 24 ? failed('OUT_OF_MEMORY', 'too small') : ok(truth(ask.subnet, 'node'));
      search.tell({ subnetId: ask.subnetId, deviceClass: 'node', outcome });
    }
    const children = Array.from({ length: 20 }, () => (search.ask() as Ask).subnet.resolution);
    expect(children).not.toContain(24);
  });
});

describe('telling', () => {
  it('puts a subnet into a front once told for that class, and dominated ones nowhere', () => {
    const search = createSearch(SETTINGS);
    const [a, b, c, d] = Array.from({ length: 4 }, () => search.ask()) as [Ask, Ask, Ask, Ask];
    const tell = (ask: Ask, error: number, latencyMs: number) =>
      search.tell({ subnetId: ask.subnetId, deviceClass: 'node', outcome: ok({ error, latencyMs }) });
    tell(a, 0.3, 1);
    tell(b, 0.1, 5);
    tell(c, 0.3, 2);
    expect(search.front('node').map(({ n, objectives }) => [n, objectives])).toEqual([
      [1, { error: 0.1, latencyMs: 5 }],
      [0, { error: 0.3, latencyMs: 1 }],
    ]);
    expect(search.front('web')).toEqual([]);
    tell(d, 0.05, 0.5);
    expect(search.front('node').map(({ subnetId }) => subnetId)).toEqual([d.subnetId]);
  });

  it('censors a failure on that class alone: no longer pending there, in no front, still open elsewhere', () => {
    const search = createSearch(SETTINGS);
    const ask = search.ask() as Ask;
    search.tell({ subnetId: ask.subnetId, deviceClass: 'node', outcome: failed('UNSUPPORTED_OP', 'no such operator') });
    expect([search.pending('node'), search.pending('web'), search.toldCount]).toEqual([0, 1, 1]);
    expect(search.front('node')).toEqual([]);
    search.tell(tellOf(ask, 'web'));
    expect(search.front('web')).toHaveLength(1);
  });

  it('throws on a subnet nobody asked for, an unknown class, a second tell, and a missing or non-finite objective', () => {
    const search = createSearch(SETTINGS);
    const ask = search.ask() as Ask;
    const good = tellOf(ask, 'node');
    const told = (values: Record<string, number>) => () => search.tell({ ...good, outcome: ok(values) });
    expect(() => search.tell({ ...good, subnetId: 'beef' })).toThrow('subnet beef, which this search has not asked for');
    expect(() => search.tell({ ...good, deviceClass: 'toaster' })).toThrow('"toaster"; this search has node, web');
    expect(told({ error: 0.1 })).toThrow('"latencyMs"');
    expect(told({ error: NaN, latencyMs: 1 })).toThrow('"error"');
    expect(told({ error: 0.1, latencyMs: Infinity })).toThrow('Infinity');
    expect(search.toldCount).toBe(0);
    search.tell(good);
    expect(() => search.tell(good)).toThrow('told for "node" before');
    expect(() => search.front('toaster')).toThrow('toaster');
  });
});

describe('replaying a record', () => {
  it('says at which ask this search and the record part', () => {
    const { asks, tells } = live(
      SETTINGS,
      Array.from({ length: 60 }, (_, i) => (i * 397) % 1000),
    );
    const other = replay(createSearch({ ...SETTINGS, seed: 4 }), asks, tells);
    expect(other).toMatchObject({ ok: false, reason: 'INVALID_INPUT' });
    expect(other.ok || other.message).toContain('Start a new campaign');
  });
});
