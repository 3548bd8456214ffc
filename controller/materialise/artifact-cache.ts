// Remembers what was materialised, beside the blobs: a small record under a key that covers everything the result depends on. A record
// that is lost or torn costs the work again and nothing else, so it is written without syncs.
import { mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { z } from 'zod';
import { blobRefSchema, blobsOf, manifestSchema } from '@ofa-fleet/shared/artifact.ts';
import type { BlobStore } from '@ofa-fleet/shared/node/blob-store.ts';
import type { Space } from '../space.ts';
import { parseSubnet } from '../subnet.ts';
import type { Artifact } from './artifact.ts';

/** Raise it when equal inputs begin to give other bytes, so that remembered artifacts are made anew. */
export const EMITTER_VERSION = 1;

const recordSchema = z.object({
  subnetId: z.string(),
  subnet: z.unknown(),
  weightsHash: z.string(),
  manifestRef: blobRefSchema,
  macs: z.int(),
  parameters: z.int(),
});

const fileOf = (blobs: BlobStore, key: string) => join(blobs.dir, 'artifacts', `${key}.json`);

/** The artifact remembered under `key`, or null where there is none or one of its blobs is gone. */
export function recallArtifact(blobs: BlobStore, space: Space, key: string): Artifact | null {
  try {
    const { subnet: genes, ...record } = recordSchema.parse(JSON.parse(readFileSync(fileOf(blobs, key), 'utf8')));
    const subnet = parseSubnet(space, genes, key);
    const bytes = blobs.get(record.manifestRef.sha256);
    if (!subnet.ok || !bytes.ok) return null;
    const manifest = manifestSchema.parse(JSON.parse(Buffer.from(bytes.value).toString('utf8')));
    const whole = blobsOf(manifest).every((ref) => blobs.has(ref.sha256) && (ref.blocksSha256 === null || blobs.has(ref.blocksSha256)));
    return whole ? { ...record, subnet: subnet.value, manifest } : null;
  } catch {
    return null;
  }
}

export function rememberArtifact(blobs: BlobStore, key: string, artifact: Artifact): void {
  const { subnetId, subnet, weightsHash, manifestRef, macs, parameters } = artifact;
  const file = fileOf(blobs, key);
  const draft = `${file}.${process.pid}.tmp`;
  try {
    mkdirSync(join(blobs.dir, 'artifacts'), { recursive: true });
    writeFileSync(draft, JSON.stringify({ subnetId, subnet, weightsHash, manifestRef, macs, parameters }));
    renameSync(draft, file);
  } catch (error) {
    // no room for the record: the artifact itself is whole
    if ((error as NodeJS.ErrnoException).code !== 'ENOSPC') throw error;
    rmSync(draft, { force: true });
  }
}
