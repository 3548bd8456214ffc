// A small WebAssembly assembler: kernels are written as expressions in TypeScript, unrolled for their sizes, and become machine code at
// run time, without a toolchain or a binary in the repository. Opcodes: WebAssembly Core Specification 2.0, sections 5.4 and 5.5.

/** Encoded instructions, nested as they were written. */
export type Code = readonly (number | Code)[];

/** A variable of a function: `i32` (pointers in bytes, counts) or `v128` (four float32). */
export interface Local {
  readonly index: number;
}

/** An expression: instructions that leave a value, a variable's value, or an i32 constant. */
export type Term = Code | Local | number;

export interface WasmFunction<Name extends string = string> {
  readonly name: Name;
  /** All of type i32; nothing is returned. */
  readonly parameters: number;
  readonly locals: readonly number[];
  readonly code: Code;
}

/** The part of the WebAssembly interface that is used here; neither Node's types nor the language's declare it. */
interface WebAssemblyInterface {
  validate(bytes: Uint8Array): boolean;
  readonly Module: new (bytes: Uint8Array) => object;
  readonly Instance: new (module: object, imports: object) => { readonly exports: object };
}
const wasm = (globalThis as unknown as { readonly WebAssembly: WebAssemblyInterface }).WebAssembly;

const I32 = 0x7f;
const V128 = 0x7b;
const EMPTY = 0x40;

function unsigned(value: number): number[] {
  const bytes: number[] = [];
  do {
    const low = value & 0x7f;
    value >>>= 7;
    bytes.push(value === 0 ? low : low | 0x80);
  } while (value !== 0);
  return bytes;
}

function signed(value: number): number[] {
  const bytes: number[] = [];
  for (;;) {
    const low = value & 0x7f;
    value >>= 7;
    const done = (value === 0 && (low & 0x40) === 0) || (value === -1 && (low & 0x40) !== 0);
    bytes.push(done ? low : low | 0x80);
    if (done) return bytes;
  }
}

function valueOf(term: Term): Code {
  if (typeof term === 'number') return [0x41, signed(term)];
  return 'index' in term ? [0x20, unsigned(term.index)] : term;
}

const simd = (opcode: number, ...immediates: number[]): Code => [0xfd, unsigned(opcode), ...immediates];
const memory = (offset: number): number[] => [2, ...unsigned(offset)]; // aligned to 4 bytes at least
const binary =
  (opcode: Code) =>
  (a: Term, b: Term): Code => [valueOf(a), valueOf(b), opcode];

export const set = (local: Local, value: Term): Code => [valueOf(value), 0x21, unsigned(local.index)];
export const sum = (first: Term, ...more: Term[]): Code => more.reduce<Code>((total, term) => [total, valueOf(term), 0x6a], valueOf(first));
export const product = (first: Term, ...more: Term[]): Code =>
  more.reduce<Code>((total, term) => [total, valueOf(term), 0x6c], valueOf(first));
/** Sets the variable and leaves its value. */
export const assign = (local: Local, value: Term): Code => [valueOf(value), 0x22, unsigned(local.index)];
export const advance = (local: Local, by: Term): Code => set(local, sum(local, by));
export const atMost = binary([0x4d]);
export const less = binary([0x49]);
/** The lesser of two i32. */
export const lesser = (a: Term, b: Term): Code => [valueOf(a), valueOf(b), less(a, b), 0x1b];

/** Vectors of four float32; addresses in bytes plus a constant offset. */
export const load = (address: Term, offset = 0): Code => [valueOf(address), simd(0x00, ...memory(offset))];
/** One float32 in all four places. */
export const loadSplat = (address: Term, offset = 0): Code => [valueOf(address), simd(0x09, ...memory(offset))];
export const store = (address: Term, value: Term, offset = 0): Code => [valueOf(address), valueOf(value), simd(0x0b, ...memory(offset))];
export const splat = (value: number): Code => simd(0x0c, ...Array.from(new Uint8Array(Float32Array.of(value, value, value, value).buffer)));
export const add = binary(simd(0xe4));
export const sub = binary(simd(0xe5));
export const mul = binary(simd(0xe6));
const RELAXED_MADD = simd(0x105);
const FUSED = wasm.validate(
  encode([{ name: 'probe', parameters: 0, locals: [], code: [splat(0), splat(0), splat(0), RELAXED_MADD, 0x1a] }]),
);
/** a · b + c: one rounded operation where the engine has relaxed SIMD and the processor such an instruction, else two. */
export const mulAdd = (a: Term, b: Term, c: Term): Code => (FUSED ? [valueOf(a), valueOf(b), valueOf(c), RELAXED_MADD] : add(mul(a, b), c));
export const min = binary(simd(0xe8));
export const max = binary(simd(0xe9));
/** All bits set where a > b, else none: an operand of `and`. */
export const greater = binary(simd(0x44));
export const and = binary(simd(0x4e));

