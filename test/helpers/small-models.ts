// Small real ONNX models for tests and benches: convolution stacks of any size, as a file or as the blobs of an artifact with golden output.
import { createHash } from 'node:crypto';
import { mkdirSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import type { BlobRef, Manifest } from '@ofa-fleet/shared/artifact.ts';
import { encodeOnnx, type OnnxModel, type OnnxNode, type OnnxTensor } from '../../agent/onnx-bytes.ts';
import { arbitraryInput } from '../../agent/measure.ts';
import type { ModelSource } from '../../agent/ports.ts';
import { loadRuntime } from '../../agent/node/runtime/runtimes.ts';

export interface StackShape {
  readonly channels: number;
  readonly size: number;
  readonly layers: number;
}

/**
 * `layers` 3×3 convolutions with ReLU on a `size`×`size` image of `channels` channels, then their mean per channel; the batch dimension is free.
 * The output is small, as a classifier's is: one of 100 kB would be allocated anew for each run, whose page faults come and go with the heap's state.
 */
export function convStack({ channels, size, layers }: StackShape): OnnxModel {
  const initializers: OnnxTensor[] = [];
  const nodes: OnnxNode[] = [];
  for (let i = 0; i < layers; i++) {
    // Scaled so that values neither vanish nor grow through the layers.
    const scale = Math.sqrt(6 / (channels * 9));
    const data = arbitraryInput(channels * channels * 9).map((value) => (value - 0.5) * 2 * scale);
    initializers.push({ name: `w${i}`, shape: [channels, channels, 3, 3], data });
    const from = i === 0 ? 'x' : `r${i - 1}`;
    const attributes = { kernel_shape: [3, 3], pads: [1, 1, 1, 1], strides: [1, 1], dilations: [1, 1], group: 1 };
    nodes.push({ op: 'Conv', inputs: [from, `w${i}`], outputs: [`c${i}`], attributes });
    nodes.push({ op: 'Relu', inputs: [`c${i}`], outputs: [`r${i}`] });
  }
  nodes.push({ op: 'GlobalAveragePool', inputs: [`r${layers - 1}`], outputs: ['y'] });
  return {
    input: { name: 'x', shape: ['batch', channels, size, size] },
    output: { name: 'y', shape: ['batch', channels, 1, 1] },
    nodes,
    initializers,
  };
}

export function writeConvStack(path: string, shape: StackShape): ModelSource {
  mkdirSync(dirname(path), { recursive: true });
  writeFileSync(path, encodeOnnx(convStack(shape)));
  return { kind: 'file', path };
}

function writeBlob(blobsDir: string, bytes: Uint8Array): BlobRef {
  const sha256 = createHash('sha256').update(bytes).digest('hex');
  mkdirSync(join(blobsDir, sha256.slice(0, 2)), { recursive: true });
  writeFileSync(join(blobsDir, sha256.slice(0, 2), sha256), bytes);
  return { sha256, bytes: bytes.length, blocksSha256: null };
}

const bytesOf = (values: Float32Array) => new Uint8Array(values.buffer, values.byteOffset, values.byteLength);

/**
 * An artifact as a controller would send it: graph and golden pair as blobs (these models keep their weights in the graph). The golden output
 * is what ONNX Runtime computes, plus `goldenError`.
 */
export async function writeArtifact(
  blobsDir: string,
  shape: StackShape,
  goldenError = 0,
): Promise<Extract<ModelSource, { kind: 'blobs' }>> {
  const graph = encodeOnnx(convStack(shape));
  const dims = [1, shape.channels, shape.size, shape.size];
  const input = arbitraryInput(dims.reduce((product, dim) => product * dim, 1));
  const runtime = await loadRuntime('onnxruntime-node');
  if (!runtime.ok) throw new Error(runtime.message);
  const session = await runtime.value.load({ graph, externalData: [] }, { intraOpThreads: 1 });
  if (!session.ok) throw new Error(session.message);
  session.value.setInput(input);
  await session.value.run();
  const output = session.value.output().map((value) => value + goldenError);
  await session.value.release();
  const manifest: Manifest = {
    kind: 'model',
    opset: 17,
    input: { name: 'x', shape: dims },
    output: { name: 'y', shape: [1, shape.channels, 1, 1] },
    graph: writeBlob(blobsDir, graph),
    weights: [],
    golden: { input: writeBlob(blobsDir, bytesOf(input)), output: writeBlob(blobsDir, bytesOf(output)), tolerance: 1e-4 },
    provenance: { made: 'by a test' },
  };
  const manifestSha256 = createHash('sha256').update(JSON.stringify(manifest)).digest('hex');
  return { kind: 'blobs', manifestSha256, manifest, blobsDir };
}
