// Recomputes the batch-norm statistics of one subnet. The supernet's own are a mixture over all subnets and useless for any of them
// (Once-For-All, arXiv 1908.09791: accuracy is near chance without this).
import { ok, type Outcome } from '@ofa-fleet/shared/outcome.ts';
import { normsOf, withStatistics, type BatchNorm, type ExtractedNet } from '../supernet/extracted-net.ts';
import { batchStatisticsOf, emitModel } from './emit.ts';
import { batches, type InputImages } from './images.ts';
import { openSession } from './session.ts';

export interface CalibrationSettings {
  readonly batchSize: number;
  readonly threads: number;
}

/**
 * The same net with calibrated statistics; the given one is not changed. Runs the images through the net in order; every batch norm
 * normalises with its current batch's mean and biased variance, and its new statistics are the averages of those, weighted by batch size.
 */
export async function calibrate(net: ExtractedNet, images: InputImages, settings: CalibrationSettings): Promise<Outcome<ExtractedNet>> {
  const opened = await openSession(emitModel(net, { batch: 'dynamic', statistics: 'batch' }), settings.threads);
  if (!opened.ok) return opened;
  const session = opened.value;
  const names = normsOf(net).flatMap((norm) => Object.values(batchStatisticsOf(norm)));
  const sums = new Map<string, Float64Array>();
  try {
    for (const batch of batches(images, settings.batchSize)) {
      const outputs = await session.run(batch.data, batch.shape);
      for (const name of names) {
        const values = outputs.get(name) as Float32Array;
        const sum = sums.get(name) ?? new Float64Array(values.length);
        values.forEach((value, channel) => (sum[channel] = (sum[channel] as number) + value * batch.count));
        sums.set(name, sum);
      }
    }
  } finally {
    await session.release();
  }
  const average = (name: string) => Float32Array.from(sums.get(name) as Float64Array, (sum) => sum / images.count);
  return ok(
    withStatistics(net, 'calibrated', (norm: BatchNorm) => {
      const { mean, variance } = batchStatisticsOf(norm);
      return { mean: average(mean), variance: average(variance) };
    }),
  );
}
