// Campaigns: start, look, follow as server-sent events, stop.
import type { FastifyInstance } from 'fastify';
import { z } from 'zod';
import { planSchema } from '@ofa-fleet/shared/measurement.ts';
import type { Db } from '../store/database.ts';
import { listCampaigns } from '../store/campaigns.ts';
import type { CampaignEvent, CampaignRunner } from '../campaigns/campaign-runner.ts';
import { parseBody, sendFailure } from './http.ts';

const campaignRequestSchema = z.object({
  subnets: z.int().min(1).max(100_000),
  seed: z.int().min(0).max(Number.MAX_SAFE_INTEGER),
  algorithm: z.enum(['nsga2', 'random']),
  deviceClasses: z.array(z.string().min(1)).min(1).nullable(),
  budgetMs: z.number().positive().nullable(),
  capMs: z.number().min(1000).max(2 ** 31 - 1).nullable(), // prettier-ignore
  plan: planSchema,
});

const idSchema = z.object({ id: z.string().max(64) });

export function campaignRoutes(app: FastifyInstance, db: Db, runner: CampaignRunner): void {
  app.get('/api/campaigns', () => listCampaigns(db));

  app.post('/api/campaigns', async (request, reply) => {
    const body = parseBody(campaignRequestSchema, request.body);
    if (!body.ok) return sendFailure(reply, body);
    const started = await runner.start(body.value);
    return started.ok ? reply.code(201).send({ id: started.value }) : sendFailure(reply, started);
  });

  app.post('/api/campaigns/:id/stop', async (request, reply) => {
    const stopped = await runner.stop(idSchema.parse(request.params).id);
    return stopped.ok ? { stopped: true } : sendFailure(reply, stopped);
  });

  // Events come when something happened, never by timer: a follower costs a measuring host nothing in between.
  app.get('/api/campaigns/:id/events', (request, reply) => {
    const { id } = idSchema.parse(request.params);
    reply.hijack();
    reply.raw.writeHead(200, { 'content-type': 'text/event-stream', 'cache-control': 'no-store' });
    const send = (event: CampaignEvent) => {
      if (event.campaignId !== id) return;
      reply.raw.write(`data: ${JSON.stringify(event)}\n\n`);
      if (event.kind === 'end') reply.raw.end();
    };
    const unsubscribe = runner.subscribe(send);
    reply.raw.on('close', unsubscribe);
    const latest = runner.latest();
    if (latest !== null) send(latest);
  });
}
