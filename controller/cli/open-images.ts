// The images that a command trains, tunes or scores on, and what is to be said about them.
import type { Outcome } from '@ofa-fleet/shared/outcome.ts';
import type { Space } from '../space.ts';
import { IMAGE_CACHE_DIR, openDataset, type OpenedDataset } from '../supernet/data/open-dataset.ts';
import type { Context } from './context.ts';

const TELL_EVERY_FILES = 10_000;

export async function openImages(folder: string, space: Space, context: Context): Promise<Outcome<OpenedDataset>> {
  let told = 0;
  const dataset = await openDataset(folder, {
    cacheDir: IMAGE_CACHE_DIR,
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
