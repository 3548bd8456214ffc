// Supernets to and from the keys of Once-For-All's and OFAv2's PyTorch code, for all eight architectures, and every way in which a file does
// not fit.
import { createHash } from 'node:crypto';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { ARCHITECTURES, withArchitecture } from '../../../controller/architecture.ts';
import { checkpointLines } from '../../../controller/cli/machine.ts';
import { loadSpace, type Space } from '../../../controller/space.ts';
import { decodeCheckpoint, encodeCheckpoint, weightsHash, type Checkpoint } from '../../../controller/supernet/checkpoint.ts';
import { encodeOfa } from '../../../controller/supernet/ofa-export.ts';
import { importOfa } from '../../../controller/supernet/ofa-import.ts';
import { ofaEntries, ofaKeys, plainKey, styleOf } from '../../../controller/supernet/ofa-names.ts';
import { decodeSafetensors } from '../../../controller/supernet/safetensors.ts';
import { encodeTorch, type TensorToSave } from '../../../controller/supernet/torch/write-torch.ts';
import { value } from '../../helpers/outcome.ts';
import { smallSpace, withAttention } from '../../helpers/spaces.ts';
import { randomCheckpoint } from '../materialise/random-supernet.ts';

/** The published net's stages at an eighth of its width. */
const narrow: Space = {
  ...value(loadSpace('ofa-mbv3-w1.0')),
  name: 'narrow',
  classes: 7,
  stem: { channels: 8, stride: 2 },
  stages: value(loadSpace('ofa-mbv3-w1.0')).stages.map((stage, s) => ({ ...stage, channels: s < 2 ? 8 : 16 })),
};
const wishes = { name: 'narrow', resolutions: narrow.resolutions, mean: narrow.mean, std: narrow.std, architecture: null };

let dir: string;
beforeAll(() => {
  dir = mkdtempSync(join(tmpdir(), 'ofa-import-'));
});
afterAll(() => rmSync(dir, { recursive: true, force: true }));

const written = (bytes: Uint8Array): string => {
  const file = join(dir, 'net.pth');
  writeFileSync(file, bytes);
  return file;
};
const inArchitecture = (space: Space, name: string): Space => value(withArchitecture(space, name));

/** A state dict of zeros and ones of that space; `rename` null leaves a key out. */
function stateDict(space: Space, rename: (key: string) => string | null = (key) => key): Map<string, TensorToSave> {
  const saved = new Map<string, TensorToSave>();
  for (const { key, shape, parameter } of ofaEntries(space, styleOf(space))) {
    const renamed = rename(key);
    const count = shape.reduce((product, side) => product * side, 1);
    const bytes = () => new Uint8Array(new Float32Array(count).fill(parameter.kind === 'variance' ? 1 : 0.5).buffer);
    if (renamed !== null) saved.set(renamed, { kind: 'float32', shape, bytes });
  }
  return saved;
}

