// Whether tfjs-node's addon is here: tests that need it skip with this reason where it is not (`npm run setup:tfjs-node` gives it).
import { existsSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';

function addonFile(): string | null {
  try {
    return join(dirname(createRequire(import.meta.url).resolve('@tensorflow/tfjs-node/package.json')), 'lib/napi-v8/tfjs_binding.node');
  } catch {
    return null;
  }
}

const file = addonFile();

/** null where the addon is there. */
export const WHY_NO_ADDON: string | null =
  file !== null && existsSync(file) ? null : 'tfjs-node has no native addon here; npm run setup:tfjs-node builds it';
