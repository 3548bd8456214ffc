// Reading and writing files of torch.save: what they hold, and that a file which is broken or hostile is one clear failure.
import { readFileSync } from 'node:fs';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { readTorch, stateDictOf } from '../../../controller/supernet/torch/read-torch.ts';
import { encodeTorch } from '../../../controller/supernet/torch/write-torch.ts';
import type { Outcome } from '../../../shared/outcome.ts';
import { publicFile } from '../../parity/ofa-public.ts';
import { value } from '../../helpers/outcome.ts';
import { archive, bytesSource, dict, floats, int, legacy, pickle, PROTOCOL_2, shortText, tensor, text, zip } from './torch-files.ts';

/** Every tensor of the file's state dict, axes in their own order. */
function read(bytes: Uint8Array): Outcome<Record<string, { readonly shape: readonly number[]; readonly data: Float32Array }>> {
  const file = readTorch(bytesSource(bytes), 'some.pth');
  if (!file.ok) return file;
  const stateDict = stateDictOf(file.value, 'some.pth');
  if (!stateDict.ok) return stateDict;
  const found: Record<string, { shape: readonly number[]; data: Float32Array }> = {};
  for (const [name, stored] of stateDict.value) {
    const loaded = file.value.load(stored, [...stored.shape.keys()]);
    if (!loaded.ok) return loaded;
    found[name] = { shape: stored.shape, data: loaded.value };
  }
  return { ok: true, value: found };
}

const six = floats(0, 1, 2, 3, 4, 5);
const whole = tensor({ elements: 6, shape: [2, 3], strides: [3, 1] });
const refusal = (bytes: Uint8Array): string => {
  const outcome = read(bytes);
  expect(outcome).toMatchObject({ ok: false, reason: 'CORRUPT_FILE', message: expect.stringMatching(/^some\.pth .*\.$/s) as string });
  return outcome.ok ? '' : outcome.message;
};

describe('a tensor', () => {
  it.each([
    ['stored in a zip archive', archive(dict(['w', whole]), { 0: six })],
    ['deflated in a zip archive', archive(dict(['w', whole]), { 0: six }, { deflate: true })],
    ['in the format before PyTorch 1.6', legacy(dict(['w', tensor({ elements: 6, shape: [2, 3], strides: [3, 1], view: 'N' })]), [['0', 6, six]])],
    ['inside state_dict, beside what else training keeps', archive(dict(['epoch', int(3)], ['state_dict', dict(['w', whole])], ['optimizer', dict(['lr', pickle('G', Buffer.alloc(8))])]), { 0: six })],
    ['inside the only dictionary of tensors, beside a loss', archive(dict(['loss', tensor({ key: '0', elements: 6, shape: [], strides: [] })], ['model', dict(['w', whole])], ['epoch', int(3)]), { 0: six })],
    ['as a parameter', archive(dict(['w', pickle('ctorch._utils\n_rebuild_parameter\n(', whole, '\x88ccollections\nOrderedDict\n)RtR')]), { 0: six })],
    ['that was on a GPU', archive(dict(['w', tensor({ elements: 6, shape: [2, 3], strides: [3, 1], device: 'cuda:0' })]), { 0: six })],
    ['named by protocol 4', archive(pickle('}\x94', shortText('w'), '\x94', shortText('torch._utils'), '\x94', shortText('_rebuild_tensor_v2'), '\x94\x93\x94', whole.subarray('ctorch._utils\n_rebuild_tensor_v2\n'.length), 's'), { 0: six })],
    ['by a value that protocol 4 kept for later', archive(pickle('}\x94', shortText('w'), '\x94', '0', 'h\x01', whole, 's'), { 0: six })],
    ['in a zip archive whose sizes are 64-bit numbers', archive(dict(['w', whole]), { 0: six }, { deflate: true, wide: true })],
    ['in a dictionary with attributes', archive(pickle('ccollections\nOrderedDict\n)R(', text('w'), whole, 'u}', text('_metadata'), '}sb'), { 0: six })],
  ])('%s is read', (_, bytes) => {
    expect(value(read(bytes))).toEqual({ w: { shape: [2, 3], data: Float32Array.of(0, 1, 2, 3, 4, 5) } });
  }); // prettier-ignore

  it('that is a view follows its offset and strides, and several share one storage', () => {
    const column = tensor({ elements: 6, offset: 1, shape: [2], strides: [3] });
    const turned = tensor({ elements: 6, shape: [3, 2], strides: [1, 3] });
    const spread = tensor({ elements: 6, offset: 5, shape: [2, 2], strides: [0, 0] });
    const tensors = value(read(archive(dict(['column', column], ['turned', turned], ['spread', spread]), { 0: six })));
    expect(tensors['column']?.data).toEqual(Float32Array.of(1, 4));
    expect(tensors['turned']?.data).toEqual(Float32Array.of(0, 3, 1, 4, 2, 5));
    expect(tensors['spread']?.data).toEqual(Float32Array.of(5, 5, 5, 5));
  });

  it('of an old file may be a view of another storage', () => {
    const view = pickle('(', text('v'), int(2), int(3), 't'); // elements 2, 3 and 4 of the storage
    const old = tensor({ elements: 6, shape: [2], strides: [2], view });
    expect(value(read(legacy(dict(['w', old]), [['0', 6, six]])))['w']?.data).toEqual(Float32Array.of(2, 4));
  });

  it.each([
    ['HalfStorage', Buffer.from('003c00c0017bff7b0100', 'hex'), [1, -2, 57376, 65504, 2 ** -24]],
    ['BFloat16Storage', Buffer.from('803f00c04940', 'hex'), [1, -2, 3.140625]],
    ['DoubleStorage', Buffer.from(Float64Array.of(1 / 3, -1e30).buffer), [Math.fround(1 / 3), Math.fround(-1e30)]],
    ['LongStorage', Buffer.from(BigInt64Array.of(7n, -9n).buffer), [7, -9]],
    ['IntStorage', Buffer.from(Int32Array.of(1, -2).buffer), [1, -2]],
  ])('of %s becomes float32', (storage, bytes, wanted) => {
    const stored = tensor({ storage, elements: wanted.length, shape: [wanted.length], strides: [1] });
    expect(value(read(archive(dict(['w', stored]), { 0: bytes })))['w']?.data).toEqual(Float32Array.from(wanted));
  });

  it('is read in the order of axes that is asked', () => {
    const file = value(readTorch(bytesSource(archive(dict(['w', whole]), { 0: six })), 'some.pth'));
    const stored = value(stateDictOf(file, 'some.pth')).get('w');
    expect(stored && value(file.load(stored, [1, 0]))).toEqual(Float32Array.of(0, 3, 1, 4, 2, 5));
  });
});

