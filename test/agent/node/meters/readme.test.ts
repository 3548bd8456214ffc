// The example of agent/node/meters/README.md is a meter that works.
import { chmodSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { discoverMeters, meterHost } from '../../../../agent/node/meters/discover.ts';
import type { Discovery, MeterHost } from '../../../../agent/node/meters/meter.ts';

const METERS = new URL('../../../../agent/node/meters/', import.meta.url);

interface Example {
  readonly parseUsbMeter: (line: string) => number | null;
  readonly discoverUsbMeter: (host: MeterHost) => Discovery;
}

describe('the meter of the README', () => {
  let dir = '';
  let code = '';
  let example: Example;
  beforeAll(async () => {
    dir = mkdtempSync(join(tmpdir(), 'ofa-readme-'));
    code = /```ts\n([\s\S]*?)```/.exec(readFileSync(new URL('README.md', METERS), 'utf8'))?.[1] ?? '';
    const file = join(dir, 'usb-meter.ts');
    writeFileSync(file, code.replaceAll("'./", `'${METERS.href}`));
    example = (await import(pathToFileURL(file).href)) as Example;
    writeFileSync(join(dir, 'usb-meter'), '#!/bin/sh\n');
    chmodSync(join(dir, 'usb-meter'), 0o755);
  });
  afterAll(() => rmSync(dir, { recursive: true }));

  it('has no more than 30 lines', () => {
    expect(code.trim().split('\n').length).toBeLessThanOrEqual(30);
  });

  it('reads its lines and is found where its program is', () => {
    expect(example.parseUsbMeter('5.000 V 0.4000 A')).toBeCloseTo(2, 12);
    for (const line of ['', '5.000 V', '5.000 V -0.4 A', 'V A']) expect(example.parseUsbMeter(line)).toBeNull();
    expect(example.discoverUsbMeter({ ...meterHost('/nowhere'), programDirs: [dir] }).meters[0]?.info).toMatchObject({
      boundary: 'board',
      kind: 'power',
    });
    expect(example.discoverUsbMeter({ ...meterHost('/nowhere'), programDirs: [] })).toEqual({ meters: [], unusable: [] });
  });

  it('stands beside a table that names every family', () => {
    const text = readFileSync(new URL('README.md', METERS), 'utf8');
    const families = [...readFileSync(new URL('discover.ts', METERS), 'utf8').matchAll(/from '\.\/([\w-]+)\.ts'/g)].map(
      ([, name = '']) => name,
    );
    for (const family of families.filter((name) => name !== 'meter')) expect(text).toContain(`| \`${family}\``);
    expect(discoverMeters(meterHost('/nowhere')).meters).toEqual([]);
  });
});
