// Stand-ins for images where a net is exported without any: noise is enough to compare two programs that run the same net.
import { xoroshiro128plus } from 'pure-rand/generator/xoroshiro128plus';
import type { Space } from '../space.ts';
import type { PreparedImages } from './images.ts';

const SEED = 1;

/** `count` images of uniform noise in [-1, 1), the same each time; never for calibration. */
export function noiseImages(space: Space, count: number): PreparedImages {
  return {
    count,
    sha256: `noise of seed ${SEED}`,
    at(resolution) {
      const next = xoroshiro128plus(SEED);
      const shape = [space.inputChannels, resolution, resolution];
      const data = Float32Array.from({ length: shape.reduce((product, side) => product * side, count) }, () => next.next() / 2 ** 31);
      return { shape, count, data };
    },
  };
}
