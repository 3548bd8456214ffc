// What is known of a subnet under one set of weights: which artifact it became, what it costs by counting, how many images it gets right.
// Shared by all campaigns, so that no subnet is materialised or evaluated twice.
import type { Db } from './database.ts';

export interface ArtifactRow {
  readonly subnetId: string;
  readonly weightsHash: string;
  readonly manifestSha256: string;
  /** Multiply-accumulate operations of one inference. */
  readonly macs: number;
  readonly parameters: number;
}

export async function addArtifact(db: Db, artifact: ArtifactRow & { readonly at: number }): Promise<void> {
  const { subnetId, weightsHash, manifestSha256, macs, parameters, at } = artifact;
  const row = { subnet_id: subnetId, weights_hash: weightsHash, manifest_sha256: manifestSha256, macs, parameters, at };
  await db
    .insertInto('artifact')
    .values(row)
    .onConflict((conflict) => conflict.columns(['subnet_id', 'weights_hash']).doNothing())
    .execute();
}

export async function artifactsOf(db: Db, weightsHash: string): Promise<ReadonlyMap<string, ArtifactRow>> {
  const rows = await db.selectFrom('artifact').selectAll().where('weights_hash', '=', weightsHash).execute();
  return new Map(
    rows.map((row) => {
      const { subnet_id: subnetId, manifest_sha256: manifestSha256, macs, parameters } = row;
      return [subnetId, { subnetId, weightsHash, manifestSha256, macs, parameters }];
    }),
  );
}

export interface AccuracyRow {
  readonly subnetId: string;
  readonly weightsHash: string;
  /** Names the images: split and the hash of their bytes. */
  readonly split: string;
  readonly correct: number;
  readonly total: number;
  /** Predicted class of each image, in order; classes above 255 are not kept. */
  readonly predictions: Uint8Array | null;
}

export async function addAccuracy(db: Db, accuracy: AccuracyRow & { readonly at: number }): Promise<void> {
  const { subnetId, weightsHash, split, correct, total, predictions, at } = accuracy;
  await db
    .insertInto('accuracy')
    .values({ subnet_id: subnetId, weights_hash: weightsHash, split, correct, total, predictions, at })
    .execute();
}

/** The first row written, if any: later ones could only repeat it. */
export async function accuracyOf(db: Db, subnetId: string, weightsHash: string, split: string): Promise<AccuracyRow | null> {
  const row = await db
    .selectFrom('accuracy')
    .selectAll()
    .where('subnet_id', '=', subnetId)
    .where('weights_hash', '=', weightsHash)
    .where('split', '=', split)
    .orderBy('at')
    .limit(1)
    .executeTakeFirst();
  if (row === undefined) return null;
  return { subnetId, weightsHash, split, correct: row.correct, total: row.total, predictions: row.predictions };
}

/** Every accuracy known under these weights. */
export async function accuraciesOf(db: Db, weightsHash: string): Promise<readonly AccuracyRow[]> {
  const rows = await db.selectFrom('accuracy').selectAll().where('weights_hash', '=', weightsHash).orderBy('at').execute();
  return rows.map((row) => {
    const { subnet_id: subnetId, split, correct, total, predictions } = row;
    return { subnetId, weightsHash, split, correct, total, predictions };
  });
}
