// What a run leaves behind, as data that is kept in the repository.
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { TestedSetting, UniformSummary } from '../../../controller/supernet/checkpoint.ts';
import type { PhaseKind } from '../../../controller/supernet/training/phases.ts';

/** Those of the experiment that is kept. */
export const RESULTS = fileURLToPath(new URL('./results/', import.meta.url));

export interface PhaseResult {
  readonly phase: string;
  readonly kind: PhaseKind;
  readonly settings: number;
  /** Shares of test images that are classified rightly: by the setting that validation picks, by the best one on test images, on average. */
  readonly picked: number;
  readonly best: number;
  readonly mean: number;
}

export interface RunResult {
  readonly arm: string;
  readonly seed: number;
  readonly scale: number;
  readonly phases: readonly PhaseResult[];
  /** Of the finished supernet, over all uniform settings tested. */
  readonly uniform: UniformSummary;
  readonly settings: readonly TestedSetting[];
  readonly provenance: {
    readonly trainingSeconds: number;
    readonly backend: string;
    readonly cpu: string;
    readonly node: string;
    readonly finishedAt: string;
    readonly data: string;
    readonly trainingImages: number;
    readonly testImages: number;
  };
}

export function readResults(folder: string): readonly RunResult[] {
  if (!existsSync(folder)) return [];
  const files = readdirSync(folder).filter((name) => name.endsWith('.json'));
  return files.sort().map((name) => JSON.parse(readFileSync(join(folder, name), 'utf8')) as RunResult);
}
