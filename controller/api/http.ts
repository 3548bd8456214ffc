// What all resources share: who may ask, how a failure becomes an answer, how a body is parsed.
import { createHash, timingSafeEqual } from 'node:crypto';
import type { FastifyReply, FastifyRequest } from 'fastify';
import type { z } from 'zod';
import { failed, ok, type Failure, type Outcome, type Reason } from '@ofa-fleet/shared/outcome.ts';

/** True where the request carries `Authorization: Bearer <token>`; compared in constant time. */
export function carriesToken(request: FastifyRequest, token: string): boolean {
  const given = /^Bearer (.+)$/.exec(request.headers.authorization ?? '')?.[1] ?? '';
  const digest = (text: string) => createHash('sha256').update(text).digest();
  return timingSafeEqual(digest(given), digest(token));
}

const STATUS: Partial<Record<Reason, number>> = { INVALID_INPUT: 400, NOT_FOUND: 404, NOT_AUTHORISED: 401, LOW_DISK: 507, CRASHED: 500 };

export function sendFailure(reply: FastifyReply, { reason, message }: Failure): FastifyReply {
  return reply.code(STATUS[reason] ?? 409).send({ reason, message });
}

/** The body as the schema has it, or every mistake in one sentence. */
export function parseBody<T>(schema: z.ZodType<T>, body: unknown): Outcome<T> {
  const parsed = schema.safeParse(body ?? {});
  if (parsed.success) return ok(parsed.data);
  const mistakes = parsed.error.issues.map((issue) => `${issue.path.join('.') || '(whole)'}: ${issue.message}`);
  return failed('INVALID_INPUT', `The request cannot be understood: ${mistakes.join('; ')}.`);
}
