// What writers of durable files share: syncing directories, and a full disk as an answer instead of an exception.
import { open, statfs } from 'node:fs/promises';
import { failed, type Failure } from '../outcome.ts';

/** Names that were made or renamed in these directories survive a power cut from here on. */
export async function syncDirectories(dirs: Iterable<string>): Promise<void> {
  await Promise.all(
    [...dirs].map(async (dir) => {
      const handle = await open(dir, 'r');
      try {
        await handle.sync();
      } finally {
        await handle.close();
      }
    }),
  );
}

/** A full disk as an Outcome, with what was needed and what is free; any other error is thrown on. */
export async function diskFailure(error: unknown, dir: string, neededBytes: number): Promise<Failure> {
  const code = (error as NodeJS.ErrnoException).code;
  if (code !== 'ENOSPC' && code !== 'EDQUOT') throw error;
  const disk = await statfs(dir);
  return failed(
    'LOW_DISK',
    `No room in ${dir}: ${neededBytes} bytes to write, ${disk.bavail * disk.bsize} bytes free (${code}). Free space there or choose another folder.`,
  );
}
