// The memory of TensorFlow.js's WebAssembly backend, and our machine code on it: tensors are worked on where they lie.
import * as tf from '@tensorflow/tfjs';
import { assemble, type Functions } from './assembler.ts';
import { CHANNEL_FUNCTIONS } from './channels.ts';
import { COPY_CELLS, depthwiseFunctions } from './depthwise.ts';
import { MULTIPLY_4, MULTIPLY_8, TRANSPOSED_PRODUCT } from './products.ts';

/** What the backend has and TensorFlow.js does not declare. */
interface WasmBackend {
  readonly wasm: {
    readonly asm: { readonly memory: { readonly buffer: ArrayBuffer } };
    _malloc(bytes: number): number;
    _free(address: number): void;
  };
  readonly dataIdMap: { get(id: object): { readonly memoryOffset: number } };
  makeOutput(shape: readonly number[], dtype: tf.DataType): tf.TensorInfo;
}

const FIXED = [COPY_CELLS, TRANSPOSED_PRODUCT, MULTIPLY_8, MULTIPLY_4, ...CHANNEL_FUNCTIONS] as const;
type FixedName = (typeof FIXED)[number]['name'];
type DepthwiseFunctions = Functions<'correlate' | 'scatter' | 'gatherTaps'>;

export interface Heap {
  /** Functions that do not depend on a kernel's side and stride. */
  readonly call: Functions<FixedName>;
  /** `depthwiseFunctions`, compiled at their first use. */
  depthwise(side: number, stride: number): DepthwiseFunctions;
  /** Where the tensor's first value lies, in bytes. */
  address(tensor: tf.TensorInfo): number;
  /** A tensor of undefined content, to be filled. */
  tensor<R extends tf.Rank>(shape: readonly number[]): tf.Tensor<R>;
  /** The values there; valid until something is allocated. */
  floats(address: number, length: number): Float32Array;
  /** Room for `length` float32 while `use` runs. */
  scratch<T>(length: number, use: (address: number) => T): T;
}

/** The heap of the backend in use, which must be `wasm`. */
export function openHeap(): Heap {
  const backend = tf.backend() as unknown as WasmBackend;
  const { memory } = backend.wasm.asm;
  refuseWhenFull(backend);
  const call = assemble<FixedName>(FIXED, memory);
  const compiled = new Map<string, DepthwiseFunctions>();
  return {
    call,
    depthwise(side, stride) {
      const key = `${side} ${stride}`;
      const known = compiled.get(key) ?? assemble(depthwiseFunctions(side, stride), memory);
      compiled.set(key, known);
      return known;
    },
    address: (tensor) => backend.dataIdMap.get(tensor.dataId).memoryOffset,
    tensor: <R extends tf.Rank>(shape: readonly number[]) =>
      tf.engine().makeTensorFromTensorInfo(backend.makeOutput(shape, 'float32')) as tf.Tensor<R>,
    floats: (address, length) => new Float32Array(memory.buffer, address, length),
    scratch(length, use) {
      const address = backend.wasm._malloc(4 * length) >>> 0;
      try {
        return use(address);
      } finally {
        backend.wasm._free(address);
      }
    },
  };
}

/** A full heap gives address 0, which the backend takes for a place like any other and writes over its own data. */
function refuseWhenFull({ wasm }: WasmBackend): void {
  wasm._free(wasm._malloc(16)); // the first call puts the real function in the place of a stub
  const malloc = wasm._malloc.bind(wasm);
  wasm._malloc = (bytes) => {
    const address = bytes < 2 ** 32 ? malloc(bytes) : 0;
    if (address === 0 && bytes > 0) {
      const used = wasm.asm.memory.buffer.byteLength;
      throw new Error(`WebAssembly has no room for ${bytes} bytes beside its ${used}: take a smaller batch or smaller images.`);
    }
    return address;
  };
}
