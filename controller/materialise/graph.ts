// Builds an ONNX model file node by node. Tensors with values live outside, by location, offset and length (ONNX external data), so that
// the file itself describes an architecture and nothing else. Format: https://github.com/onnx/onnx/blob/main/docs/IR.md
import { create, fromBinary, toBinary, type MessageInitShape } from '@bufbuild/protobuf';
import {
  AttributeProto_AttributeType as AttributeType,
  ModelProtoSchema,
  TensorProto_DataLocation as DataLocation,
  TensorProto_DataType as DataType,
  type AttributeProtoSchema,
  type NodeProtoSchema,
  type TensorProtoSchema,
  type ValueInfoProtoSchema,
} from './gen/onnx_pb.ts';

/** IR 8 with opset 17 is read by ONNX Runtime 1.12 and later, and by `onnx` 1.12 and later. */
const IR_VERSION = 8n;
export const OPSET = 17;

/** Whole numbers become INT attributes, arrays of them INTS; a float must be marked, since 1.0 and 1 are one number here. */
type Attribute = number | readonly number[] | { readonly float: number };

/** Dimensions; a string is a dimension that each run may choose, under that name. */
type GraphShape = readonly (number | string)[];

type Attributes = Readonly<Record<string, Attribute>>;

export interface ExternalPlace {
  readonly location: string;
  readonly offset: number;
  readonly length: number;
}

export interface GraphBuilder {
  input(name: string, shape: GraphShape): string;
  /** A float32 tensor whose little-endian bytes lie elsewhere. */
  external(name: string, shape: readonly number[], place: ExternalPlace): string;
  /** Adds a node and gives the name of its (first) output, which is `name`; further outputs are named. Names must be unique in the graph. */
  node(name: string, op: string, inputs: readonly string[], attributes?: Attributes, furtherOutputs?: readonly string[]): string;
  output(name: string, shape: GraphShape): void;
  /** The serialised ModelProto; equal calls give equal bytes. */
  bytes(): Uint8Array;
}

export function createGraph(name: string): GraphBuilder {
  const inputs: MessageInitShape<typeof ValueInfoProtoSchema>[] = [];
  const outputs: MessageInitShape<typeof ValueInfoProtoSchema>[] = [];
  const initializers: MessageInitShape<typeof TensorProtoSchema>[] = [];
  const nodes: MessageInitShape<typeof NodeProtoSchema>[] = [];
  const names = new Set<string>();
  const define = (value: string): string => {
    if (names.has(value)) throw new Error(`the graph already has a value "${value}"`);
    names.add(value);
    return value;
  };

  return {
    input(value, shape) {
      inputs.push(valueInfo(value, shape));
      return define(value);
    },
    external(value, shape, place) {
      initializers.push({
        name: value,
        dims: shape.map(BigInt),
        dataType: DataType.FLOAT,
        dataLocation: DataLocation.EXTERNAL,
        externalData: Object.entries(place).map(([key, entry]) => ({ key, value: String(entry) })),
      });
      return define(value);
    },
    node(value, op, from, attributes = {}, furtherOutputs = []) {
      const unknown = from.find((source) => !names.has(source));
      if (unknown !== undefined) throw new Error(`node "${value}" reads "${unknown}", which is not defined before it`);
      const output = [value, ...furtherOutputs].map(define);
      nodes.push({ name: value, opType: op, input: [...from], output, attribute: Object.entries(attributes).map(attribute) });
      return value;
    },
    output(value, shape) {
      outputs.push(valueInfo(value, shape));
    },
    bytes() {
      const graph = { name, input: inputs, output: outputs, initializer: initializers, node: nodes };
      const opsetImport = [{ domain: '', version: BigInt(OPSET) }];
      return toBinary(ModelProtoSchema, create(ModelProtoSchema, { irVersion: IR_VERSION, producerName: 'ofa-fleet', opsetImport, graph }));
    },
  };
}

/** The same model for any number of images a run: the first dimension of its input and its outputs becomes a name. Shares all weight files. */
export function withDynamicBatch(bytes: Uint8Array): Uint8Array {
  const model = fromBinary(ModelProtoSchema, bytes);
  for (const value of [...(model.graph?.input ?? []), ...(model.graph?.output ?? [])]) {
    const type = value.type?.value;
    const first = type?.case === 'tensorType' ? type.value.shape?.dim[0] : undefined;
    if (first !== undefined) first.value = { case: 'dimParam', value: 'batch' };
  }
  return toBinary(ModelProtoSchema, model);
}

function valueInfo(name: string, shape: GraphShape): MessageInitShape<typeof ValueInfoProtoSchema> {
  const dim = shape.map((size) => ({
    value: typeof size === 'number' ? { case: 'dimValue' as const, value: BigInt(size) } : { case: 'dimParam' as const, value: size },
  }));
  return { name, type: { value: { case: 'tensorType', value: { elemType: DataType.FLOAT, shape: { dim } } } } };
}

function attribute([name, value]: [string, Attribute]): MessageInitShape<typeof AttributeProtoSchema> {
  if (typeof value === 'number') return { name, type: AttributeType.INT, i: BigInt(value) };
  if ('float' in value) return { name, type: AttributeType.FLOAT, f: value.float };
  return { name, type: AttributeType.INTS, ints: value.map(BigInt) };
}