describe('the table of names', () => {
  it.each([
    ['SE_B', 475, 435],
    ['SE_D', 475, 435],
    ['EE_B', 511, 471],
    ['EE_D', 511, 471],
    ['SE_P', 705, 665],
    ['SE_DP', 705, 665],
    ['EE_P', 741, 701],
    ['EE_DP', 741, 701],
  ])('has as many keys for %s as the published net: %d, and %d without kernel matrices', (name, all, withoutMatrices) => {
    const space = inArchitecture(value(loadSpace('ofa-mbv3-w1.0')), name);
    const keys = ofaKeys(space, styleOf(space));
    expect(keys).toHaveLength(all);
    expect(new Set(keys.map(plainKey)).size).toBe(all);
    expect(keys.filter((key) => !key.endsWith('_matrix'))).toHaveLength(withoutMatrices);
  });

  it.each<[string, readonly string[]]>([
    ['EE_B', [
      'head_stage.first_conv.conv.weight', 'head_stage.first_conv.bn.running_mean', 'head_stage.first_layer.conv.depth_conv.bn.weight',
      'body_stages.0.layers.0.conv.inverted_bottleneck.conv.conv.weight', 'body_stages.4.layers.3.conv.point_linear.bn.bn.running_var',
      'body_stages.1.layers.2.conv.depth_conv.se.fc.reduce.bias', 'body_stages.3.layers.1.conv.depth_conv.conv.5to3_matrix',
      'exit_stages.0.final_expand_layer.conv.weight', 'exit_stages.2.feature_mix_layer.conv.weight', 'exit_stages.4.classifier.linear.bias',
    ]],
    ['SE_D', ['exit_stage.final_expand_layer.bn.num_batches_tracked', 'exit_stage.classifier.linear.weight']],
    ['EE_DP', [
      'body_stages.2.layers_blocks.3.0.conv.depth_conv.conv.conv.weight', 'body_stages.2.layers_blocks.3.1.conv.weight', 'body_stages.2.layers_blocks.3.1.bn.bias',
      'body_stages.2.layers_blocks.3.2.transformation.0.running_mean', 'body_stages.0.layers_blocks.0.2.conv1x1.weight', 'body_stages.0.layers_blocks.0.2.conv1x1.bias',
    ]],
  ])('has for %s the keys of the published code, letter by letter', (name, wanted) => {
    const space = inArchitecture(value(loadSpace('ofa-mbv3-w1.0')), name);
    expect(ofaKeys(space, styleOf(space))).toEqual(expect.arrayContaining([...wanted]));
  }); // prettier-ignore

  it('says which tensor is under which key, where two of one shape could be taken for each other', () => {
    const space = withAttention(inArchitecture(value(loadSpace('ofa-mbv3-w1.0')), 'EE_P'));
    const byName = new Map(ofaEntries(space, 'ofav2').map(({ parameter, key, shape }) => [parameter.name, `${key} ${shape.join('x')}`]));
    const wanted = {
      'stages.1.2.attention.rows': 'body_stages.1.layers_blocks.2.2.rel_h 20x1x1x7x1',
      'stages.1.2.attention.columns': 'body_stages.1.layers_blocks.2.2.rel_w 20x1x1x1x7',
      'stages.1.2.attention.query.weight': 'body_stages.1.layers_blocks.2.2.query_conv.weight 40x40x1x1',
      'stages.1.2.attention.key.weight': 'body_stages.1.layers_blocks.2.2.key_conv.weight 40x40x1x1',
      'stages.1.2.attention.value.weight': 'body_stages.1.layers_blocks.2.2.value_conv.weight 40x40x1x1',
      'stages.1.1.pointwise.weight': 'body_stages.1.layers_blocks.1.1.conv.weight 40x40x1x1',
      'stages.1.1.pointwise.norm.gamma': 'body_stages.1.layers_blocks.1.1.bn.weight 40',
      'stages.1.1.project.norm.beta': 'body_stages.1.layers_blocks.1.0.conv.point_linear.bn.bn.bias 40',
      'exits.3.conv.norm.mean': 'exit_stages.3.final_expand_layer.bn.running_mean 672',
      'exits.3.mix.weight': 'exit_stages.3.feature_mix_layer.conv.weight 896x672x1x1',
    };
    for (const [name, place] of Object.entries(wanted)) expect([name, byName.get(name)]).toEqual([name, place]);
  });

  it('has the 731 keys of the printed count where the third branch is attention', () => {
    const space = withAttention(inArchitecture(value(loadSpace('ofa-mbv3-w1.0')), 'EE_DP'));
    expect(ofaKeys(space, 'ofav2')).toHaveLength(731);
  });
});

describe('a supernet', () => {
  it.each(ARCHITECTURES)('of %s is the same after it went out and came in again', (architecture) => {
    const space = { ...inArchitecture(narrow, architecture), name: 'narrow' };
    const checkpoint = randomCheckpoint(space, 5);
    const back = value(importOfa(written(encodeOfa(checkpoint)), null, { ...wishes, architecture }));
    expect(back.checkpoint.space).toEqual(space);
    expect(weightsHash(back.checkpoint)).toBe(weightsHash(checkpoint));
    expect(back.notes).toEqual([]);
  });

  it('with attention is the same too', () => {
    const space = { ...withAttention(inArchitecture(narrow, 'EE_DP')), name: 'narrow' };
    const checkpoint = randomCheckpoint(space, 6);
    const back = value(importOfa(written(encodeOfa(checkpoint)), null, { ...wishes, architecture: 'EE_DP' }));
    expect(back.checkpoint.space).toEqual(space);
    expect(weightsHash(back.checkpoint)).toBe(weightsHash(checkpoint));
  });

  it.each([
    ['SE_B', [[320, 424]]],
    [
      'EE_D',
      [
        [232, 304],
        [344, 464],
        [688, 920],
        [976, 1304],
        [1384, 1840],
      ],
    ], // as OFAv2's own code has them at width 1.2
  ] as const)('of %s whose heads are no whole multiples of their channels is the same too', (architecture, widths) => {
    const space: Space = {
      ...inArchitecture(narrow, architecture),
      name: 'narrow',
      head: { widths: widths.map(([wide, mixed]) => [wide, mixed]) },
    };
    const checkpoint = randomCheckpoint(space, 8);
    const back = value(importOfa(written(encodeOfa(checkpoint)), null, { ...wishes, architecture }));
    expect(back.checkpoint.space).toEqual(space);
    expect(weightsHash(back.checkpoint)).toBe(weightsHash(checkpoint));
  });

  it('of another shape than the published one comes in again with its space', () => {
    const checkpoint = randomCheckpoint(smallSpace, 7);
    const back = value(importOfa(written(encodeOfa(checkpoint)), smallSpace, wishes));
    expect(weightsHash(back.checkpoint)).toBe(weightsHash(checkpoint));
  });
});

