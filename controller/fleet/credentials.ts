// Passwords and claim secrets as they are stored. They are 256 random bits each, so what matters is that the table does not hold them as they
// are; scrypt from node:crypto does that without a native module of its own, which argon2id would need on every platform.
import { createHash, randomBytes, scrypt, timingSafeEqual } from 'node:crypto';

/** Work factor: about 30 ms and 16 MiB on a small core. */
const COST = { N: 16_384, r: 8, p: 1 } as const;
const KEY_BYTES = 32;

/** `scrypt$<salt>$<key>`, both in base64url. */
export async function hashSecret(secret: string): Promise<string> {
  const salt = randomBytes(16);
  return `scrypt$${salt.toString('base64url')}$${(await derive(secret, salt)).toString('base64url')}`;
}

export async function verifySecret(secret: string, stored: string): Promise<boolean> {
  const [scheme, salt, key] = stored.split('$');
  if (scheme !== 'scrypt' || salt === undefined || key === undefined) return false;
  const wanted = Buffer.from(key, 'base64url');
  const got = await derive(secret, Buffer.from(salt, 'base64url'));
  return wanted.length === got.length && timingSafeEqual(wanted, got);
}

export interface SecretCheck {
  (id: string, secret: string, stored: string): Promise<boolean>;
}

/** Remembers the SHA-256 of what was right before, so that a fleet that comes back after a restart of the broker does not pay scrypt twice. */
export function createSecretCheck(): SecretCheck {
  const known = new Map<string, { readonly stored: string; readonly digest: Buffer }>();
  return async (id, secret, stored) => {
    const digest = createHash('sha256').update(secret).digest();
    const before = known.get(id);
    if (before?.stored === stored && timingSafeEqual(before.digest, digest)) return true;
    const right = await verifySecret(secret, stored);
    if (right) known.set(id, { stored, digest });
    return right;
  };
}

function derive(secret: string, salt: Buffer): Promise<Buffer> {
  return new Promise((resolve, reject) => {
    scrypt(secret, salt, KEY_BYTES, COST, (error, key) => {
      if (error === null) resolve(key);
      else reject(error);
    });
  });
}
