// Puts an emitted and checked model into the blob store and writes its manifest: from here on it is an artifact, named by the manifest's hash.
import type { BlobRef, Manifest } from '@ofa-fleet/shared/artifact.ts';
import type { BlobStore } from '@ofa-fleet/shared/node/blob-store.ts';
import { failed, ok, type Outcome } from '@ofa-fleet/shared/outcome.ts';
import { canonicalJson } from '../space.ts';
import type { ExtractedNet } from '../supernet/extracted-net.ts';
import { bytesOf, INPUT, OUTPUT, type EmittedModel } from './emit.ts';
import { OPSET } from './graph.ts';

/** For devices: other processors and WebAssembly round differently from the machine that made the golden output. */
export const GOLDEN_TOLERANCE = 1e-3;

export interface Kept {
  readonly manifest: Manifest;
  /** The blob with the manifest's canonical JSON. */
  readonly manifestRef: BlobRef;
}

/**
 * `golden`: one input and what the model gives for it, and how far devices may be from it. Equal inputs give equal bytes, so an equal manifest hash. UNCALIBRATED for a net whose
 * statistics are the supernet's mixture, unless `statistics` asks for exactly that; the manifest's provenance says which they are.
 */
export async function keepModel(
  blobs: BlobStore,
  net: ExtractedNet,
  model: EmittedModel,
  golden: { readonly input: Float32Array; readonly output: Float32Array; readonly tolerance?: number },
  statistics: 'calibrated' | 'stored',
  provenance: Readonly<Record<string, string>>,
): Promise<Outcome<Kept>> {
  if (net.statistics === 'mixture' && statistics !== 'stored') {
    return failed(
      'UNCALIBRATED',
      "The net's batch norms hold the supernet's mixed statistics, with which accuracy is near chance: calibrate it first, or ask for statistics: 'stored'.",
    );
  }
  const kept = await blobs.putAll([model.graph, bytesOf(golden.input), bytesOf(golden.output), ...model.weights]);
  if (!kept.ok) return kept;
  const [graph, input, output, ...weights] = kept.value as [BlobRef, BlobRef, BlobRef, ...BlobRef[]];
  const manifest: Manifest = {
    kind: 'model',
    opset: OPSET,
    input: { name: INPUT, shape: [...model.inputShape] },
    output: { name: OUTPUT, shape: [...model.outputShape] },
    graph,
    weights,
    golden: { input, output, tolerance: golden.tolerance ?? GOLDEN_TOLERANCE },
    provenance: {
      ...provenance,
      statistics: net.statistics === 'calibrated' ? 'calibrated' : "stored (the supernet's mixture, uncalibrated)",
    },
  };
  const manifestRef = await blobs.put(Buffer.from(canonicalJson(manifest)));
  return manifestRef.ok ? ok({ manifest, manifestRef: manifestRef.value }) : manifestRef;
}
