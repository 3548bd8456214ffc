// Real processes contend for one lock file; nothing here is simulated.
import { spawn, type ChildProcessByStdio } from 'node:child_process';
import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Readable, Writable } from 'node:stream';
import { fileURLToPath } from 'node:url';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { acquireHostLock } from '@ofa-fleet/shared/node/host-lock.ts';

const HOLDER = fileURLToPath(new URL('../../helpers/lock-holder.ts', import.meta.url));
const signal = () => AbortSignal.timeout(20_000);

interface Holder {
  readonly child: ChildProcessByStdio<Writable, Readable, null>;
  /** Resolves when stdout has said `text`. */
  said(text: string): Promise<void>;
}

let dir = '';
let path = '';
let holders: Holder[] = [];

async function startHolder(): Promise<Holder> {
  const child = spawn(process.execPath, [HOLDER, path], { stdio: ['pipe', 'pipe', 'inherit'] });
  let out = '';
  const waiting = new Set<() => void>();
  child.stdout.on('data', (chunk: Buffer) => {
    out += chunk.toString();
    for (const look of waiting) look();
  });
  const said = (text: string) =>
    new Promise<void>((resolve, reject) => {
      const look = () => {
        if (!out.includes(text)) return;
        waiting.delete(look);
        resolve();
      };
      waiting.add(look);
      child.once('exit', () => reject(new Error(`ended without saying "${text}"`)));
      look();
    });
  const holder = { child, said };
  holders.push(holder);
  await said('waiting');
  return holder;
}

/** The process has its ticket once others see it wait; its queue file exists from then on. */
const settle = () => new Promise((resolve) => setTimeout(resolve, 200));

beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), 'ofa-lock-'));
  path = join(dir, 'nested', 'host.lock');
  holders = [];
});

afterEach(() => {
  for (const { child } of holders) child.kill('SIGKILL');
  rmSync(dir, { recursive: true, force: true });
});

describe('the host lock', () => {
  it('is held by one process at a time and goes on in the order of asking', async () => {
    const order: number[] = [];
    const first = await startHolder();
    await first.said('held');
    const others: Holder[] = [];
    for (const n of [1, 2, 3]) {
      const holder = await startHolder();
      void holder.said('held').then(() => order.push(n));
      others.push(holder);
      await settle();
    }
    expect(order).toEqual([]);
    first.child.stdin.write('\n');
    for (const [i, holder] of others.entries()) {
      await holder.said('held');
      // The later ones still wait.
      expect(order).toEqual([1, 2, 3].slice(0, i + 1));
      holder.child.stdin.write('\n');
    }
  }, 30_000);

  it('is free again when its holder is killed with -9, and a killed waiter holds nobody up', async () => {
    const holder = await startHolder();
    await holder.said('held');
    const waiter = await startHolder();
    await settle();
    const mine = acquireHostLock({ path, signal: signal() });
    waiter.child.kill('SIGKILL');
    holder.child.kill('SIGKILL');
    const lock = await mine;
    expect(lock.waitedMs).toBeGreaterThan(0);
    lock.release();
  }, 30_000);

  it('rejects a waiter whose signal aborts, and its place in the queue is gone', async () => {
    const held = await acquireHostLock({ path, signal: signal() });
    const giveUp = new AbortController();
    const waiting = acquireHostLock({ path, signal: giveUp.signal });
    giveUp.abort(new Error('stopped by the test'));
    await expect(waiting).rejects.toThrow('stopped by the test');
    held.release();
    const again = await acquireHostLock({ path, signal: signal() });
    again.release();
    again.release();
    expect(existsSync(path)).toBe(true);
  });

  it('takes turns within one process too', async () => {
    const first = await acquireHostLock({ path, signal: signal() });
    let second = false;
    const waiting = acquireHostLock({ path, signal: signal() }).then((lock) => {
      second = true;
      return lock;
    });
    await settle();
    expect(second).toBe(false);
    first.release();
    (await waiting).release();
    expect(second).toBe(true);
  });
});
