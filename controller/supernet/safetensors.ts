// The safetensors file format for float32 tensors: 8-byte header length, JSON header, raw little-endian data
// (https://huggingface.co/docs/safetensors). A file that is cut short or garbled is an Outcome, never a wrong tensor.
import { z } from 'zod';
import { failed, ok, type Failure, type Outcome } from '@ofa-fleet/shared/outcome.ts';

export interface PlainTensor {
  readonly shape: readonly number[];
  /** Row-major. */
  readonly data: Float32Array;
}

export interface TensorFile {
  /** The format allows strings only; structured values are JSON inside. */
  readonly metadata: Readonly<Record<string, string>>;
  readonly tensors: ReadonlyMap<string, PlainTensor>;
}

const LENGTH_BYTES = 8;
const entrySchema = z.object({
  dtype: z.literal('F32'),
  shape: z.array(z.int().min(0)),
  data_offsets: z.tuple([z.int().min(0), z.int().min(0)]),
});

/** Tensors in insertion order; the header is padded with spaces so that data starts at a multiple of 8. */
export function encodeSafetensors(file: TensorFile): Uint8Array {
  const header: Record<string, unknown> = { __metadata__: file.metadata };
  let offset = 0;
  for (const [name, { shape, data }] of file.tensors) {
    header[name] = { dtype: 'F32', shape, data_offsets: [offset, offset + data.byteLength] };
    offset += data.byteLength;
  }
  const json = JSON.stringify(header);
  const headerBytes = new TextEncoder().encode(json + ' '.repeat((LENGTH_BYTES - (Buffer.byteLength(json) % LENGTH_BYTES)) % LENGTH_BYTES));
  const bytes = new Uint8Array(LENGTH_BYTES + headerBytes.length + offset);
  new DataView(bytes.buffer).setBigUint64(0, BigInt(headerBytes.length), true);
  bytes.set(headerBytes, LENGTH_BYTES);
  let position = LENGTH_BYTES + headerBytes.length;
  for (const { data } of file.tensors.values()) {
    bytes.set(new Uint8Array(data.buffer, data.byteOffset, data.byteLength), position);
    position += data.byteLength;
  }
  return bytes;
}

/** `origin` names the file in messages. Fails with CORRUPT_FILE. */
export function decodeSafetensors(bytes: Uint8Array, origin: string): Outcome<TensorFile> {
  const corrupt = (what: string): Failure => failed('CORRUPT_FILE', `${origin} is not a readable safetensors file: ${what}.`);
  if (bytes.length < LENGTH_BYTES) return corrupt(`it has ${bytes.length} bytes, not even the ${LENGTH_BYTES} of the header's length`);
  const headerLength = Number(new DataView(bytes.buffer, bytes.byteOffset).getBigUint64(0, true));
  const start = LENGTH_BYTES + headerLength;
  if (start > bytes.length) return corrupt(`its header should have ${headerLength} bytes, the whole file has ${bytes.length}`);
  let header: Record<string, unknown>;
  try {
    header = z
      .record(z.string(), z.unknown())
      .parse(JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(bytes.subarray(LENGTH_BYTES, start))));
  } catch {
    return corrupt('its header is not a JSON object');
  }
  const { __metadata__: rawMetadata = {}, ...entries } = header;
  const metadata = z.record(z.string(), z.string()).safeParse(rawMetadata);
  if (!metadata.success) return corrupt('its __metadata__ is not a map of strings');

  const tensors = new Map<string, PlainTensor>();
  let end = 0;
  for (const [name, rawEntry] of Object.entries(entries)) {
    const entry = entrySchema.safeParse(rawEntry);
    if (!entry.success) return corrupt(`tensor "${name}" is not described as float32 with a shape and offsets`);
    const { shape, data_offsets: offsets } = entry.data;
    const bytesNeeded = shape.reduce((product, side) => product * side, Float32Array.BYTES_PER_ELEMENT);
    if (offsets[1] - offsets[0] !== bytesNeeded)
      return corrupt(`tensor "${name}" of shape ${shape.join('x')} needs ${bytesNeeded} bytes, has ${offsets[1] - offsets[0]}`);
    if (start + offsets[1] > bytes.length)
      return corrupt(`tensor "${name}" ends at byte ${start + offsets[1]}, the file at ${bytes.length}; it was cut short`);
    // Copied: a Buffer's own slice would share memory, at an offset that float32 may not be aligned to.
    const data = new Float32Array(bytesNeeded / Float32Array.BYTES_PER_ELEMENT);
    new Uint8Array(data.buffer).set(bytes.subarray(start + offsets[0], start + offsets[1]));
    tensors.set(name, { shape, data });
    end = Math.max(end, offsets[1]);
  }
  if (start + end !== bytes.length) return corrupt(`${bytes.length - start - end} bytes follow the last tensor`);
  return ok({ metadata: metadata.data, tensors });
}
