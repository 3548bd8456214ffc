import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, utimesSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { decodeFiles, type DecodeProgress, type DecodeRequest } from '../../../../controller/supernet/data/decoded-cache.ts';
import { value } from '../../../helpers/outcome.ts';
import { colourOf, pngOf, put } from './made-images.ts';

const FILES = 100;
let scratch: string;
let request: DecodeRequest;
let progress: DecodeProgress[];
beforeEach(() => {
  scratch = mkdtempSync(join(tmpdir(), 'cache-'));
  progress = [];
  const files = Array.from({ length: FILES }, (_, i) => `${i}.png`);
  for (const [i, file] of files.entries())
    put(
      join(scratch, 'images'),
      file,
      pngOf(4, 4, () => colourOf(i)),
    );
  const cacheDir = join(scratch, 'cache');
  request = { root: join(scratch, 'images'), files, channels: 3, side: null, cacheDir, onProgress: (each) => progress.push(each) };
});
afterEach(() => rmSync(scratch, { recursive: true }));

/** The first pixel of each image, as the cache hands them out. */
async function colours(changed: Partial<DecodeRequest> = {}): Promise<string[]> {
  const seen: string[] = [];
  const decoded = value(await decodeFiles({ ...request, ...changed }));
  value(decoded.readPixels((image, pixels) => (seen[image] = pixels.subarray(0, 3).join())));
  return seen;
}
/** Whether anything was decoded since last asked. */
function hasDecoded(): boolean {
  const decoded = progress.length > 0;
  progress = [];
  return decoded;
}
const wanted = Array.from({ length: FILES }, (_, i) => colourOf(i).join());
const pixelFile = () => join(request.cacheDir, readdirSync(request.cacheDir).find((name) => name.endsWith('.pixels')) ?? '');

