// A supernet back in the keys and layouts of Once-For-All's (or OFAv2's) PyTorch code, for whoever goes on there: the twin of ofa-import.ts.
import type { Checkpoint } from './checkpoint.ts';
import { BATCHES_TRACKED, ofaEntries, styleOf, type OfaEntry } from './ofa-names.ts';
import type { PlainTensor } from './safetensors.ts';
import { encodeTorch, type TensorToSave } from './torch/write-torch.ts';

/** The bytes of a .pth file {'state_dict': …} that torch.load(FILE, weights_only=True) reads and load_state_dict of the reference's net takes. */
export function encodeOfa({ space, tensors }: Pick<Checkpoint, 'space' | 'tensors'>): Uint8Array {
  const saved = new Map<string, TensorToSave>();
  for (const entry of ofaEntries(space, styleOf(space))) {
    const tensor = tensors.get(entry.parameter.name);
    if (tensor === undefined) throw new Error(`The supernet has no tensor "${entry.parameter.name}".`);
    saved.set(entry.key, { kind: 'float32', shape: entry.shape, bytes: () => torchBytes(tensor, entry) });
    if (entry.parameter.kind !== 'variance') continue;
    // every batch norm there counts its batches; with a fixed momentum nothing asks for the number
    const counter: TensorToSave = { kind: 'int64', shape: [], bytes: () => new Uint8Array(8) };
    saved.set(entry.key.replace(/running_var$/, BATCHES_TRACKED), counter);
  }
  return encodeTorch(saved);
}

/** The numbers in torch's order: the axis `order[i]` there is axis i here. */
function torchBytes({ shape, data }: PlainTensor, entry: OfaEntry): Uint8Array {
  const steps = new Array<number>(entry.shape.length).fill(0); // by torch's axis, how far apart neighbours lie in `data`
  shape.forEach((_, axis) => (steps[entry.order[axis] as number] = shape.slice(axis + 1).reduce((product, side) => product * side, 1)));
  const turned = new Float32Array(data.length);
  let filled = 0;
  const walk = (axis: number, at: number): void => {
    if (axis === entry.shape.length) turned[filled++] = data[at] as number;
    else for (let i = 0; i < (entry.shape[axis] as number); i++) walk(axis + 1, at + i * (steps[axis] as number));
  };
  walk(0, 0);
  return new Uint8Array(turned.buffer);
}
