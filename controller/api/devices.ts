// The fleet's devices, and tokens by which new ones join.
import type { FastifyInstance } from 'fastify';
import { z } from 'zod';
import type { Fleet } from '../fleet/fleet.ts';
import { parseBody, sendFailure } from './http.ts';

const DAY_MS = 86_400_000;

const tokenRequestSchema = z.object({
  name: z.string().max(64).nullable().default(null),
  lifetimeMs: z.number().min(1000).max(30 * DAY_MS).default(DAY_MS), // prettier-ignore
});

export function deviceRoutes(app: FastifyInstance, fleet: Fleet): void {
  app.get('/api/devices', () => fleet.devices());

  app.post('/api/tokens', async (request, reply) => {
    const body = parseBody(tokenRequestSchema, request.body);
    if (!body.ok) return sendFailure(reply, body);
    return { token: await fleet.createToken(body.value), brokerUrl: fleet.brokerUrl };
  });
}
