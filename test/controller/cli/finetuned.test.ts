// Fine-tuned weights are good for one subnet: every way to another one is a sentence, by real processes and inside.
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { materialise } from '../../../controller/materialise/materialise.ts';
import { prepareImages } from '../../../controller/materialise/images.ts';
import { supernetWeights } from '../../../controller/materialise/supernet-logits.ts';
import { largestSubnet, smallestSubnet, subnetId } from '../../../controller/subnet.ts';
import { selectBackend } from '../../../controller/supernet/backend.ts';
import { readCheckpoint, weightsHash, writeCheckpoint, type Checkpoint, type Provenance } from '../../../controller/supernet/checkpoint.ts';
import { refuseTuned, refuseUntuned } from '../../../controller/supernet/tuned-for.ts';
import { initialWeights } from '../../../controller/supernet/training/initial-weights.ts';
import { openBlobStore } from '../../../shared/node/blob-store.ts';
import { run } from '../../helpers/ofa-fleet.ts';
import { value } from '../../helpers/outcome.ts';
import { TINY_SPACE, writeTinyImages } from '../../helpers/tiny-supernet.ts';
import { randomPictures } from '../materialise/random-supernet.ts';

const SUBNET = smallestSubnet(TINY_SPACE);
const OTHER = largestSubnet(TINY_SPACE);
const PROVENANCE: Provenance = {
  command: 'ofa-fleet finetune', seed: 0, scale: 1, data: { name: 'made', sha256: '', trainingImages: 1, validationImages: 1, testImages: 1 },
  backend: 'cpu', threads: 1, cpu: '', node: '', startedAt: '', finishedAt: '', trainingSeconds: 1, accuracy: { largest: [], smallest: [] },
  machines: [], teacher: 'none', uniform: null, finetuned: { subnet: SUBNET, from: '', before: 0, after: 1 },
}; // prettier-ignore
const TUNED: Checkpoint = { space: TINY_SPACE, tensors: initialWeights(TINY_SPACE, 1), recipe: null, provenance: PROVENANCE };

let dir: string;
const at = (name: string) => join(dir, name);
beforeAll(() => {
  dir = mkdtempSync(join(tmpdir(), 'ofa-finetuned-'));
  value(writeCheckpoint(at('tuned.safetensors'), TUNED));
  writeTinyImages(at('images'));
  writeFileSync(at('subnet.json'), JSON.stringify(SUBNET));
});
afterAll(() => rmSync(dir, { recursive: true, force: true }));

const id = (subnet: typeof SUBNET) => subnetId(TINY_SPACE, subnet);

describe('fine-tuned weights', () => {
  const sentence = new RegExp(
    `fine-tuned for subnet ${id(SUBNET)} alone, not for ${id(OTHER)}: give --subnet the subnet\\.json .*or take the supernet`,
  );

  it.each<[string, () => readonly string[], RegExp]>([
    ['exported as another subnet', () => ['export', at('tuned.safetensors'), '--subnet', 'largest', '--data', at('images'), '--out', at('x')], sentence],
    ['fine-tuned on as another subnet', () => ['finetune', at('tuned.safetensors'), '--subnet', 'largest', '--data', at('images'), '--epochs', '1', '--out', at('y')], sentence],
    ['searched', () => ['serve', '--state', at('state'), '--checkpoint', at('tuned.safetensors'), '--data', at('images'), '--mqtt-port', '0', '--http-port', '0'], new RegExp(`tuned\\.safetensors was fine-tuned for subnet ${id(SUBNET)} alone, and a search needs every subnet .*ofa-fleet export .*tuned\\.safetensors --subnet`)],
  ])('are refused when they are %s', async (_, args, pattern) => {
    const { code, stderr } = await run('ofa-fleet', args());
    expect(stderr).toMatch(pattern);
    expect(stderr.trim().split('\n').filter((line) => line.startsWith('ofa-fleet:'))).toHaveLength(1);
    expect(code).toBe(1);
  }, 120_000); // prettier-ignore

  it('are exported as the subnet that they are for', async () => {
    const out = at('own');
    const { code, stderr } = await run('ofa-fleet', ['export', at('tuned.safetensors'), '--subnet', at('subnet.json'), '--data', at('images'), '--out', out]);
    expect(stderr).toBe('');
    expect(code).toBe(0);
    expect(JSON.parse(readFileSync(join(out, 'subnet.json'), 'utf8'))).toEqual(SUBNET);
  }, 120_000); // prettier-ignore

  it('make no artifact of another subnet, whoever asks, not even at another resolution', async () => {
    await selectBackend({ purpose: 'inference', only: 'wasm' });
    const supernet = { checkpoint: value(readCheckpoint(at('tuned.safetensors'))), weightsHash: weightsHash(TUNED), weights: supernetWeights(TUNED) };
    const images = prepareImages({ ...randomPictures(4, 1), channels: TINY_SPACE.inputChannels }, TINY_SPACE);
    const settings = { blobs: openBlobStore(at('blobs')), images, statistics: 'calibrated', threads: 1 } as const;
    for (const subnet of [OTHER, { ...SUBNET, resolution: OTHER.resolution }]) {
      expect(await materialise(supernet, subnet, settings)).toMatchObject({ ok: false, reason: 'INVALID_INPUT' });
      expect(refuseUntuned(TUNED, subnet)).toMatchObject({ ok: false });
    }
    value(await materialise(supernet, SUBNET, settings));
  }); // prettier-ignore

  it('are told from a supernet, of which nothing is refused', () => {
    const supernet = { ...TUNED, provenance: { ...PROVENANCE, finetuned: null } };
    for (const checkpoint of [supernet, { ...TUNED, provenance: null }]) {
      expect(refuseUntuned(checkpoint, OTHER)).toMatchObject({ ok: true });
      expect(refuseTuned(checkpoint, 'net')).toMatchObject({ ok: true });
    }
  });
});
