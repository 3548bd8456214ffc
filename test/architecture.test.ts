// The table of arrows: which folder may import which. A wrong arrow, a cycle, or a cruiser that sees nothing fails.
import { builtinModules } from 'node:module';
import { cruise, type ICruiseResult } from 'dependency-cruiser';
import { beforeAll, describe, expect, it } from 'vitest';

/** Stage -> what it may import, besides itself. `node` stands for Node's built-in modules. Files at a folder's top are named alone. */
const ARROWS: Readonly<Record<string, readonly string[]>> = {
  // the language both sides speak: runs in a browser too
  shared: [],
  'shared/node': ['shared', 'node'],
  'shared/bin': ['node'],

  // the agent: a portable core, and the ports on Node
  agent: ['shared'],
  'agent/node': ['agent', 'shared', 'shared/node', 'node'],
  'agent/bin': ['shared/bin', 'node'],
  'agent/pack.ts': ['node'],

  // the controller: stages as folders
  'controller/space.ts': ['shared', 'node'],
  'controller/subnet.ts': ['controller/space.ts', 'shared', 'node'],
  'controller/architecture.ts': ['controller/space.ts', 'shared'],
  'controller/supernet': ['controller/space.ts', 'controller/subnet.ts', 'shared', 'shared/node', 'node'],
  'controller/materialise': ['controller/supernet', 'controller/space.ts', 'controller/subnet.ts', 'shared', 'shared/node', 'node'],
  'controller/evaluate': ['controller/materialise', 'controller/supernet', 'controller/space.ts', 'controller/subnet.ts', 'shared', 'shared/node', 'node'],
  // pure: no Node, no store, no clock
  'controller/search': ['controller/space.ts', 'controller/subnet.ts', 'shared'],
  'controller/store': ['controller/space.ts', 'controller/subnet.ts', 'shared', 'node'],
  'controller/fleet': ['controller/store', 'shared', 'shared/node', 'node'],
  'controller/energy': ['controller/store', 'shared'],
  'controller/report': ['controller/store', 'controller/search', 'controller/energy', 'controller/space.ts', 'controller/subnet.ts', 'shared', 'node'],
  'controller/inbox.ts': [],
  'controller/campaign.ts': [
    'controller/inbox.ts',
    'controller/search', 'controller/materialise', 'controller/evaluate', 'controller/fleet', 'controller/store', 'controller/supernet',
    'controller/space.ts', 'controller/subnet.ts', 'shared', 'shared/node', 'node',
  ],
  'controller/assets': ['controller/supernet', 'controller/space.ts', 'node'],
  'controller/bin': ['shared/bin', 'node'],
  // composition roots see everything of the controller
  'controller/main.ts': ['controller/*', 'shared', 'shared/node', 'node'],
  // campaigns around the loop: one at a time, taken up after a restart, with what is measured beside them
  'controller/campaigns': ['controller/*', 'shared', 'shared/node', 'node'],
  'controller/api': ['controller/*', 'shared', 'shared/node', 'node'],
  'controller/cli': ['controller/*', 'shared', 'shared/node', 'node'],
}; // prettier-ignore

/** The row of the table that a file belongs to: the file itself, or its longest listed folder. */
function placeOf(path: string): string | null {
  const candidates = Object.keys(ARROWS).filter((place) => path === place || path.startsWith(`${place}/`));
  return candidates.sort((a, b) => b.length - a.length)[0] ?? null;
}

function isAllowed(from: string, to: string): boolean {
  if (from === to) return true;
  const allowed = ARROWS[from] ?? [];
  return allowed.includes(to) || (allowed.includes('controller/*') && to.startsWith('controller/'));
}

interface Arrow {
  readonly file: string;
  readonly target: string;
}

function wrongArrows(arrows: readonly Arrow[]): string[] {
  return arrows.flatMap(({ file, target }) => {
    const from = placeOf(file);
    const to = target === 'node' ? 'node' : placeOf(target);
    if (from === null) return [`${file} belongs to no row of the table`];
    if (to === null || !isAllowed(from, to)) return [`${file} -> ${target}: ${from} may not import ${to ?? 'this'}`];
    return [];
  });
}

describe('the architecture', () => {
  let arrows: Arrow[] = [];
  let files = 0;
  let cycles: string[] = [];

  beforeAll(async () => {
    const { output } = await cruise(['shared', 'agent', 'controller'], {
      exclude: { path: 'node_modules|/dist/|/gen/' },
      tsPreCompilationDeps: true,
      combinedDependencies: true,
      ruleSet: {
        forbidden: [
          { name: 'no-cycle', severity: 'error', from: {}, to: { circular: true, viaOnly: { dependencyTypesNot: ['type-only'] } } },
        ],
      },
      validate: true,
    });
    const result = output as ICruiseResult;
    const own = result.modules.filter((module) => /^(shared|agent|controller)\//.test(module.source));
    files = own.length;
    arrows = own.flatMap((module) =>
      module.dependencies.flatMap((dependency): Arrow[] => {
        if (builtinModules.includes(dependency.module.replace(/^node:/, ''))) return [{ file: module.source, target: 'node' }];
        return /^(shared|agent|controller)\//.test(dependency.resolved) ? [{ file: module.source, target: dependency.resolved }] : [];
      }),
    );
    cycles = result.summary.violations.map((violation) => `${violation.from} -> ${violation.to}`);
  }, 60_000);

  it('is seen by the cruiser, across workspaces too', () => {
    expect(files).toBeGreaterThan(20);
    expect(arrows.some(({ file, target }) => file.startsWith('controller/') && target.startsWith('shared/'))).toBe(true);
  });

  it('has no arrow outside the table', () => {
    expect(wrongArrows(arrows)).toEqual([]);
  });

  it('has no cycle', () => {
    expect(cycles).toEqual([]);
  });

  it('would refuse an agent that imports the controller, a search that touches the disk, and a core that needs Node', () => {
    const planted = [
      { file: 'agent/measure.ts', target: 'controller/space.ts' },
      { file: 'controller/search/search.ts', target: 'node' },
      { file: 'agent/agent.ts', target: 'agent/node/main.ts' },
      { file: 'shared/bus.ts', target: 'shared/node/hash.ts' },
    ];
    expect(wrongArrows(planted)).toHaveLength(planted.length);
  });
});
