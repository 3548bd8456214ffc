// The numbers of a stored tensor as float32, whatever kind they are stored as, its strides followed and its axes put into another order.
import { refuse } from './refusal.ts';
import { ELEMENT_BYTES, type ElementKind, type StoredTensor } from './values.ts';

/** More numbers than any supernet has in one tensor; a tensor with strides of 0 could ask for any number. */
const MAX_ELEMENTS = 2 ** 28;

/** `bytes`: the whole storage. Row-major in the axes `order`, e.g. [2, 3, 1, 0] for a convolution. Throws a Refusal. */
export function floatsOf({ storage, offset, shape, strides }: StoredTensor, bytes: Uint8Array, order: readonly number[]): Float32Array {
  const count = shape.reduce((product, side) => product * side, 1);
  if (count > MAX_ELEMENTS) refuse(`has a tensor of ${count} numbers, ${MAX_ELEMENTS} at most are read`);
  const read = READERS[storage.kind];
  const fields = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const size = ELEMENT_BYTES[storage.kind];
  const sides = order.map((axis) => shape[axis] as number);
  const steps = order.map((axis) => (strides[axis] as number) * size);
  const floats = new Float32Array(count);
  let filled = 0;
  const walk = (axis: number, at: number): void => {
    if (axis === sides.length) {
      floats[filled++] = read(fields, at);
      return;
    }
    const [side, step] = [sides[axis] as number, steps[axis] as number];
    for (let i = 0; i < side; i++) walk(axis + 1, at + i * step);
  };
  if (count > 0) walk(0, (storage.base + offset) * size);
  return floats;
}

const READERS: Readonly<Record<ElementKind, (fields: DataView, at: number) => number>> = {
  float32: (fields, at) => fields.getFloat32(at, true),
  float64: (fields, at) => fields.getFloat64(at, true),
  float16: (fields, at) => halfValue(fields.getUint16(at, true)),
  bfloat16: (fields, at) => bfloatValue(fields.getUint16(at, true)),
  int64: (fields, at) => Number(fields.getBigInt64(at, true)),
  int32: (fields, at) => fields.getInt32(at, true),
  int16: (fields, at) => fields.getInt16(at, true),
  int8: (fields, at) => fields.getInt8(at),
  uint8: (fields, at) => fields.getUint8(at),
  bool: (fields, at) => fields.getUint8(at),
};

/** IEEE 754 binary16: 1 sign, 5 exponent, 10 fraction bits. */
function halfValue(bits: number): number {
  const sign = (bits & 0x8000) === 0 ? 1 : -1;
  const [exponent, fraction] = [(bits >> 10) & 0x1f, bits & 0x3ff];
  if (exponent === 0) return sign * fraction * 2 ** -24;
  if (exponent === 0x1f) return fraction === 0 ? sign * Infinity : NaN;
  return sign * (1 + fraction / 1024) * 2 ** (exponent - 15);
}

const scratch = new DataView(new ArrayBuffer(4));

/** The upper half of a float32. */
function bfloatValue(bits: number): number {
  scratch.setUint32(0, bits * 0x10000, false);
  return scratch.getFloat32(0, false);
}
