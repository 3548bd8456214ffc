// An artifact as a folder that any ONNX Runtime in any language loads: model.onnx with its external data `t/<i>`, one input with its
// right output as raw little-endian float32, and the manifest.
import { randomBytes } from 'node:crypto';
import { existsSync, readdirSync } from 'node:fs';
import { mkdir, rename, rm, writeFile } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import type { BlobRef } from '@ofa-fleet/shared/artifact.ts';
import type { BlobStore } from '@ofa-fleet/shared/node/blob-store.ts';
import { failed, ok, type Outcome } from '@ofa-fleet/shared/outcome.ts';
import { writeFailure } from '../supernet/checkpoint.ts';
import type { Artifact } from './artifact.ts';

/**
 * Paths of the files written, relative to `dir`, which must be new or empty. It is there whole or not at all: the files are written beside
 * it first. Fails with INVALID_INPUT, LOW_DISK or what the store says of a blob.
 */
export async function exportModel(artifact: Artifact, blobs: BlobStore, dir: string): Promise<Outcome<readonly string[]>> {
  const { manifest, manifestRef, subnet } = artifact;
  const contents: readonly (readonly [string, BlobRef])[] = [
    ['model.onnx', manifest.graph],
    ...manifest.weights.map((ref, i) => [`t/${i}`, ref] as const),
    ['golden/input.bin', manifest.golden.input],
    ['golden/output.bin', manifest.golden.output],
    ['manifest.json', manifestRef],
  ];
  const needed = contents.reduce((sum, [, ref]) => sum + ref.bytes, 0);
  const draft = `${resolve(dir)}.${randomBytes(4).toString('hex')}.tmp`;
  try {
    if (existsSync(dir) && readdirSync(dir).length > 0) {
      return failed('INVALID_INPUT', `The folder ${dir} is not empty: name a new one, so that files of two models never mix.`);
    }
    try {
      for (const folder of ['t', 'golden']) await mkdir(join(draft, folder), { recursive: true });
      for (const [name, ref] of contents) {
        const bytes = blobs.get(ref.sha256);
        if (!bytes.ok) return bytes;
        await writeFile(join(draft, name), bytes.value);
      }
      await writeFile(join(draft, 'subnet.json'), `${JSON.stringify(subnet)}\n`);
      await rename(draft, dir);
    } finally {
      await rm(draft, { recursive: true, force: true }).catch(() => null); // none where its place could not be written
    }
  } catch (error) {
    return writeFailure(error, dir, needed);
  }
  return ok([...contents.map(([name]) => name), 'subnet.json']);
}
