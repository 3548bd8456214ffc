// Reads the small files by which Linux tells its state; a file that is not there is null, since most machines lack most of them.
import { readdirSync, readFileSync } from 'node:fs';

/** Where the kernel's file systems lie; tests set their own trees. */
export interface HostRoots {
  readonly sysfsRoot: string;
  readonly procRoot: string;
}

export const HOST_ROOTS: HostRoots = { sysfsRoot: '/sys', procRoot: '/proc' };

export function readText(path: string): string | null {
  try {
    return readFileSync(path, 'utf8').trim();
  } catch {
    return null;
  }
}

export function readNumber(path: string): number | null {
  const text = readText(path);
  if (text === null || text === '') return null;
  const value = Number(text);
  return Number.isFinite(value) ? value : null;
}

/** Names in a folder, in natural order; none where it cannot be read. */
export function listNames(path: string): readonly string[] {
  try {
    return readdirSync(path).sort((a, b) => a.localeCompare(b, 'en', { numeric: true }));
  } catch {
    return [];
  }
}