it('what is written is read again, a scalar counter too', () => {
  const bytes = encodeTorch(
    new Map([
      ['w', { kind: 'float32', shape: [2, 3], bytes: () => six }],
      ['n', { kind: 'int64', shape: [], bytes: () => new Uint8Array(8) }],
    ]),
  );
  expect(value(read(bytes))).toEqual({
    w: { shape: [2, 3], data: Float32Array.of(0, 1, 2, 3, 4, 5) },
    n: { shape: [], data: Float32Array.of(0) },
  });
});

describe('a hostile pickle is refused by name', () => {
  const calling = (callee: string) => dict(['state_dict', dict(['w', whole])], ['x', pickle(callee, '(', text('touch /tmp/x'), 'tR')]);
  it.each([
    ['posix.system', archive(calling('cposix\nsystem\n'), { 0: six })],
    ['builtins.eval', archive(calling('cbuiltins\neval\n'), { 0: six })],
    ['os.system', archive(calling(`${shortText('os').toString('latin1')}${shortText('system').toString('latin1')}\x93`), { 0: six })],
    ['subprocess.Popen', archive(dict(['x', pickle('(', text('ls'), 'isubprocess\nPopen\n')]), {})],
    ['torch._utils.os.system', archive(calling('ctorch._utils\nos.system\n'), { 0: six })],
    ['torch.load', archive(calling('ctorch\nload\n'), { 0: six })],
    ['posix.system', legacy(calling('cposix\nsystem\n'), [['0', 6, six]])],
    ['posix.system', legacy(dict(['w', whole]), [['0', 6, six]], pickle('cposix\nsystem\n(', text('ls'), 'tR'))],
    ['posix.system', pickle(PROTOCOL_2, 'cposix\nsystem\n(', text('ls'), 'tR.')],
    ['posix.system', pickle("cposix\nsystem\n(S'ls'\ntR.")],
  ])('%s', (name, bytes) => {
    expect(refusal(bytes)).toMatch(new RegExp(`asks to load "${name.replaceAll('.', '\\.')}": only tensors, .*nothing of it was executed.*torch\\.save`));
  }); // prettier-ignore

  it.each([
    ['NEWOBJ', pickle('}', '}\x81')],
    ['OBJ', pickle('(}o')],
    ['SHORT_BINBYTES', dict(['b', pickle('C\x01x')])],
    ['EXT1', pickle('\x82\x01')],
  ])('%s, where an opcode makes more than values', (name, inner) => {
    expect(refusal(archive(inner, {}))).toContain(`opcode ${name}`);
  });
});

