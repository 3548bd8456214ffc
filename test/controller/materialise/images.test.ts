// Images prepared for nets: the same numbers whether they are kept or made anew for each net.
import { expect, it } from 'vitest';
import { prepareImages, streamOf } from '../../../controller/materialise/images.ts';
import type { ImageSet } from '../../../controller/supernet/data/dataset.ts';
import { TINY_SPACE } from '../../helpers/spaces.ts';

it('are made batch by batch where they are many, with the numbers that they have where they are few', () => {
  const [count, side] = [20_000, 4];
  const pixels = Uint8Array.from({ length: count * side * side }, (_, i) => (i * 7919) % 256);
  const many: ImageSet = { count, height: side, width: side, channels: 1, classes: 3, pixels, labels: new Uint8Array(count) };
  const few: ImageSet = { ...many, count: 25, pixels: pixels.slice(0, 25 * side * side), labels: new Uint8Array(25) };
  // 20,000 x 64 x 64 values are 328 MB, 25 are not many
  const streamed = prepareImages(many, TINY_SPACE).streamAt(64);
  const kept = streamOf(prepareImages(few, TINY_SPACE).at(64));
  const first = [...take(streamed.batches(10), 2)];
  expect(first.map((batch) => [batch.count, batch.shape])).toEqual([
    [10, [10, 1, 64, 64]],
    [10, [10, 1, 64, 64]],
  ]);
  const expected = [...take(kept.batches(10), 2)];
  expect(first.map(({ data }) => data)).toEqual(expected.map(({ data }) => data));
  // made anew each time, not held
  const [again] = [...take(streamed.batches(10), 1)];
  expect(again?.data).toEqual(first[0]?.data);
  expect(again?.data).not.toBe(first[0]?.data);
});

function* take<T>(items: Iterable<T>, count: number): Generator<T> {
  let taken = 0;
  for (const item of items) {
    if (taken++ === count) return;
    yield item;
  }
}