describe('the decoded cache', () => {
  it('decodes once, telling how far it is, and reads the pixels of the same files from then on', async () => {
    expect(await colours()).toEqual(wanted);
    expect(progress[0]).toEqual({ decoded: 0, files: FILES, broken: 0 });
    expect(progress.at(-1)).toEqual({ decoded: FILES, files: FILES, broken: 0 });
    expect(hasDecoded()).toBe(true);
    expect(await colours()).toEqual(wanted);
    expect(hasDecoded()).toBe(false);
  });

  it.each<[string, () => Partial<DecodeRequest>]>([
    [
      'a file has other content',
      () => (
        put(
          request.root,
          '7.png',
          pngOf(5, 5, () => colourOf(7)),
        ),
        {}
      ),
    ],
    ['a file was written again', () => (utimesSync(join(request.root, '7.png'), 1, 1), {})],
    ['a file is gone from the list', () => ({ files: request.files.filter((file) => file !== '7.png') })],
    ['another side is asked', () => ({ side: 6 })],
  ])('decodes anew when %s', async (_, change) => {
    await colours();
    hasDecoded();
    const changed = change();
    const names = (changed.files ?? request.files).map((file) => Number.parseInt(file, 10));
    expect(await colours(changed)).toEqual(names.map((i) => wanted[i]));
    expect(hasDecoded()).toBe(true);
  });

  it('keeps one pixel file for each side, and none that no index names', async () => {
    await colours();
    put(
      request.root,
      '7.png',
      pngOf(4, 4, () => [1, 1, 1]),
    );
    await colours();
    expect(readdirSync(request.cacheDir)).toHaveLength(2);
    await colours({ side: 6 });
    expect(readdirSync(request.cacheDir)).toHaveLength(4);
  });

  it('decodes anew when its pixel file was cut or its index is no index', async () => {
    await colours();
    writeFileSync(pixelFile(), readFileSync(pixelFile()).subarray(0, -1));
    hasDecoded();
    expect(await colours()).toEqual(wanted);
    expect(hasDecoded()).toBe(true);
    writeFileSync(join(request.cacheDir, readdirSync(request.cacheDir).find((name) => name.endsWith('.json')) ?? ''), '{');
    expect(await colours()).toEqual(wanted);
    expect(hasDecoded()).toBe(true);
  });

  it('notices a changed byte, says so, and is decoded anew by the next start', async () => {
    await colours();
    const bytes = readFileSync(pixelFile());
    bytes[99] = (bytes[99] as number) ^ 1;
    writeFileSync(pixelFile(), bytes);
    const read = value(await decodeFiles(request)).readPixels(() => undefined);
    expect(read).toMatchObject({ ok: false, reason: 'CORRUPT_FILE' });
    if (!read.ok) expect(read.message).toMatch(/is not as it was written .* start the same command again/);
    expect(await colours()).toEqual(wanted);
  });

  it('stops when asked and leaves nothing half done', async () => {
    const stop = new AbortController();
    const onProgress = ({ decoded }: DecodeProgress) => {
      if (decoded > 0) stop.abort();
    };
    const stopped = await decodeFiles({ ...request, signal: stop.signal, onProgress });
    expect(stopped).toMatchObject({ ok: false, reason: 'CANCELED' });
    expect(readdirSync(request.cacheDir)).toEqual([]);
    expect(await colours()).toEqual(wanted);
  });

  it('is whole or not there after the process is killed while it decodes', async () => {
    const killed = spawnSync(process.execPath, ['--input-type=module', '-e', decodeScript('process.kill(process.pid, "SIGKILL")')]);
    expect(killed.signal).toBe('SIGKILL');
    expect(readdirSync(request.cacheDir).every((name) => name.endsWith('.tmp'))).toBe(true);
    expect(await colours()).toEqual(wanted);
  });

  it('clears away what killed processes left, but not what another may be writing', async () => {
    await colours();
    const [name = ''] = readdirSync(request.cacheDir).filter((each) => each.endsWith('.json'));
    const [old, fresh] = ['0000', '1111'].map((each) => join(request.cacheDir, name.replace('.json', `.${each}.tmp`))) as [string, string];
    writeFileSync(old, 'half');
    writeFileSync(fresh, 'half');
    utimesSync(old, Date.now() / 1000 - 7200, Date.now() / 1000 - 7200);
    put(
      request.root,
      '7.png',
      pngOf(4, 4, () => [1, 1, 1]),
    );
    await colours();
    expect([existsSync(old), existsSync(fresh)]).toEqual([false, true]);
  });

  it('says in one sentence that there is no room, and leaves nothing behind', () => {
    // a limit on the size of files stands for a full disk: the write fails midway just so
    const script = decodeScript('undefined');
    const limited = spawnSync('bash', ['-c', 'ulimit -f 2; exec "$0" --input-type=module -e "$1"', process.execPath, script], {
      encoding: 'utf8',
    });
    expect(JSON.parse(limited.stdout)).toMatchObject({ ok: false, reason: 'LOW_DISK' });
    expect(limited.stdout).toMatch(/may not grow to 4800 bytes here .*choose another folder/);
    expect(readdirSync(request.cacheDir)).toEqual([]);
  });

  it('says where it may not write', async () => {
    writeFileSync(join(scratch, 'file'), 'in the way');
    const refused = await decodeFiles({ ...request, cacheDir: join(scratch, 'file', 'cache') });
    expect(refused).toMatchObject({ ok: false, reason: 'INVALID_INPUT' });
    expect(existsSync(join(scratch, 'cache'))).toBe(false);
  });

  it('takes what is an image by any name, and remembers what is none', async () => {
    writeFileSync(join(request.root, '7.png'), 'no image');
    mkdirSync(join(request.root, 'folder.png'));
    rmSync(join(request.root, '8.png'));
    const decoded = value(await decodeFiles({ ...request, files: [...request.files, 'folder.png'] }));
    expect(decoded.broken.map(({ file }) => file)).toEqual([7, 8, FILES]);
    expect(decoded.broken[1]?.why).toMatch(/cannot be read \(ENOENT/);
    expect(statSync(pixelFile()).size).toBe((FILES - 2) * 48);
    expect(progress.at(-1)?.broken).toBe(3);
  });
});

/** A program that decodes the same files, doing `after` once some are decoded, and prints the outcome. */
function decodeScript(after: string): string {
  const module = join(import.meta.dirname, '../../../../controller/supernet/data/decoded-cache.ts');
  return `
    import { decodeFiles } from ${JSON.stringify(module)};
    const onProgress = ({ decoded }) => { if (decoded > 0) ${after}; };
    console.log(JSON.stringify(await decodeFiles({ ...${JSON.stringify(request)}, onProgress })));
  `;
}
