// How a stranger becomes a device: a single-use token that expires. The device brings its own password, so a lost answer can be asked for again
// by the same device with the same token, and by nobody else.
import { deviceClass } from '@ofa-fleet/shared/device.ts';
import { CLAIM_PREFIX, randomId, randomSecret } from '@ofa-fleet/shared/ids.ts';
import { failed, type Failure } from '@ofa-fleet/shared/outcome.ts';
import type { DownPayload, UpPayload } from '@ofa-fleet/shared/protocol.ts';
import type { Db } from '../store/database.ts';
import { countDevices, findClaim, findDevice, insertClaim, insertEnrolled } from '../store/devices.ts';
import { hashSecret, verifySecret } from './credentials.ts';

const FLEET = 'main';
const SHARDS = 64;

/** `<claim id>.<secret>`: what `ofa-agent join URL TOKEN` takes. */
export async function createToken(
  db: Db,
  options: { readonly name: string | null; readonly lifetimeMs: number },
  now: number,
): Promise<string> {
  const claimId = randomId(CLAIM_PREFIX);
  const secret = randomSecret();
  await insertClaim(db, {
    claim_id: claimId,
    secret_hash: await hashSecret(secret),
    name: options.name,
    created_at: now,
    expires_at: now + options.lifetimeMs,
  });
  return `${claimId}.${secret}`;
}

/** The answer to a claim whose secret the broker has checked. */
export async function enrol(db: Db, claimId: string, asked: UpPayload<'enrol'>, now: number): Promise<DownPayload<'enrol'>> {
  const claim = await findClaim(db, claimId);
  if (claim === null) return failed('NOT_AUTHORISED', `the token ${claimId} is not known here; ask the controller for a new one`);
  if (claim.used_at !== null) return answerAgain(db, claimId, claim.device_id, asked.password);
  if (now >= claim.expires_at) {
    const lifetimeS = Math.round((claim.expires_at - claim.created_at) / 1000);
    return failed('EXPIRED', `the token ${claimId} was good for ${lifetimeS} s and is too old; ask the controller for a new one`);
  }
  const deviceId = randomId('dev-');
  const shard = String((await countDevices(db)) % SHARDS).padStart(2, '0');
  await insertEnrolled(
    db,
    {
      device_id: deviceId,
      name: asked.name ?? claim.name ?? asked.info.hostname,
      device_class: deviceClass(asked.info),
      info_json: JSON.stringify(asked.info),
      fleet: FLEET,
      shard,
      password_hash: await hashSecret(asked.password),
      enrolled_at: now,
    },
    claimId,
  );
  return { ok: true, deviceId, fleet: FLEET, shard };
}

async function answerAgain(db: Db, claimId: string, deviceId: string | null, password: string): Promise<DownPayload<'enrol'>> {
  const device = deviceId === null ? null : await findDevice(db, deviceId);
  if (device !== null && (await verifySecret(password, device.password_hash))) {
    return { ok: true, deviceId: device.device_id, fleet: device.fleet, shard: device.shard };
  }
  return usedUp(claimId, device?.name ?? null);
}

function usedUp(claimId: string, name: string | null): Failure {
  const by = name === null ? '' : ` by ${name}`;
  return failed(
    'NOT_AUTHORISED',
    `the token ${claimId} was used already${by}: each is good for one device; ask the controller for a new one`,
  );
}
