// A planted slow operator: loaded into an agent's processes by NODE_OPTIONS=--import, it makes onnxruntime-node run every 7x7 depthwise
// convolution three times (the mean of three equal results, so outputs stay right). It stands for a device whose library is poor at one kernel.
import { create, fromBinary, toBinary } from '@bufbuild/protobuf';
import ort from 'onnxruntime-node';
import { ModelProtoSchema, NodeProtoSchema, TensorProtoSchema } from '../../controller/materialise/gen/onnx_pb.ts';

const COPIES = 3;

const isSlowed = (node: { opType: string; attribute: readonly { name: string; ints: readonly bigint[]; i: bigint }[] }) =>
  node.opType === 'Conv' &&
  node.attribute.some(({ name, ints }) => name === 'kernel_shape' && ints.length === 2 && ints.every((side) => side === 7n)) &&
  node.attribute.some(({ name, i }) => name === 'group' && i > 1n);

/** The same model with its 7x7 depthwise convolutions in three copies; each has weights of its own name, or the runtime would merge them. */
export function slowKernel7(bytes: Uint8Array): Uint8Array {
  const model = fromBinary(ModelProtoSchema, bytes);
  const graph = model.graph;
  if (graph === undefined) return bytes;
  graph.node = graph.node.flatMap((node) => {
    if (!isSlowed(node)) return [node];
    const [x = '', weights = ''] = node.input;
    const [y = ''] = node.output;
    const original = graph.initializer.find(({ name }) => name === weights);
    if (original === undefined) return [node];
    const copies = Array.from({ length: COPIES }, (_, copy) => {
      const name = `${weights}#${copy}`;
      graph.initializer.push(create(TensorProtoSchema, { ...original, name }));
      return create(NodeProtoSchema, {
        ...node,
        name: `${node.name}#${copy}`,
        input: [x, name, ...node.input.slice(2)],
        output: [`${y}#${copy}`],
      });
    });
    const mean = create(NodeProtoSchema, {
      opType: 'Mean',
      name: `${node.name}#mean`,
      input: copies.map((copy) => copy.output[0] ?? ''),
      output: [y],
    });
    return [...copies, mean];
  });
  return toBinary(ModelProtoSchema, model);
}

const session = ort.InferenceSession as unknown as { create: (model: Uint8Array, options: unknown) => Promise<unknown> };
const load = session.create.bind(ort.InferenceSession);
session.create = (model, options) => load(slowKernel7(model), options);
