import { spawn } from 'node:child_process';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { selectBackend } from '../../../controller/supernet/backend.ts';
import { readCheckpoint, weightsHash } from '../../../controller/supernet/checkpoint.ts';
import { encodeIdxPair, loadIdxFolder } from '../../../controller/supernet/data/idx.ts';
import { decodeSafetensors } from '../../../controller/supernet/safetensors.ts';
import type { Recipe } from '../../../controller/supernet/training/recipe.ts';
import { RECIPES } from '../../../controller/supernet/training/recipes.ts';
import { randomStream } from '../../../controller/supernet/training/random.ts';
import { train, type TrainOptions } from '../../../controller/supernet/training/train.ts';
import type { Position } from '../../../controller/supernet/training/run-state.ts';
import type { Space } from '../../../controller/space.ts';
import { TINY } from './tiny.ts';

const SHORT = RECIPES['fashion-tiny'] as Recipe;
const PROCESS = join(import.meta.dirname, 'train-process.ts');

describe('a training run', () => {
  let folder: string;
  beforeAll(() => {
    folder = mkdtempSync(join(tmpdir(), 'training-'));
    // Three classes told apart by where the light is, plus noise.
    for (const [prefix, count] of [
      ['train', 96],
      ['t10k', 24],
    ] as const) {
      const labels = Uint8Array.from({ length: count }, (_, i) => i % 3);
      const pixels = Uint8Array.from(
        { length: count * 81 },
        (_, i) => ((i * 7919) % 64) + (Math.floor((i % 81) / 27) === Math.floor(i / 81) % 3 ? 190 : 0),
      );
      const { images, labels: encoded } = encodeIdxPair({ count, height: 9, width: 9, channels: 1, pixels, labels, classes: 3 });
      writeFileSync(join(folder, `${prefix}-images-idx3-ubyte.gz`), images);
      writeFileSync(join(folder, `${prefix}-labels-idx1-ubyte.gz`), encoded);
    }
  });
  afterAll(() => rmSync(folder, { recursive: true }));

  /** Runs until it ends, or is killed with -9 (by itself, so that nothing depends on timing) where its progress starts with `killAt`. */
  async function run(runFolder: string, killAt: string | null): Promise<{ lines: string[]; signal: string | null }> {
    const child = spawn(process.execPath, [PROCESS, folder, join(folder, runFolder), ...(killAt === null ? [] : [killAt])], {
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    let output = '';
    let errors = '';
    child.stderr.on('data', (chunk: Buffer) => (errors += chunk.toString()));
    child.stdout.on('data', (chunk: Buffer) => (output += chunk.toString()));
    const [code, signal] = await new Promise<[number | null, string | null]>((resolve) => child.on('close', (c, s) => resolve([c, s])));
    if (signal === null && code !== 0) throw new Error(errors);
    return { lines: output.trim().split('\n'), signal };
  }

  it('killed with -9 twice ends with bitwise the weights of one left alone', { timeout: 120_000 }, async () => {
    const alone = await run('alone', null);
    const killed: string[] = [];
    for (const killAt of ['full 4/', 'depth 4/']) {
      const part = await run('killed', killAt);
      expect(part.signal).toBe('SIGKILL');
      killed.push(...part.lines);
    }
    const end = await run('killed', null);
    killed.push(...end.lines);
    expect(end.lines[0]).toMatch(/^depth 4\//);
    expect(new Set(killed.map((line) => line.split(' ').slice(0, 2).join(' ')))).toEqual(
      new Set(alone.lines.map((line) => line.split(' ').slice(0, 2).join(' '))),
    );

    const [one, other] = ['alone', 'killed'].map((name) => readCheckpoint(join(folder, name, 'supernet.safetensors')));
    if (one?.ok !== true || other?.ok !== true) throw new Error('no checkpoint');
    expect(weightsHash(other.value)).toBe(weightsHash(one.value));
    expect(other.value.provenance?.accuracy).toEqual(one.value.provenance?.accuracy);
    expect(one.value.provenance?.data.trainingImages).toBe(88);
  });

  /**
   * From outside, after a random number of its reports and a moment more, so that it dies anywhere in a step, a validation or a write.
   * RESUME_KILLS=20 takes about a minute.
   */
  const KILLS = Number(process.env['RESUME_KILLS'] ?? 4);
  it(`killed with -9 ${KILLS} times at random ends with bitwise the weights of one left alone`, { timeout: 600_000 }, async () => {
    const random = randomStream(2026, 'kills');
    await run('left', null);
    let kills = 0;
    for (let life = 0; ; life++) {
      const child = spawn(process.execPath, [PROCESS, folder, join(folder, 'hunted')], { stdio: ['ignore', 'pipe', 'inherit'] });
      const reports = random.integer(1, 4);
      const delayMs = random.integer(0, 60);
      let seen = 0;
      child.stdout.on('data', (chunk: Buffer) => {
        seen += chunk.toString().split('\n').length - 1;
        if (kills < KILLS && seen >= reports) setTimeout(() => child.kill('SIGKILL'), delayMs);
      });
      const signal = await new Promise<string | null>((resolve) => child.on('close', (_, s) => resolve(s)));
      if (signal !== 'SIGKILL') {
        // It may have ended before it was killed often enough: then it begins anew.
        if (kills >= KILLS || life > 3 * KILLS) break;
        compare();
        rmSync(join(folder, 'hunted'), { recursive: true });
      } else kills++;
    }
    expect(kills).toBe(KILLS);
    compare();

    function compare(): void {
      const [one, other] = ['left', 'hunted'].map((name) => readCheckpoint(join(folder, name, 'supernet.safetensors')));
      if (one?.ok !== true || other?.ok !== true) throw new Error('no checkpoint');
      expect(weightsHash(other.value)).toBe(weightsHash(one.value));
    }
  });

  describe('in this process', () => {
    async function options(runFolder: string): Promise<TrainOptions> {
      const dataset = loadIdxFolder(folder);
      if (!dataset.ok) throw new Error(dataset.message);
      const recipe = {
        ...SHORT,
        batch: 8,
        validation: { ...SHORT.validation, subnets: 2, images: 8, calibrationImages: 8 },
        test: { settings: 8, images: 24 },
      };
      const backend = await selectBackend({ purpose: 'training', threads: 1 });
      return { space: TINY, recipe, dataset: dataset.value, backend, seed: 1, scale: 1, folder: join(folder, runFolder), command: 'test' };
    }

    it('stops when asked, keeps what it has, and refuses to go on with other settings', { timeout: 60_000 }, async () => {
      const given = await options('stopped');
      const stop = new AbortController();
      stop.abort();
      expect(await train({ ...given, signal: stop.signal })).toEqual({ ok: true, value: null });
      const other = await train({ ...given, seed: 2 });
      expect(other).toMatchObject({ ok: false, reason: 'INVALID_INPUT' });
      if (!other.ok) expect(other.message).toMatch(/holds a run with other settings: seed was 1, now 2\. Name another folder/);
      const steps: number[] = [];
      const again = new AbortController();
      await train({
        ...given,
        signal: again.signal,
        stateEverySteps: 1,
        onProgress: ({ step }) => {
          steps.push(step);
          again.abort();
        },
      });
      expect(steps[0]).toBe(2);
    });

    it(
      'stopped again and again, in the middle of validations and of the final test too, ends with bitwise the same weights',
      { timeout: 120_000 },
      async () => {
        const space: Space = { ...TINY, kernels: [3], expands: [2], depths: [1], resolutions: [9] };
        const given = { ...(await options('left alone')), space, scale: 0.2 };
        const alone = await train({ ...given, folder: join(folder, 'left alone') });
        if (!alone.ok || alone.value === null) throw new Error('not trained');
        const state = join(folder, 'stopped often', 'state.safetensors');
        const places: string[] = [];
        for (let turns = 1; ;) {
          // Aborts after so many turns of the event loop; scoring gives one a batch.
          const stop = new AbortController();
          const count = (left: number) => (left === 0 ? stop.abort() : void setImmediate(count, left - 1));
          count(turns);
          const part = await train({ ...given, folder: join(folder, 'stopped often'), signal: stop.signal });
          if (!part.ok) throw new Error(part.message);
          if (part.value !== null) {
            expect(weightsHash(part.value)).toBe(weightsHash(alone.value));
            expect(part.value.provenance?.accuracy).toEqual(alone.value.provenance?.accuracy);
            break;
          }
          const kept = decodeSafetensors(readFileSync(state), state);
          if (!kept.ok) throw new Error(kept.message);
          const { phase, step, validationDue } = JSON.parse(kept.value.metadata['position'] ?? '') as Position;
          const place = `phase ${phase}, step ${step}, ${validationDue ? 'to validate' : 'validated'}`;
          turns = place === places.at(-1) ? turns + 1 : 1;
          places.push(place);
        }
        expect(places.some((place) => place.endsWith('to validate'))).toBe(true);
        expect(places.at(-1)).toMatch(/^phase 1, step 1, validated$/); // only the final test was left
      },
    );

    it('does not go on from a state that was cut short, and says what to remove', async () => {
      const given = await options('cut');
      mkdirSync(given.folder);
      writeFileSync(join(given.folder, 'state.safetensors'), 'short');
      const outcome = await train(given);
      expect(outcome).toMatchObject({ ok: false, reason: 'CORRUPT_FILE' });
      if (!outcome.ok)
        expect(outcome.message).toMatch(
          /cut\/state\.safetensors .*has 5 bytes, not even the 8 .* Remove \S+\/cut to train from the start\.$/,
        );
    });

    it('does not begin with images that do not fit the space', async () => {
      const given = await options('misfit');
      const messageOf = async (changes: Partial<TrainOptions>) => {
        const outcome = await train({ ...given, ...changes });
        return outcome.ok ? 'trained' : outcome.message;
      };
      expect(await messageOf({ space: { ...TINY, classes: 2 } })).toMatch(/labels up to 2, space tiny has 2 classes; set its classes to 3/);
      expect(await messageOf({ space: { ...TINY, inputChannels: 3 } })).toMatch(/have 1 channel\(s\), space tiny takes 3/);
      expect(await messageOf({ recipe: { ...given.recipe, batch: 89 } })).toMatch(/has 88 training images, one batch .* needs 89/);
    });
  });
});