export function whileLoop(condition: Code, ...body: Code[]): Code {
  return [0x02, EMPTY, 0x03, EMPTY, condition, 0x45, 0x0d, 1, ...body, 0x0c, 0, 0x0b, 0x0b];
}

/** `counter` takes 0, step, 2·step, ... while below `end`. */
export function count(counter: Local, end: Term, step: number, ...body: Code[]): Code {
  return [set(counter, 0), whileLoop(less(counter, end), ...body, advance(counter, step))];
}

/** An array of a known length. */
type Tuple<T, N extends number, Items extends T[] = []> = number extends N
  ? T[]
  : Items['length'] extends N
    ? Items
    : Tuple<T, N, [...Items, T]>;

export interface Frame {
  /** Fresh i32 variables. */
  integers<N extends number>(length: N): Tuple<Local, N>;
  /** Fresh v128 variables. */
  vectors<N extends number>(length: N): Tuple<Local, N>;
}

/** A function of `parameters` i32 values. */
export function define<Name extends string, N extends number>(
  name: Name,
  parameters: N,
  build: (parameters: Tuple<Local, N>, frame: Frame) => Code,
): WasmFunction<Name> {
  const locals: number[] = [];
  const fresh = <M extends number>(type: number, length: M) =>
    Array.from({ length }, (): Local => ({ index: parameters + locals.push(type) - 1 })) as Tuple<Local, M>;
  const code = build(Array.from({ length: parameters }, (_, index): Local => ({ index })) as Tuple<Local, N>, {
    integers: (length) => fresh(I32, length),
    vectors: (length) => fresh(V128, length),
  });
  return { name, parameters, locals, code };
}

/** Called with the parameters in order. */
export type Functions<Name extends string> = Readonly<Record<Name, (...parameters: readonly number[]) => void>>;

/** Compiles the functions onto `memory`, a WebAssembly.Memory. */
export function assemble<Name extends string>(functions: readonly WasmFunction<Name>[], memory: object): Functions<Name> {
  return new wasm.Instance(new wasm.Module(encode(functions)), { heap: { memory } }).exports as Functions<Name>;
}

function encode(functions: readonly WasmFunction[]): Uint8Array {
  const vector = (items: readonly (readonly number[])[]): number[] => [...unsigned(items.length), ...items.flat()];
  const sized = (bytes: readonly number[]): number[] => [...unsigned(bytes.length), ...bytes];
  const named = (text: string): number[] => sized([...Buffer.from(text)]);
  const section = (id: number, bytes: readonly number[]): number[] => [id, ...sized(bytes)];
  return Uint8Array.from(
    [
      [0x00, 0x61, 0x73, 0x6d, 1, 0, 0, 0],
      section(1, vector(functions.map(({ parameters }) => [0x60, ...vector(new Array<number[]>(parameters).fill([I32])), 0]))),
      section(2, vector([[...named('heap'), ...named('memory'), 2, 0, 0]])),
      section(3, vector(functions.map((_, i) => unsigned(i)))),
      section(7, vector(functions.map(({ name }, i) => [...named(name), 0, ...unsigned(i)]))),
      section(10, vector(functions.map(({ locals, code }) => sized([...vector(locals.map((type) => [1, type])), ...flat(code), 0x0b])))),
    ].flat(),
  );
}

function flat(code: Code, bytes: number[] = []): number[] {
  for (const part of code) {
    if (typeof part === 'number') bytes.push(part);
    else flat(part, bytes);
  }
  return bytes;
}
