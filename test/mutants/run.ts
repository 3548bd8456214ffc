// `npm run test:mutants [-- TEXT]`: plants known bugs one by one in copies of the tree and demands that a test notices each. Exit 1 where one
// survives, cannot be planted, or breaks the program instead; with TEXT only mutants whose file or sentence holds it.
import { spawn } from 'node:child_process';
import { cpSync, existsSync, mkdirSync, mkdtempSync, readFileSync, readdirSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { availableParallelism, tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { MUTANTS, type Mutant } from './mutants.ts';
import { fateOf, plant, type Fate } from './plant.ts';

const ROOT = fileURLToPath(new URL('../..', import.meta.url));
const COPIED = ['agent', 'shared', 'controller', 'test', 'package.json', 'vitest.config.ts', 'tsconfig.json'];
const LEFT_OUT = new Set(['node_modules', 'dist', 'out', 'experiments', 'parity']);
const WORKSPACES = ['shared', 'agent', 'controller'];
/** The tests named by mutants take seconds; a bug that makes them go on for so long is noticed. */
const LIMIT_MS = 60_000;

/** A copy in which our own packages are the copy's, all others those of the checkout. */
function copyTree(into: string): void {
  for (const name of COPIED)
    cpSync(join(ROOT, name), join(into, name), { recursive: true, filter: (path) => !LEFT_OUT.has(basename(path)) });
  const link = (path: string) => symlinkSync(join(ROOT, path), join(into, path));
  mkdirSync(join(into, 'node_modules', '@ofa-fleet'), { recursive: true });
  for (const name of readdirSync(join(ROOT, 'node_modules'))) if (name !== '@ofa-fleet') link(join('node_modules', name));
  for (const name of readdirSync(join(ROOT, 'node_modules', '@ofa-fleet')))
    symlinkSync(join(into, name), join(into, 'node_modules', '@ofa-fleet', name));
  for (const name of WORKSPACES) if (existsSync(join(ROOT, name, 'node_modules'))) link(join(name, 'node_modules'));
}

/** Runs some test files in a copy; the text of the JSON report, or null where they did not end in time. */
function runTests(tree: string, tests: readonly string[]): Promise<string | null> {
  const report = join(tree, 'report.json');
  rmSync(report, { force: true });
  const vitest = join(tree, 'node_modules', 'vitest', 'vitest.mjs');
  const args = [vitest, 'run', '--project', 'logic', '--bail', '1', '--reporter', 'json', '--outputFile', report, ...tests];
  return new Promise((resolve, reject) => {
    // A group of its own, so that whatever the tests have started goes with them.
    const child = spawn(process.execPath, args, { cwd: tree, stdio: 'ignore', detached: true });
    const timer = setTimeout(() => process.kill(-(child.pid as number), 'SIGKILL'), LIMIT_MS);
    child.once('error', reject);
    child.once('exit', () => {
      clearTimeout(timer);
      resolve(existsSync(report) ? readFileSync(report, 'utf8') : null);
    });
  });
}

async function tryMutant(tree: string, mutant: Mutant): Promise<Fate> {
  const path = join(tree, mutant.file);
  const sound = readFileSync(path, 'utf8');
  const text = plant(sound, mutant);
  if (!text.ok) return { kind: 'broken', why: text.message };
  writeFileSync(path, text.value);
  try {
    const fate = fateOf(await runTests(tree, mutant.tests));
    // Seen once, on the first mutant of a fresh copy: the test program ended before a test did, and said nothing. That tells nothing of the mutant.
    return fate.kind === 'broken' ? fateOf(await runTests(tree, mutant.tests)) : fate;
  } finally {
    writeFileSync(path, sound);
  }
}

function line({ file, wrong, tests }: Mutant, fate: Fate): string {
  const words = { killed: 'killed  ', survived: 'SURVIVED', broken: 'BROKEN  ' } as const;
  const by = fate.kind === 'killed' ? `by: ${fate.by}` : fate.kind === 'broken' ? fate.why : `no test noticed (${tests.join(', ')})`;
  return `${words[fate.kind]}  ${file}: ${wrong}\n            ${by}`;
}

async function main(only: string): Promise<number> {
  const chosen = MUTANTS.filter(({ file, wrong }) => `${file}: ${wrong}`.includes(only));
  if (chosen.length === 0) {
    process.stderr.write(`No mutant's file or sentence holds ${JSON.stringify(only)}.\n`);
    return 1;
  }
  const missing = [...new Set(chosen.flatMap(({ tests }) => tests))].filter((test) => !existsSync(join(ROOT, test)));
  if (missing.length > 0) {
    process.stderr.write(`There is no ${missing.join(', ')}, named in test/mutants/mutants.ts.\n`);
    return 1;
  }
  const base = mkdtempSync(join(tmpdir(), 'ofa-mutants-'));
  const began = performance.now();
  try {
    const trees = Array.from({ length: availableParallelism() }, (_, n) => join(base, String(n)));
    for (const tree of trees) copyTree(tree);
    const sound = fateOf(await runTests(trees[0] as string, [...new Set(chosen.flatMap(({ tests }) => tests))]));
    if (sound.kind !== 'survived') {
      process.stderr.write(`The tests do not pass without a mutant: ${sound.kind === 'killed' ? sound.by : sound.why}\n`);
      return 1;
    }
    const waiting = [...chosen];
    const counts = { killed: 0, survived: 0, broken: 0 };
    await Promise.all(
      trees.map(async (tree) => {
        for (let mutant = waiting.shift(); mutant !== undefined; mutant = waiting.shift()) {
          const fate = await tryMutant(tree, mutant);
          counts[fate.kind] += 1;
          process.stdout.write(`${line(mutant, fate)}\n`);
        }
      }),
    );
    const seconds = ((performance.now() - began) / 1000).toFixed(0);
    process.stdout.write(
      `\n${counts.killed} of ${chosen.length} killed, ${counts.survived} survived, ${counts.broken} broken; ${seconds} s\n`,
    );
    return counts.killed === chosen.length ? 0 : 1;
  } finally {
    rmSync(base, { recursive: true, force: true });
  }
}

process.exitCode = await main(process.argv[2] ?? '');
