// What an agent may know of a model: a small ONNX graph, the weight blobs it names by hash, and one input with its right output.
import { z } from 'zod';

/** Transfer unit; a blob longer than this is checked block by block. */
export const BLOCK_BYTES = 64 * 1024;
export const MAX_BLOB_BYTES = 128 * 1024 * 1024;

export const sha256Schema = z.string().regex(/^[0-9a-f]{64}$/);

export const blobRefSchema = z.object({
  sha256: sha256Schema,
  bytes: z.int().min(1).max(MAX_BLOB_BYTES),
  /** SHA-256 of the blob's list of 32-byte block digests, itself a blob; null where the blob is one block. */
  blocksSha256: sha256Schema.nullable(),
});
export type BlobRef = Readonly<z.infer<typeof blobRefSchema>>;

export const manifestSchema = z.object({
  kind: z.literal('model'),
  opset: z.int(),
  /** Inputs and outputs are float32. The leading dimension is the batch, 1 as measured and served. */
  input: z.object({ name: z.string(), shape: z.array(z.int().min(1)).max(8) }),
  output: z.object({ name: z.string(), shape: z.array(z.int().min(1)).max(8) }),
  /** Holds no trained value: equal architectures have equal graphs. Its external data is named `t/<i>`, i being the place in `weights`. */
  graph: blobRefSchema,
  weights: z.array(blobRefSchema).max(1024),
  /** One real input and the output that is right for it (float32, little endian): |got - expected| <= tolerance · max(1, |expected|) each. */
  golden: z.object({ input: blobRefSchema, output: blobRefSchema, tolerance: z.number().positive() }),
  provenance: z.record(z.string(), z.string()),
});
/** Immutable; the SHA-256 of its exact bytes names the artifact. */
export type Manifest = Readonly<z.infer<typeof manifestSchema>>;

/** Every blob that a manifest names, without the block lists. */
export function blobsOf(manifest: Manifest): readonly BlobRef[] {
  return [manifest.graph, ...manifest.weights, manifest.golden.input, manifest.golden.output];
}
