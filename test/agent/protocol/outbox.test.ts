// What the agent keeps until the controller has it too: the outbox on a real database, and its delivery.
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, afterEach, beforeEach, describe, expect, it } from 'vitest';
import { createDelivery, type Delivery } from '../../../agent/delivery.ts';
import { createOutbox, openAgentDatabase } from '../../../agent/node/outbox.ts';
import type { Outbox, OutboxRow } from '../../../agent/ports.ts';
import { systemClock } from '../../../shared/clock.ts';
import { uuidV7 } from '../../../shared/ids.ts';
import { value } from '../../helpers/outcome.ts';

const jobId = uuidV7(1);
const row = (phase: 'accepted' | 'interrupted', job = jobId): OutboxRow => ({ id: uuidV7(2), update: { phase, jobId: job, attempt: 1 } });

describe('the outbox', () => {
  let db: ReturnType<typeof open>;
  let outbox: Outbox;
  const said: string[] = [];
  const path = join(mkdtempSync(join(tmpdir(), 'ofa-outbox-')), 'agent.db');
  const open = () => value(openAgentDatabase(path));

  beforeEach(() => {
    db = open();
    db.exec('DELETE FROM outbox; DELETE FROM held; DELETE FROM aside');
    said.length = 0;
    outbox = createOutbox(
      db,
      () => 1000,
      (line) => said.push(line),
    );
  });
  afterEach(() => db.close());
  afterAll(() => rmSync(dirname(path), { recursive: true, force: true }));

  it('commits with synchronous FULL in WAL mode', () => {
    expect([db.pragma('synchronous', { simple: true }), db.pragma('journal_mode', { simple: true })]).toEqual([2, 'wal']);
  });

  it('holds a job from its acceptance until its end is acknowledged', async () => {
    const [accepted, ended] = [row('accepted'), row('interrupted')];
    await outbox.accept(accepted);
    expect(await outbox.held()).toEqual([{ jobId, attempt: 1, phase: 'running' }]);
    await outbox.finish(ended);
    await outbox.acknowledge(accepted.id);
    expect(await outbox.held()).toEqual([{ jobId, attempt: 1, phase: 'done' }]);
    expect(await outbox.acknowledge(ended.id)).toEqual(ended);
    expect(await outbox.held()).toEqual([]);
    expect(await outbox.acknowledge(ended.id)).toBeNull();
  });

  it('gives its rows in the order in which they were committed, also after it is opened again', async () => {
    const rows = [row('accepted'), row('interrupted'), row('accepted', uuidV7(3))];
    for (const each of rows) await outbox.finish(each);
    db.close();
    db = open();
    expect(
      await createOutbox(
        db,
        () => 0,
        () => undefined,
      ).oldest(10),
    ).toEqual(rows);
    expect(
      await createOutbox(
        db,
        () => 0,
        () => undefined,
      ).fill(),
    ).toEqual({ rows: 3, oldestAtMs: 1000, isNearlyFull: false });
  });

  it('sets aside a row that it cannot read, says so, and gives those behind it', async () => {
    const good = row('accepted');
    await outbox.finish({ id: uuidV7(4), update: { phase: 'reject', jobId: uuidV7(5), attempt: 1, reason: 'CRASHED', message: 'x'.repeat(5000), retryAfterMs: null } }); // prettier-ignore
    await outbox.accept(good);
    expect(await outbox.oldest(1)).toEqual([good]);
    expect(await outbox.held()).toEqual([{ jobId, attempt: 1, phase: 'running' }]);
    expect(db.prepare('SELECT count(*) AS n FROM aside').get()).toEqual({ n: 1 });
    expect(said.join()).toContain('set aside');
  });

  it('forgets a job with its rows when the controller wants it no more', async () => {
    await outbox.accept(row('accepted'));
    await outbox.forget(jobId);
    expect([await outbox.held(), await outbox.oldest(1)]).toEqual([[], []]);
  });

  describe('delivered', () => {
    const sent: string[] = [];
    let isUp = true;
    let tooLong = '';
    let delivery: Delivery;
    let stop: AbortController;
    let running: Promise<void>;

    beforeEach(() => {
      sent.length = 0;
      isUp = true;
      stop = new AbortController();
      delivery = createDelivery({
        outbox,
        clock: {
          ...systemClock,
          monotonicMs: () => systemClock.monotonicMs() * 1000,
          sleep: (ms, signal) => systemClock.sleep(ms / 1000, signal),
        },
        random: () => 0,
        send: ({ id }) => (id === tooLong ? Promise.reject(new RangeError('too long')) : Promise.resolve(isUp && sent.push(id) > 0)),
      });
      running = delivery.run(stop.signal);
    });
    afterEach(async () => {
      stop.abort();
      await running;
    });

    it('goes again under the same id until it is acknowledged, and then no more', async () => {
      const accepted = row('accepted');
      await outbox.accept(accepted);
      delivery.kick();
      while (sent.length < 3) await sleep(5);
      expect(new Set(sent)).toEqual(new Set([accepted.id]));
      await delivery.onAck(accepted.id, 'accepted');
      const after = sent.length;
      await sleep(150);
      expect(sent.length).toBe(after);
    });

    it('sets a row aside that no message can hold, and goes on with the next', async () => {
      const rows = [row('accepted'), row('accepted', uuidV7(3))];
      tooLong = rows[0]?.id ?? '';
      for (const each of rows) await outbox.accept(each);
      delivery.kick();
      while (sent.length < 1) await sleep(5);
      expect(sent[0]).toBe(rows[1]?.id);
      expect(await outbox.oldest(10)).toEqual([rows[1]]);
    });

    it('keeps the row when the controller could not commit', async () => {
      const accepted = row('accepted');
      await outbox.accept(accepted);
      expect(await delivery.onAck(accepted.id, 'retry')).toBeNull();
      while (sent.length < 1) await sleep(5);
      expect(await outbox.oldest(1)).toEqual([accepted]);
    });

    it('waits while there is no connection, and goes in order when there is', async () => {
      isUp = false;
      const rows = [row('accepted'), row('interrupted')];
      for (const each of rows) await outbox.finish(each);
      delivery.kick();
      await sleep(20);
      expect(sent).toEqual([]);
      isUp = true;
      delivery.kick({ again: true });
      while (sent.length < 2) await sleep(5);
      expect(sent.slice(0, 2)).toEqual(rows.map(({ id }) => id));
    });
  });
});