describe('where an imported supernet comes from', () => {
  it('is kept in its file and told: name and checksum of the file, kind of keys, how the space was found', () => {
    const bytes = encodeOfa(randomCheckpoint({ ...inArchitecture(narrow, 'EE_B'), name: 'narrow' }, 9));
    const { checkpoint } = value(importOfa(written(bytes), null, { ...wishes, architecture: 'EE_B' }));
    const imported = {
      file: 'net.pth',
      sha256: createHash('sha256').update(bytes).digest('hex'),
      importer: 'ofa-fleet import, keys of OFAv2',
      space: "read off the tensors' shapes",
    };
    expect(checkpoint.imported).toEqual(imported);
    const back = value(decodeCheckpoint(encodeCheckpoint(checkpoint), 'net'));
    expect(back).toEqual(checkpoint);
    expect(checkpointLines(back, 1e6).join(' ')).toContain(
      `imported. Weights of net.pth (sha256 ${imported.sha256.slice(0, 12)}) by ofa-fleet import, keys of OFAv2; space read off`,
    );
    const withSpace = value(importOfa(written(encodeOfa(randomCheckpoint(smallSpace, 7))), smallSpace, wishes));
    expect(withSpace.checkpoint.imported).toMatchObject({ space: 'given' });
  });

  it('is absent in supernets that were trained here, and no file may garble it', () => {
    const trained = randomCheckpoint(smallSpace, 7);
    expect(decodeSafetensors(encodeCheckpoint(trained), 'net')).not.toHaveProperty('value.metadata.imported');
    const garbled = { ...trained, imported: { file: 7 } } as unknown as Checkpoint;
    expect(decodeCheckpoint(encodeCheckpoint(garbled), 'net')).toMatchObject({
      reason: 'CORRUPT_FILE',
      message: expect.stringMatching(/does not say what file it was imported from/) as string,
    });
  });
});

describe('keys', () => {
  const se = inArchitecture(narrow, 'SE_B');
  it.each<[string, (key: string) => string]>([
    ['of the released files', (key) => key.replace(/^(blocks\.\d+)\.conv\./, '$1.mobile_inverted_conv.')],
    ['of parallel training', (key) => `module.${key}`],
    ['of parallel training of a compiled net', (key) => `_orig_mod.module.${key}`],
    [
      'of elastic layers throughout',
      (key) => key.replace(/(?<!\.bn)\.bn\.(?!bn)/, '.bn.bn.').replace('classifier.linear.', 'classifier.linear.linear.'),
    ],
  ])('%s are known', (_, rename) => {
    const plain = value(importOfa(written(encodeTorch(stateDict(se))), null, wishes));
    const renamed = value(importOfa(written(encodeTorch(stateDict(se, rename))), null, wishes));
    expect(weightsHash(renamed.checkpoint)).toBe(weightsHash(plain.checkpoint));
  });

  it.each<[Space['kernels']]>([[[3, 7]], [[5, 7]], [[3, 5]]])('of other kernels, %j, are told by their matrices', (kernels) => {
    const space: Space = { ...se, name: 'narrow', kernels };
    const checkpoint = randomCheckpoint(space, 9);
    const back = value(importOfa(written(encodeOfa(checkpoint)), null, wishes));
    expect(back.checkpoint.space.kernels).toEqual(kernels);
    expect(weightsHash(back.checkpoint)).toBe(weightsHash(checkpoint));
  });

  it('of a net of fixed kernels are known, and its missing matrices begin as the identity, which is said', () => {
    const fixed = stateDict(se, (key) => (key.endsWith('_matrix') ? null : plainKey(key)));
    const { checkpoint, notes } = value(importOfa(written(encodeTorch(fixed)), null, wishes));
    expect([...(checkpoint.tensors.get('stages.0.0.depthwise.5to3')?.data ?? [])]).toEqual(
      Array.from({ length: 81 }, (_, i) => (i % 10 === 0 ? 1 : 0)),
    );
    expect(notes.join()).toMatch(/without kernel matrices: they begin as the identity/);
  });

  it('that leave dense skips open are refused until --arch says which', () => {
    const file = written(encodeTorch(stateDict(inArchitecture(narrow, 'EE_D'))));
    const message = /those of EE_B and of EE_D alike: say which it is with --arch/;
    expect(importOfa(file, null, wishes)).toMatchObject({
      ok: false,
      reason: 'INVALID_INPUT',
      message: expect.stringMatching(message) as string,
    });
    expect(importOfa(file, null, { ...wishes, architecture: 'SE_B' })).toMatchObject({
      ok: false,
      message: expect.stringMatching(/not of SE_B/) as string,
    });
    expect(value(importOfa(file, null, { ...wishes, architecture: 'ee_d' })).checkpoint.space.denseSkips).toBe(true);
  });
});

