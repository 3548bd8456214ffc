// Writes trees that stand for /sys and /proc: hardware that this machine may not have.
import { mkdirSync, mkdtempSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';

export interface Tree {
  readonly root: string;
  /** Writes files (path -> content) in one step each, as a kernel answers. */
  write(files: Readonly<Record<string, string | number>>): void;
  remove(): void;
}

export function makeTree(files: Readonly<Record<string, string | number>> = {}): Tree {
  const root = mkdtempSync(join(tmpdir(), 'ofa-tree-'));
  const write = (entries: Readonly<Record<string, string | number>>) => {
    for (const [path, content] of Object.entries(entries)) {
      const file = join(root, path);
      mkdirSync(dirname(file), { recursive: true });
      writeFileSync(`${file}.new`, `${content}\n`);
      renameSync(`${file}.new`, file);
    }
  };
  write(files);
  return { root, write, remove: () => rmSync(root, { recursive: true, force: true }) };
}
