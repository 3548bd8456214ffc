// Tokens: single use, for a time, and an answer that got lost can be asked for again by the same device alone.
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { createToken, enrol } from '../../../controller/fleet/enrolment.ts';
import { createSecretCheck, hashSecret, verifySecret } from '../../../controller/fleet/credentials.ts';
import { openDatabase, type Db } from '../../../controller/store/database.ts';
import { isDeviceId, randomSecret } from '../../../shared/ids.ts';
import { deviceInfo } from '../../helpers/devices.ts';
import { value } from '../../helpers/outcome.ts';

describe('enrolling', () => {
  let db: Db;
  let claimId = '';
  const ask = (password: string) => ({ name: null, info: deviceInfo('bench'), password });
  const password = randomSecret();

  beforeEach(async () => {
    db = value(await openDatabase(':memory:'));
    claimId = (await createToken(db, { name: 'kitchen', lifetimeMs: 1000 }, 0)).split('.')[0] as string;
  });
  afterEach(() => db.destroy());

  it('gives an id, a fleet and a shard, and stores neither secret nor password as they are', async () => {
    const answer = await enrol(db, claimId, ask(password), 10);
    expect(answer).toMatchObject({ ok: true, fleet: 'main', shard: '00' });
    expect(answer.ok && isDeviceId(answer.deviceId)).toBe(true);
    const stored = JSON.stringify([
      await db.selectFrom('device').selectAll().execute(),
      await db.selectFrom('claim').selectAll().execute(),
    ]);
    expect(stored).not.toContain(password);
    expect(stored).toContain('kitchen');
  });

  it('answers the same device again, and nobody else with the same token', async () => {
    const first = await enrol(db, claimId, ask(password), 10);
    expect(await enrol(db, claimId, ask(password), 20)).toEqual(first);
    expect(await enrol(db, claimId, ask(randomSecret()), 30)).toMatchObject({ ok: false, reason: 'NOT_AUTHORISED' });
    expect(await db.selectFrom('device').select('device_id').execute()).toHaveLength(1);
  });

  it('is refused with a token that is too old or unknown', async () => {
    expect(await enrol(db, claimId, ask(password), 1000)).toMatchObject({ ok: false, reason: 'EXPIRED' });
    expect(await enrol(db, 'clm-0000000000000000', ask(password), 0)).toMatchObject({ ok: false, reason: 'NOT_AUTHORISED' });
  });
});

describe('a stored secret', () => {
  it('is right for its secret alone, each time salted anew', async () => {
    const [a, b] = [await hashSecret('s'), await hashSecret('s')];
    expect(a).not.toBe(b);
    expect([await verifySecret('s', a), await verifySecret('t', a), await verifySecret('s', 'plain')]).toEqual([true, false, false]);
  });

  it('that was right once is not right for another hash, nor another secret right for it', async () => {
    const check = createSecretCheck();
    const [one, two] = [await hashSecret('one'), await hashSecret('two')];
    expect([await check('d', 'one', one), await check('d', 'one', two), await check('d', 'two', one), await check('d', 'two', two)]).toEqual([true, false, false, true]); // prettier-ignore
  });
});