describe('a file that does not fit', () => {
  const se = inArchitecture(narrow, 'SE_B');
  const messageOf = (tensors: Map<string, TensorToSave>): string => {
    const outcome = importOfa(written(encodeTorch(tensors)), null, wishes);
    expect(outcome).toMatchObject({ ok: false, reason: 'INVALID_INPUT' });
    return outcome.ok ? '' : outcome.message;
  };
  const zeros = (kind: 'float32' | 'int64', ...shape: readonly number[]): TensorToSave => {
    const bytes = shape.reduce((product, side) => product * side, kind === 'int64' ? 8 : 4);
    return { kind, shape, bytes: () => new Uint8Array(bytes) };
  };

  it('has everything that is missing, surplus or of another shape listed at once', () => {
    const tensors = stateDict(se, (key) => (key.includes('blocks.7.conv.point_linear') ? null : key));
    tensors.set('blocks.10.conv.point_linear.conv.conv.weight', zeros('float32', 1, 2, 3, 4));
    tensors.set('blocks.3.conv.extra.weight', zeros('float32', 1));
    tensors.set('classifier.linear.bias', zeros('int64', 7));
    tensors.set('first_conv.bn.num_batches_tracked', zeros('int64'));
    const message = messageOf(tensors);
    expect(message).toMatch(/5 missing, 1 surplus, 2 of another shape or kind/);
    expect(message).toContain('missing: blocks.7.conv.point_linear.conv.conv.weight, blocks.7.conv.point_linear.bn.bn.weight, ');
    expect(message).toContain('surplus: blocks.3.conv.extra.weight;');
    expect(message).toMatch(
      /blocks\.10\.conv\.point_linear\.conv\.conv\.weight \(1x2x3x4 instead of 16x96x1x1\), classifier\.linear\.bias \(of int64 instead of a float kind\)/,
    );
  });

  it('is told when blocks, a whole layer or MobileNetV3 itself is not there', () => {
    expect(messageOf(stateDict(se, (key) => (key.startsWith('blocks.20.') ? null : key)))).toMatch(
      /19 elastic blocks, 5 stages of equal depth.*one subnet that was cut out, import the supernet that it came from/,
    );
    expect(messageOf(stateDict(se, (key) => (key.startsWith('final_expand') ? null : key)))).toMatch(
      /not a whole MobileNetV3 supernet: it lacks final_expand_layer\.conv\.weight \(nets of ProxylessNAS/,
    );
    expect(messageOf(stateDict(se, (key) => (key.startsWith('classifier') ? null : key)))).toMatch(
      /not a whole supernet: it lacks classifier\.linear\.weight/,
    );
    expect(messageOf(new Map([['conv1.weight', zeros('float32', 3)]]))).toMatch(
      /neither "first_conv\.conv\.weight".* its keys begin with conv1\.weight\. Only their MobileNetV3/,
    );
  });

  it('is told when the layers of its head do not fit each other', () => {
    const tensors = stateDict(se);
    tensors.set('final_expand_layer.conv.weight', zeros('float32', 100, 16, 1, 1));
    expect(messageOf(tensors)).toMatch(/final_expand_layer\.bn\.weight \(96 instead of 100\)/);
  });

  it('is told when a number is not finite', () => {
    const tensors = stateDict(se);
    for (const wrong of [NaN, Infinity, -Infinity]) {
      const bytes = () => new Uint8Array(Float32Array.of(0, 0, 0, 0, 0, wrong, 0, 0).buffer);
      tensors.set('first_conv.bn.bias', { kind: 'float32', shape: [8], bytes });
      expect(messageOf(tensors)).toMatch(/"first_conv\.bn\.bias" holds numbers that are not finite/);
    }
  });
});
