// Reads a model from where it lies on this device (blobs, or one ONNX file with external data beside it) into memory.
import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { dirname, relative, resolve } from 'node:path';
import type { BlobRef } from '@ofa-fleet/shared/artifact.ts';
import { blobPath } from '@ofa-fleet/shared/node/blob-store.ts';
import { failed, ok, type Outcome } from '@ofa-fleet/shared/outcome.ts';
import type { ModelUnderTest } from '../measure.ts';
import { externalDataLocations } from '../onnx-external.ts';
import type { ModelSource } from '../ports.ts';

function toFloat32(bytes: Uint8Array): Float32Array {
  // Copied: a view needs 4-byte alignment, which a file buffer does not promise. Little endian, as is every platform that Node runs ONNX Runtime on.
  return new Float32Array(Uint8Array.from(bytes).buffer);
}

function readFromBlobs(source: Extract<ModelSource, { kind: 'blobs' }>): Outcome<ModelUnderTest> {
  const { manifest, blobsDir } = source;
  const read = (ref: BlobRef): Uint8Array => {
    const bytes = readFileSync(blobPath(blobsDir, ref.sha256));
    if (bytes.length !== ref.bytes) throw new Error(`blob ${ref.sha256} has ${bytes.length} bytes, its manifest says ${ref.bytes}`);
    return bytes;
  };
  try {
    return ok({
      sha256: source.manifestSha256,
      bytes: { graph: read(manifest.graph), externalData: manifest.weights.map((ref, i) => ({ path: `t/${i}`, data: read(ref) })) },
      golden: {
        input: toFloat32(read(manifest.golden.input)),
        output: toFloat32(read(manifest.golden.output)),
        tolerance: manifest.golden.tolerance,
      },
    });
  } catch (error) {
    return failed(
      'UNKNOWN_BLOB',
      `The artifact ${source.manifestSha256.slice(0, 12)} is not whole on this device: ${(error as Error).message}. Fetch it again.`,
    );
  }
}

function readFromFile(path: string): Outcome<ModelUnderTest> {
  let graph: Uint8Array;
  try {
    graph = readFileSync(path);
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === 'ENOENT') return failed('NOT_FOUND', `There is no file ${path}. Name an ONNX file.`);
    return failed('NOT_FOUND', `${path} cannot be read (${code ?? String(error)}). Name an ONNX file that you may read.`);
  }
  const folder = resolve(dirname(path));
  const externalData: { path: string; data: Uint8Array }[] = [];
  for (const location of externalDataLocations(graph)) {
    const file = resolve(folder, location);
    if (relative(folder, file).startsWith('..')) {
      return failed(
        'CORRUPT_FILE',
        `${path} refers to external data outside its own folder (${location}), which is refused. Put the data beside the model.`,
      );
    }
    try {
      externalData.push({ path: location, data: readFileSync(file) });
    } catch {
      return failed('NOT_FOUND', `${path} needs its external data ${file}, which cannot be read. Put the file beside the model.`);
    }
  }
  return ok({ sha256: createHash('sha256').update(graph).digest('hex'), bytes: { graph, externalData }, golden: null });
}

export function readModel(source: ModelSource): Outcome<ModelUnderTest> {
  return source.kind === 'blobs' ? readFromBlobs(source) : readFromFile(source.path);
}
