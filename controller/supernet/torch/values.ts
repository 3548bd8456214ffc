// What may stand in a checkpoint of PyTorch: plain values, and tensors that say where in the file their numbers are.

/** Bytes of one element, by torch's name of the kind. */
export const ELEMENT_BYTES = {
  float32: 4,
  float64: 8,
  float16: 2,
  bfloat16: 2,
  int64: 8,
  int32: 4,
  int16: 2,
  int8: 1,
  uint8: 1,
  bool: 1,
} as const;

export type ElementKind = keyof typeof ELEMENT_BYTES;

/** A run of numbers in the file that several tensors may share. */
export class Storage {
  readonly key: string;
  readonly kind: ElementKind;
  readonly elements: number;
  /** Element of the stored run at which this one begins; above 0 in views that files from before 2018 hold. */
  readonly base: number;
  constructor(key: string, kind: ElementKind, elements: number, base: number) {
    this.key = key;
    this.kind = kind;
    this.elements = elements;
    this.base = base;
  }
}

/** Element [i, j, …] lies at offset + i · strides[0] + j · strides[1] + … of its storage; all of them lie inside it. */
export class StoredTensor {
  readonly storage: Storage;
  readonly offset: number;
  readonly shape: readonly number[];
  readonly strides: readonly number[];
  constructor(storage: Storage, offset: number, shape: readonly number[], strides: readonly number[]) {
    this.storage = storage;
    this.offset = offset;
    this.shape = shape;
    this.strides = strides;
  }
}

/** A name that a pickle may mention: nothing is ever looked up or called by it. */
export class AllowedName {
  readonly name: string;
  constructor(name: string) {
    this.name = name;
  }
}

/** Dictionaries, ordered ones too, are Maps; lists and tuples are arrays; whole numbers beyond 2^53 are bigints. */
export type PickleValue =
  null | boolean | number | bigint | string | PickleValue[] | Map<PickleValue, PickleValue> | StoredTensor | Storage | AllowedName;
