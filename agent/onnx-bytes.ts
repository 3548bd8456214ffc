// Writes small ONNX models byte by byte: the model that does nothing, whose run time is what the binding itself costs, and models for checks.
// Field numbers are those of the public onnx.proto; only what these models need is here (float32 tensors, integer-list attributes).

export interface OnnxTensor {
  readonly name: string;
  readonly shape: readonly number[];
  /** Its values, or the file (beside the model) that holds them as raw little-endian bytes. */
  readonly data: Float32Array | { readonly location: string };
}

export interface OnnxNode {
  readonly op: string;
  readonly inputs: readonly string[];
  readonly outputs: readonly string[];
  /** Attributes that are lists of integers (`strides`, `pads`, …) or one integer (`group`). */
  readonly attributes?: Readonly<Record<string, number | readonly number[]>>;
}

export interface OnnxModel {
  readonly input: { readonly name: string; readonly shape: readonly (number | string)[] };
  readonly output: { readonly name: string; readonly shape: readonly (number | string)[] };
  readonly nodes: readonly OnnxNode[];
  readonly initializers: readonly OnnxTensor[];
}

const IR_VERSION = 8;
const OPSET = 17;
const FLOAT = 1;
const ATTRIBUTE_INT = 2;
const ATTRIBUTE_INTS = 7;
const EXTERNAL = 1;

function varint(value: number): number[] {
  const bytes: number[] = [];
  let rest = BigInt.asUintN(64, BigInt(value));
  while (rest > 127n) {
    bytes.push(Number(rest & 127n) | 128);
    rest >>= 7n;
  }
  bytes.push(Number(rest));
  return bytes;
}

function concat(parts: readonly Uint8Array[]): Uint8Array {
  const out = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    out.set(part, at);
    at += part.length;
  }
  return out;
}

const integer = (field: number, value: number) => Uint8Array.from([...varint(field << 3), ...varint(value)]);
const bytes = (field: number, value: Uint8Array) =>
  concat([Uint8Array.from([...varint((field << 3) | 2), ...varint(value.length)]), value]);
const text = (field: number, value: string) => bytes(field, new TextEncoder().encode(value));
const message = (field: number, parts: readonly Uint8Array[]) => bytes(field, concat(parts));

function attribute(name: string, value: number | readonly number[]): Uint8Array {
  const values = typeof value === 'number' ? [integer(3, value)] : value.map((item) => integer(8, item));
  return message(5, [text(1, name), ...values, integer(20, typeof value === 'number' ? ATTRIBUTE_INT : ATTRIBUTE_INTS)]);
}

function node(n: OnnxNode): Uint8Array {
  const attributes = Object.entries(n.attributes ?? {}).map(([name, value]) => attribute(name, value));
  return message(1, [...n.inputs.map((name) => text(1, name)), ...n.outputs.map((name) => text(2, name)), text(4, n.op), ...attributes]);
}

function tensor({ name, shape, data }: OnnxTensor): Uint8Array {
  const values =
    data instanceof Float32Array
      ? [bytes(9, new Uint8Array(data.buffer, data.byteOffset, data.byteLength))]
      : [message(13, [text(1, 'location'), text(2, data.location)]), integer(14, EXTERNAL)];
  return message(5, [...shape.map((dim) => integer(1, dim)), integer(2, FLOAT), text(8, name), ...values]);
}

function valueInfo(field: number, { name, shape }: OnnxModel['input']): Uint8Array {
  const dims = shape.map((dim) => message(1, [typeof dim === 'number' ? integer(1, dim) : text(2, dim)]));
  return message(field, [text(1, name), message(2, [message(1, [integer(1, FLOAT), message(2, dims)])])]);
}

/** The model as ONNX bytes (IR 8, opset 17, float32, little endian). A dimension given as text is symbolic. */
export function encodeOnnx(model: OnnxModel): Uint8Array {
  const graph = message(7, [
    ...model.nodes.map(node),
    text(2, 'graph'),
    ...model.initializers.map(tensor),
    valueInfo(11, model.input),
    valueInfo(12, model.output),
  ]);
  return concat([integer(1, IR_VERSION), graph, message(8, [text(1, ''), integer(2, OPSET)])]);
}

/** A model that computes nothing: it takes an input of one shape and hands out zeros of another. */
export function encodeEmptyModel(inputShape: readonly number[], outputShape: readonly number[]): Uint8Array {
  const size = outputShape.reduce((product, dim) => product * dim, 1);
  return encodeOnnx({
    input: { name: 'x', shape: inputShape },
    output: { name: 'y', shape: outputShape },
    nodes: [{ op: 'Identity', inputs: ['zeros'], outputs: ['y'] }],
    initializers: [{ name: 'zeros', shape: outputShape, data: new Float32Array(size) }],
  });
}
