// What `materialise` gives: a model as blobs under one manifest, with the subnet that it came from, which stays in the controller.
import type { BlobRef, Manifest } from '@ofa-fleet/shared/artifact.ts';
import type { Subnet } from '../subnet.ts';

export interface Artifact {
  readonly subnetId: string;
  readonly subnet: Subnet;
  readonly weightsHash: string;
  readonly manifest: Manifest;
  /** The blob with the manifest's exact bytes; its sha256 names the artifact. */
  readonly manifestRef: BlobRef;
  /** Multiply-accumulates of one image. */
  readonly macs: number;
  /** Trained values. */
  readonly parameters: number;
}

/**
 * Whose batch-norm statistics the model gets. `calibrated`: recomputed for this subnet on the images given. `stored`: as they lie in the
 * checkpoint, a mixture over all subnets, with which accuracy is near chance; for study only.
 */
export type Statistics = 'calibrated' | 'stored';
