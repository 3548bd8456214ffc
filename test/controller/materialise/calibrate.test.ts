// Calibration against plain loops, with batches that do not divide the images.
import { describe, expect, it } from 'vitest';
import { calibrate } from '../../../controller/materialise/calibrate.ts';
import { batches } from '../../../controller/materialise/images.ts';
import { uniformSubnet } from '../../../controller/subnet.ts';
import { normsOf, tensorsOf, type ExtractedNet } from '../../../controller/supernet/extracted-net.ts';
import { value } from '../../helpers/outcome.ts';
import { randomImages, randomNet, smallSpace } from './random-net.ts';
import { referenceForward } from './reference.ts';

const space = smallSpace;
const net = randomNet(space, uniformSubnet(space, { resolution: 16, kernel: 5, expand: 3, depth: 2, stages: 2 }), 11);

const statisticsOf = (of: ExtractedNet) => normsOf(of).flatMap((norm) => [norm.mean.data, norm.variance.data]);

describe('calibration', { timeout: 60_000 }, () => {
  it('averages the batches, each by its number of images, also when the last batch is smaller', async () => {
    const images = randomImages(net, 8, 21);
    const calibrated = value(await calibrate(net, images, { batchSize: 3, threads: 1 }));
    const passes = [...batches(images, 3)].map((batch) => ({ ...batch, pass: referenceForward(net, batch.data, batch.count, 'batch') }));
    expect(passes.map(({ count }) => count)).toEqual([3, 3, 2]);
    normsOf(calibrated).forEach((norm, i) => {
      for (const part of ['mean', 'variance'] as const) {
        norm[part].data.forEach((got, channel) => {
          const expected =
            passes.reduce((sum, { count, pass }) => sum + (pass.statistics[i]?.[part][channel] as number) * count, 0) / images.count;
          expect(Math.abs(got - expected)).toBeLessThanOrEqual(1e-5 * Math.max(1, Math.abs(expected)));
        });
      }
    });
  });

  it('keeps digits where a channel lies far from zero', async () => {
    const beta = net.stem.norm.beta;
    const shifted: ExtractedNet = {
      ...net,
      stem: { ...net.stem, norm: { ...net.stem.norm, beta: { ...beta, data: beta.data.map((x) => x + 300) } } },
    };
    const images = randomImages(net, 4, 22);
    const calibrated = value(await calibrate(shifted, images, { batchSize: 4, threads: 1 }));
    const expected = referenceForward(shifted, images.data, 4, 'batch').statistics[1];
    const got = normsOf(calibrated)[1]?.variance.data as Float32Array;
    got.forEach((variance, channel) => expect(variance / (expected?.variance[channel] as number)).toBeCloseTo(1, 3));
  });

  it('changes a copy: the given net keeps its statistics, and nothing but statistics differs', async () => {
    const before = statisticsOf(net).map((values) => values.slice());
    const calibrated = value(await calibrate(net, randomImages(net, 4, 23), { batchSize: 4, threads: 1 }));
    expect(statisticsOf(net)).toEqual(before);
    expect(net.statistics).toBe('mixture');
    expect(calibrated.statistics).toBe('calibrated');
    const changed = tensorsOf(calibrated).filter((tensor, i) => tensor.data !== tensorsOf(net)[i]?.data);
    expect(changed.length).toBe(2 * normsOf(net).length);
  });

  it('gives bitwise the same again', async () => {
    const images = randomImages(net, 7, 24);
    const once = async () => statisticsOf(value(await calibrate(net, images, { batchSize: 4, threads: 1 })));
    expect(await once()).toEqual(await once());
  });
});