describe('a broken file is one clear failure', () => {
  it.each([
    ['an empty one', Buffer.alloc(0), /is empty/],
    ['text', Buffer.from('Not found, sorry.'), /neither a zip archive nor a pickle/],
    ['a pickle of something else', pickle(PROTOCOL_2, dict(['a', int(1)]), '.'), /without the mark of torch\.save/],
    ['an archive without a pickle', zip([['x/version', Buffer.from('3')]]), /0 members NAME\/data\.pkl/],
    ['an archive that lacks numbers', archive(dict(['w', whole]), {}), /lacks "x\/data\/0"/],
    ['a storage that is too short', archive(dict(['w', whole]), { 0: floats(1, 2) }), /"x\/data\/0" has 8 bytes of 24/],
    ['a tensor beyond its storage', archive(dict(['w', tensor({ elements: 6, offset: 1, shape: [2, 3], strides: [3, 1] })]), { 0: six }), /2x3 that reaches element 6 of a storage of 6/],
    ['a negative stride', archive(dict(['w', tensor({ elements: 6, offset: 5, shape: [6], strides: [-1] })]), { 0: six }), /without storage, shape or strides/],
    ['a tensor of more numbers than fit', archive(dict(['w', tensor({ elements: 6, shape: [2 ** 15, 2 ** 15], strides: [0, 0] })]), { 0: six }), /1073741824 numbers, 268435456 at most/],
    ['a wrong checksum', archive(dict(['w', whole]), { 0: six }, { crc: () => 1 }), /"x\/data\.pkl" does not match its checksum/],
    ['a member that unpacks to more', zipThatLies(), /cannot be unpacked|unpacks to/],
    ['big-endian numbers', zip([['x/data.pkl', pickle(PROTOCOL_2, '}.')], ['x/byteorder', Buffer.from('big')]]), /big-endian/],
    ['big-endian numbers in an old file', legacy(dict(['w', whole]), [['0', 6, six]], pickle('}', text('little_endian'), '\x89s')), /big-endian/],
    ['an unknown opcode', archive(pickle('\xff'), {}), /255, is no opcode/],
    ['a later protocol', zip([['x/data.pkl', pickle('\x80\x09}.')]]), /protocol 9, 5 is the last/],
    ['a reference to nothing', archive(pickle('h\x07'), {}), /value 7, which it never kept/],
    ['a list', archive(pickle(']'), {}), /holds no dictionary of tensors/],
    ['a dictionary without tensors', archive(dict(['epoch', int(3)], ['net', dict(['w', int(1)])]), { 0: six }), /no state dict, its keys are epoch, net: save it/],
    ['two dictionaries of tensors', archive(dict(['net', dict(['w', whole])], ['ema', dict(['w', whole])]), { 0: six }), /holds 2 dictionaries of tensors, net, ema, and none is called state_dict: save it/],
    ['numbers of another length in an old file', legacy(dict(['w', tensor({ elements: 6, shape: [6], strides: [1], view: 'N' })]), [['0', 2, floats(1, 2)]]), /storage 0 has 8 bytes of 24/],
  ])('%s', (_, bytes, pattern) => {
    expect(refusal(bytes)).toMatch(pattern);
  }); // prettier-ignore

  it.each(['checkpoint.pth', 'checkpoint_legacy.pth'])('wherever %s is cut off', (name) => {
    const bytes = readFileSync(publicFile(name));
    const lengths = [0, 1, 3, 4, 30, 100, 1000, 50_000, 107_069, 117_710, 117_711, 200_000, 1_000_000, bytes.length - 23, bytes.length - 1];
    for (const length of lengths) {
      const outcome = read(bytes.subarray(0, length));
      expect(outcome).toMatchObject({ ok: false, reason: 'CORRUPT_FILE' });
    }
  });

  it('whichever bytes are changed: never a crash, never a wrong number in an archive', () => {
    const right = archive(dict(['w', whole], ['v', whole]), { 0: six });
    const wanted = value(read(right));
    fc.assert(
      fc.property(fc.nat(right.length - 1), fc.integer({ min: 1, max: 255 }), (at, change) => {
        const bytes = Buffer.from(right);
        bytes[at] = (bytes[at] as number) ^ change;
        const outcome = read(bytes);
        if (outcome.ok) expect(outcome.value).toEqual(wanted);
        else expect(outcome.reason).toBe('CORRUPT_FILE');
      }),
      { seed: 1, numRuns: 3000 },
    );
  });

  it('in whatever way an old file is garbled', () => {
    const right = legacy(dict(['w', tensor({ elements: 6, shape: [2, 3], strides: [3, 1], view: 'N' })]), [['0', 6, six]]);
    fc.assert(
      fc.property(fc.array(fc.tuple(fc.nat(right.length - 1), fc.nat(255)), { minLength: 1, maxLength: 4 }), (changes) => {
        const bytes = Buffer.from(right);
        for (const [at, byte] of changes) bytes[at] = byte;
        const outcome = read(bytes);
        expect(outcome.ok || outcome.reason).toSatisfy((what) => what === true || what === 'CORRUPT_FILE');
      }),
      { seed: 2, numRuns: 3000 },
    );
  });
});

/** A deflated member whose directory entry promises fewer bytes than it holds, as a bomb would. */
function zipThatLies(): Buffer {
  const bytes = zip([['x/data.pkl', Buffer.alloc(100_000)]], { deflate: true });
  const entry = bytes.lastIndexOf('PK\x01\x02', undefined, 'latin1');
  bytes.writeUInt32LE(10, entry + 24);
  return bytes;
}
