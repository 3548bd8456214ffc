// `ofa-fleet export`: one subnet of a supernet as a folder that any ONNX Runtime loads.
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { availableParallelism, tmpdir } from 'node:os';
import { join } from 'node:path';
import { openBlobStore } from '@ofa-fleet/shared/node/blob-store.ts';
import { acquireHostLock, defaultHostLockPath } from '@ofa-fleet/shared/node/host-lock.ts';
import { failed, ok, type Outcome } from '@ofa-fleet/shared/outcome.ts';
import { startEvaluator } from '../evaluate/evaluator.ts';
import { fitToSpace, loadImages } from '../main.ts';
import type { Statistics } from '../materialise/artifact.ts';
import { exportModel } from '../materialise/export.ts';
import { millions } from '../report/format.ts';
import type { Space } from '../space.ts';
import { largestSubnet, parseSubnet, smallestSubnet, type Subnet } from '../subnet.ts';
import { readCheckpoint } from '../supernet/checkpoint.ts';
import { EXIT, fail, type Context } from './context.ts';

const TELL_AFTER_MS = 1000;

export interface ExportOptions {
  /** `largest`, `smallest`, or a JSON file. */
  readonly subnet: string;
  readonly out: string;
  readonly data?: string;
  readonly statistics: Statistics;
}

export async function exportSubnet(checkpointPath: string, options: ExportOptions, context: Context): Promise<number> {
  const checkpoint = readCheckpoint(checkpointPath);
  if (!checkpoint.ok) return fail(context, checkpoint);
  const { space } = checkpoint.value;
  const subnet = subnetNamed(space, options.subnet);
  if (!subnet.ok) return fail(context, subnet);
  const loaded = loadImages(options.data ?? null);
  const images = loaded.ok ? fitToSpace(space, loaded.value) : loaded;
  if (!images.ok) return fail(context, images);
  // Evaluating takes every core: a measurement that runs on this host comes first, and the next waits.
  const told = setTimeout(
    () => context.print('Waiting for its turn: something on this host is being measured or evaluated.'),
    TELL_AFTER_MS,
  );
  const turn = await acquireHostLock({ path: defaultHostLockPath(), signal: context.signal })
    .catch((error: unknown) => {
      if (context.signal.aborted) return null;
      throw error;
    })
    .finally(() => clearTimeout(told));
  if (turn === null) return fail(context, failed('CANCELED', 'Stopped while it waited for its turn on this host; nothing was exported.'));
  const scratch = mkdtempSync(join(tmpdir(), 'ofa-export-'));
  const evaluator = await startEvaluator({
    checkpointPath,
    blobsDir: scratch,
    calibration: images.value.calibration,
    splits: {},
    threads: availableParallelism(),
  });
  try {
    if (!evaluator.ok) return fail(context, evaluator);
    const artifact = await evaluator.value.materialise(subnet.value, { statistics: options.statistics, signal: context.signal });
    if (!artifact.ok) return fail(context, artifact);
    const written = await exportModel(artifact.value, openBlobStore(scratch), options.out);
    if (!written.ok) return fail(context, written);
    const { subnetId, macs, parameters, manifest } = artifact.value;
    context.print(
      `Subnet ${subnetId}: ${millions(macs)} MACs, ${millions(parameters)} parameters, input ${manifest.input.shape.join(' x ')}.`,
    );
    context.print(
      `${join(options.out, 'model.onnx')} is checked against TensorFlow.js; next: ofa-agent measure ${join(options.out, 'model.onnx')}`,
    );
    return EXIT.done;
  } finally {
    if (evaluator.ok) await evaluator.value.close();
    rmSync(scratch, { recursive: true, force: true });
    turn.release();
  }
}

function subnetNamed(space: Space, name: string): Outcome<Subnet> {
  if (name === 'largest') return ok(largestSubnet(space));
  if (name === 'smallest') return ok(smallestSubnet(space));
  let text: string;
  try {
    text = readFileSync(name, 'utf8');
  } catch {
    return failed('NOT_FOUND', `There is no file ${name} to read a subnet from: give one, or \`largest\` or \`smallest\`.`);
  }
  try {
    return parseSubnet(space, JSON.parse(text), name);
  } catch (error) {
    return failed(
      'INVALID_INPUT',
      `${name} is not JSON (${error instanceof Error ? error.message : String(error)}): write {"resolution": …, "stages": [[{"kernel": …, "expand": …}]]}.`,
    );
  }
}
