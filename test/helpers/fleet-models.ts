// Small real models in a blob store, as the controller's materialise stage leaves them: graph, weights of any size, golden pair, manifest.
import type { BlobRef, Manifest } from '@ofa-fleet/shared/artifact.ts';
import type { BlobStore } from '@ofa-fleet/shared/node/blob-store.ts';
import { encodeOnnx } from '../../agent/onnx-bytes.ts';
import { arbitraryInput } from '../../agent/measure.ts';
import { loadRuntime } from '../../agent/node/runtime/runtimes.ts';
import { convStack } from './small-models.ts';
import { value } from './outcome.ts';

const SHAPE = { channels: 2, size: 6, layers: 2 } as const;

export interface StoredModel {
  readonly manifestSha256: string;
  readonly manifest: Manifest;
  readonly input: Float32Array;
  readonly output: Float32Array;
}

/** Random bytes that a seed repeats. */
export function seededBytes(seed: number, length: number): Uint8Array {
  let state = (seed * 2654435761 + 1) >>> 0;
  return Uint8Array.from({ length }, () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return state >>> 24;
  });
}

/** A model that runs. Each of `weightBytes` is one more blob that travels with it; `seed` sets their content apart. */
export async function storeModel(blobs: BlobStore, seed: number, weightBytes: readonly number[] = [100]): Promise<StoredModel> {
  const graph = encodeOnnx(convStack(SHAPE));
  const shape = [1, SHAPE.channels, SHAPE.size, SHAPE.size];
  const input = Float32Array.from(arbitraryInput(SHAPE.channels * SHAPE.size * SHAPE.size));
  const session = value(await value(await loadRuntime('onnxruntime-node')).load({ graph, externalData: [] }, { intraOpThreads: 1 }));
  session.setInput(input);
  await session.run();
  const output = session.output().slice();
  await session.release();
  const put = async (bytes: Uint8Array): Promise<BlobRef> => value(await blobs.put(bytes));
  const manifest: Manifest = {
    kind: 'model',
    opset: 17,
    input: { name: 'x', shape },
    output: { name: 'y', shape },
    graph: await put(graph),
    weights: await Promise.all(weightBytes.map((length, i) => put(seededBytes(seed * 1000 + i, length)))),
    golden: { input: await put(new Uint8Array(input.buffer)), output: await put(new Uint8Array(output.buffer)), tolerance: 1e-4 },
    provenance: { seed: String(seed) },
  };
  const { sha256 } = await put(new TextEncoder().encode(JSON.stringify(manifest)));
  return { manifestSha256: sha256, manifest, input, output };
}
