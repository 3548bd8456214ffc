// Messages that were refused: kept, capped, so that somebody can see what a device said and why it was not believed.
import type { Insertable } from 'kysely';
import type { Db } from './database.ts';
import type { DeadLetterTable } from './schema.ts';

const MAX_PER_DEVICE = 100;
const MAX_IN_ALL = 10_000;
const MAX_BODY_BYTES = 4096;

/** The oldest rows give way. */
export async function insertDeadLetter(db: Db, letter: Insertable<DeadLetterTable>): Promise<void> {
  await db.transaction().execute(async (tx) => {
    await tx
      .insertInto('dead_letter')
      .values({ ...letter, body: letter.body.subarray(0, MAX_BODY_BYTES) })
      .execute();
    const newestOf = (deviceId: string) =>
      tx.selectFrom('dead_letter').select('id').where('device_id', '=', deviceId).orderBy('id', 'desc').limit(MAX_PER_DEVICE);
    await tx
      .deleteFrom('dead_letter')
      .where('device_id', '=', letter.device_id)
      .where('id', 'not in', newestOf(letter.device_id))
      .execute();
    await tx
      .deleteFrom('dead_letter')
      .where('id', '<=', (eb) => eb.selectFrom('dead_letter').select((inner) => inner(inner.fn.max('id'), '-', MAX_IN_ALL).as('id')))
      .execute();
  });
}
