// The images that a command trains, tunes or scores on, and what is to be said about them.
import { homedir } from 'node:os';
import { join } from 'node:path';
import type { Outcome } from '@ofa-fleet/shared/outcome.ts';
import type { Space } from '../space.ts';
import { openDataset, type OpenedDataset } from '../supernet/data/open-dataset.ts';
import type { Context } from './context.ts';

/** Decoded image files are kept for the next run. */
const CACHE_DIR = join(homedir(), '.cache', 'ofa-fleet', 'images');
const TELL_EVERY_FILES = 10_000;

export async function openImages(folder: string, space: Space, context: Context): Promise<Outcome<OpenedDataset>> {
  let told = 0;
  const dataset = await openDataset(folder, {
    cacheDir: CACHE_DIR,
    channels: space.inputChannels,
    signal: context.signal,
    onProgress: ({ decoded, files }) => {
      if (decoded - told < TELL_EVERY_FILES) return;
      told = decoded;
      context.print(`Read ${decoded} of ${files} images.`);
    },
  });
  if (dataset.ok) for (const note of dataset.value.notes) context.print(note);
  return dataset;
}
