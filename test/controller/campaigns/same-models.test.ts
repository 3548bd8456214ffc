// A state folder that is opened again with other images: what it knew of its models is not taken for what they are now.
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { openController } from '../../../controller/main.ts';
import { artifactsOf } from '../../../controller/store/artifacts.ts';
import { smallestSubnet, subnetId } from '../../../controller/subnet.ts';
import { value } from '../../helpers/outcome.ts';
import { TINY_SPACE, writeTinyCheckpoint, writeTinyImages } from '../../helpers/tiny-supernet.ts';

let dir: string;

beforeAll(() => {
  dir = mkdtempSync(join(tmpdir(), 'ofa-models-'));
  writeTinyCheckpoint(join(dir, 'tiny.safetensors'));
  writeTinyImages(join(dir, 'some'));
  writeTinyImages(join(dir, 'others'), { train: 600, test: 500 });
});
afterAll(() => rmSync(dir, { recursive: true, force: true }));

/** The manifest that was scored, and the one that a deployment would take. */
async function manifests(images: string): Promise<{ readonly scored: string; readonly deployed: string | undefined }> {
  const controller = value(
    await openController({
      stateDir: join(dir, 'state'),
      checkpointPath: join(dir, 'tiny.safetensors'),
      dataDir: join(dir, images),
      validationImages: null,
      host: '127.0.0.1',
      mqttPort: 0,
      hostLockPath: join(dir, 'host.lock'),
      threads: 1,
      log: () => undefined,
    }),
  );
  try {
    const subnet = smallestSubnet(TINY_SPACE);
    const { manifestSha256: scored } = value(await controller.prepare(subnet, new AbortController().signal));
    const rows = await artifactsOf(controller.db, controller.weightsHash);
    return { scored, deployed: rows.get(subnetId(TINY_SPACE, subnet))?.manifestSha256 };
  } finally {
    await controller.close();
  }
}

it(
  'deploys the model that it scored, after the same state folder was opened with other calibration images',
  { timeout: 60_000 },
  async () => {
    const first = await manifests('some');
    expect(first.deployed).toBe(first.scored);
    const second = await manifests('others');
    expect(second.scored).not.toBe(first.scored);
    expect(second.deployed).toBe(second.scored);
    expect(await manifests('some')).toEqual(first);
  },
);
