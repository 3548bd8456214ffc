// Holds the machine's speed settings steady for a while, and gives them back. Before the first write a journal is on disk and a process of its
// own watches this one: an exit restores, a crash or kill -9 wakes the watcher, and where both died the next start restores from the journal.
import { spawn } from 'node:child_process';
import { constants, accessSync, linkSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import type { Socket } from 'node:net';
import { dirname, join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { z } from 'zod';
import { sha256Hex } from '@ofa-fleet/shared/node/hash.ts';
import { isAlive, processStartTime } from '@ofa-fleet/shared/node/process-identity.ts';
import { failed, ok, type Outcome } from '@ofa-fleet/shared/outcome.ts';
import { entryUrl } from './entries.ts';
import { HOST_ROOTS, listNames, readText } from './host-files.ts';
import { readMachine } from './machine.ts';

/** Nothing else is ever written, whatever a journal says: it lies in a folder that others may be able to write. */
const WRITABLE = /^(devices\/system\/cpu\/cpufreq\/policy\d+\/(scaling_governor|scaling_min_freq)|firmware\/acpi\/platform_profile)$/;
const settingSchema = z.string().regex(/^[\w-]{1,64}$/);

const changeSchema = z.object({
  /** Below the sysfs root. */
  file: z.string().regex(WRITABLE),
  before: settingSchema,
  set: settingSchema,
});
export type Change = Readonly<z.infer<typeof changeSchema>>;

const processSchema = z.object({ pid: z.int().min(1), startTime: z.string().nullable() });

const journalSchema = z.object({
  bootId: z.string(),
  /** Who made the changes, and who waits to undo them. */
  owner: processSchema,
  watcher: processSchema,
  changes: z.array(changeSchema).min(1),
});
type Journal = Readonly<z.infer<typeof journalSchema>>;

export interface JournalPlace {
  readonly sysfsRoot: string;
  readonly path: string;
}

/** How long a watcher may take to restore before the next start does it itself. */
const WATCHER_LIMIT_MS = 5000;
const POLL_MS = 20;

/** One journal for each tree. */
export function journalPlace(stateDir: string, sysfsRoot: string): JournalPlace {
  const name = sysfsRoot === HOST_ROOTS.sysfsRoot ? 'sys' : sha256Hex(sysfsRoot).slice(0, 12);
  return { sysfsRoot, path: join(stateDir, `undo-${name}.json`) };
}

/** What would make the clock steady here: the governor `performance`, or the floor at the ceiling where it is not offered; the power profile. */
export function planChanges(sysfsRoot: string): readonly Change[] {
  const read = (file: string) => readText(join(sysfsRoot, file));
  const words = (file: string) => read(file)?.split(/\s+/) ?? [];
  const changes: Change[] = [];
  const add = (file: string, set: string | null) => {
    const change = changeSchema.safeParse({ file, before: read(file), set });
    if (change.success && change.data.before !== change.data.set) changes.push(change.data);
  };
  const profile = 'firmware/acpi/platform_profile';
  if (words(`${profile}_choices`).includes('performance')) add(profile, 'performance');
  const cpufreq = 'devices/system/cpu/cpufreq';
  for (const policy of listNames(join(sysfsRoot, cpufreq))) {
    const file = (leaf: string) => `${cpufreq}/${policy}/${leaf}`;
    const governors = words(file('scaling_available_governors'));
    if (read(file('scaling_governor')) === 'userspace') continue; // somebody holds it already
    if (governors.length === 0 || governors.includes('performance')) add(file('scaling_governor'), 'performance');
    else add(file('scaling_min_freq'), read(file('scaling_max_freq')));
  }
  return changes;
}

export interface Held {
  readonly done: readonly Change[];
  readonly refused: readonly { readonly change: Change; readonly why: string }[];
  /** Gives everything back and says of each setting what became of it. */
  restore(): readonly string[];
}

const identityOf = (pid: number) => ({ pid, startTime: processStartTime(pid) });
const bootId = () => readMachine(HOST_ROOTS.procRoot).bootId;

function isWritable(path: string): boolean {
  try {
    accessSync(path, constants.W_OK);
    return true;
  } catch {
    return false;
  }
}

/** Starts the process that restores when this one is gone, which it sees as the end of its input. */
async function startWatcher({ sysfsRoot, path }: JournalPlace): Promise<number> {
  const owner = identityOf(process.pid);
  const args = [fileURLToPath(entryUrl('restore-worker')), sysfsRoot, path, String(owner.pid), owner.startTime ?? ''];
  // A session of its own: Ctrl-C and the end of the terminal are not for it.
  const child = spawn(process.execPath, args, { detached: true, stdio: ['pipe', 'ignore', 'ignore'] });
  await new Promise<void>((resolve, reject) => {
    child.once('spawn', resolve);
    child.once('error', reject);
  });
  child.stdin?.on('error', () => undefined); // it may be killed; the journal is left then
  child.unref();
  (child.stdin as Socket | null)?.unref();
  return child.pid as number;
}

/** Whole or not at all, and only where there is none yet. */
function createJournal(path: string, journal: Journal): boolean {
  const temporary = `${path}.${process.pid}`;
  writeFileSync(temporary, JSON.stringify(journal), { mode: 0o600, flush: true });
  try {
    linkSync(temporary, path);
    return true;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'EEXIST') return false;
    throw error;
  } finally {
    rmSync(temporary, { force: true });
  }
}

/** Makes the planned changes that this user may make. Fails where there are none, and where another process holds the settings. */
export async function holdSteady(place: JournalPlace): Promise<Outcome<Held>> {
  const { sysfsRoot, path } = place;
  const busy = failed('BUSY', `Another \`ofa-agent doctor --apply\` holds the settings (journal ${path}). End it first.`);
  if (readJournal(path) !== 'none') return busy;
  const planned = planChanges(sysfsRoot);
  const changes = planned.filter(({ file }) => isWritable(join(sysfsRoot, file)));
  if (planned.length === 0) return failed('NOT_FOUND', 'There is nothing to apply: no setting that can be made steadier is shown here.');
  if (changes.length === 0) {
    return failed(
      'NOT_AUTHORISED',
      `${join(sysfsRoot, planned[0]?.file ?? '')} cannot be written by this user: sudo ofa-agent doctor --apply`,
    );
  }
  mkdirSync(dirname(path), { recursive: true, mode: 0o700 });
  const watcher = identityOf(await startWatcher(place));
  if (!createJournal(path, { bootId: bootId(), owner: identityOf(process.pid), watcher, changes })) return busy;
  const done: Change[] = [];
  const refused: Held['refused'][number][] = planned
    .filter((change) => !changes.includes(change))
    .map((change) => ({ change, why: 'this user may not write it' }));
  for (const change of changes) {
    const why = write(join(sysfsRoot, change.file), change.set);
    if (why === null) done.push(change);
    else {
      refused.push({ change, why });
      // A value that the kernel rounded is neither what was nor what was asked: not to be left.
      write(join(sysfsRoot, change.file), change.before);
    }
  }
  return ok({ done, refused, restore: () => restore(place) });
}

/** Null where it was taken; else why not. */
function write(path: string, setting: string): string | null {
  try {
    writeFileSync(path, setting);
  } catch (error) {
    return (error as Error).message;
  }
  const now = readText(path);
  return now === setting ? null : `the kernel keeps ${now ?? 'nothing'}`;
}

function readJournal(path: string): Journal | 'none' | 'damaged' {
  let text: string;
  try {
    text = readFileSync(path, 'utf8');
  } catch {
    return 'none';
  }
  try {
    return journalSchema.parse(JSON.parse(text));
  } catch {
    return 'damaged';
  }
}

/** Gives back what still stands as it was set, last change first; what somebody changed meanwhile is theirs. Removes the journal. */
function restore({ sysfsRoot, path }: JournalPlace): readonly string[] {
  const journal = readJournal(path);
  if (journal === 'none') return [];
  const said =
    journal === 'damaged' ? [`The journal ${path} cannot be read; nothing was restored from it.`] : restoreChanges(journal, sysfsRoot);
  rmSync(path, { force: true });
  return said;
}

function restoreChanges(journal: Journal, sysfsRoot: string): readonly string[] {
  // A restart of the machine has set everything back.
  if (journal.bootId !== bootId()) return [];
  return journal.changes.toReversed().flatMap(({ file, before, set }) => {
    const full = join(sysfsRoot, file);
    const now = readText(full);
    if (now === before) return [];
    if (now !== set) return [`${full} is ${now ?? 'gone'} by now, not ${set}: left as it is.`];
    const why = write(full, before);
    return [why === null ? `${full} is ${before} again.` : `${full} could not be set back to ${before}: ${why}.`];
  });
}

/** For the watcher: its owner is gone. A journal of another owner is not its business. */
export function restoreFor(place: JournalPlace, owner: { readonly pid: number; readonly startTime: string | null }): void {
  const journal = readJournal(place.path);
  if (typeof journal === 'string' || journal.owner.pid !== owner.pid || journal.owner.startTime !== owner.startTime) return;
  restore(place);
}

/** For the next start: restores what dead processes left. Says what it did; nothing where there is nothing, or the owner lives. */
export async function recoverSettings(place: JournalPlace): Promise<readonly string[]> {
  const journal = readJournal(place.path);
  if (journal === 'none') return [];
  if (journal !== 'damaged') {
    if (isAlive(journal.owner.pid, journal.owner.startTime)) return [];
    const until = performance.now() + WATCHER_LIMIT_MS;
    // Two that restore at once could undo what a third has begun.
    while (isAlive(journal.watcher.pid, journal.watcher.startTime) && performance.now() < until) await sleep(POLL_MS);
  }
  const said = restore(place);
  return said.length === 0 ? [] : ['An earlier `doctor --apply` ended without giving its settings back:', ...said];
}
