// Files that this program starts as processes or threads of their own. In a checkout they are TypeScript beside this file; in the bundle
// (agent/pack.ts) each is a bundle beside this one.

export type EntryName = 'runner' | 'serve-worker' | 'meter-worker' | 'load-worker' | 'throttle-worker' | 'restore-worker';

export function entryUrl(name: EntryName): URL {
  return new URL(`./${name}${import.meta.url.endsWith('.ts') ? '.ts' : '.js'}`, import.meta.url);
}
