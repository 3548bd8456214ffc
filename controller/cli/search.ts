// `ofa-fleet search`: starts a campaign on the running controller and follows it to its end.
import { z } from 'zod';
import { DEFAULT_PLAN } from '@ofa-fleet/shared/measurement.ts';
import type { CampaignEvent, CampaignRequest } from '../campaigns/campaign-runner.ts';
import { EXIT, fail, type Context } from './context.ts';
import { createLiveDisplay } from './live-display.ts';
import { progressLines } from './progress-lines.ts';
import { connectToServe } from './serve-client.ts';

export interface SearchOptions {
  readonly state: string;
  readonly subnets: number;
  readonly seed: number;
  readonly algorithm: 'nsga2' | 'random';
  readonly class?: readonly string[];
  readonly budget?: number;
  readonly cap?: number;
  readonly precision: number;
  readonly stop: boolean;
}

const campaignSchema = z.object({ id: z.string(), endedReason: z.string().nullable() });

export async function search(options: SearchOptions, context: Context): Promise<number> {
  const client = connectToServe(options.state);
  if (!client.ok) return fail(context, client);
  if (options.stop) {
    const campaigns = await client.value.get('/api/campaigns', context.signal);
    if (!campaigns.ok) return fail(context, campaigns);
    const running = z.array(campaignSchema).parse(campaigns.value).find(({ endedReason }) => endedReason === null); // prettier-ignore
    if (running === undefined) {
      context.print('No campaign runs.');
      return EXIT.done;
    }
    const stopped = await client.value.post(`/api/campaigns/${running.id}/stop`, {}, context.signal);
    if (!stopped.ok) return fail(context, stopped);
    context.print(`Campaign ${running.id} is ended; what it measured is kept: ofa-fleet report`);
    return EXIT.done;
  }
  const request: CampaignRequest = {
    subnets: options.subnets,
    seed: options.seed,
    algorithm: options.algorithm,
    deviceClasses: options.class ?? null,
    budgetMs: options.budget ?? null,
    capMs: options.cap === undefined ? null : options.cap * 1000,
    plan: { ...DEFAULT_PLAN, relativeHalfWidth: options.precision },
  };
  const started = await client.value.post('/api/campaigns', request, context.signal);
  if (!started.ok) return fail(context, started);
  const { id } = z.object({ id: z.string() }).parse(started.value);
  context.print(`Campaign ${id}: ${options.subnets} subnets. Ctrl-C ends it and keeps what was measured.`);

  const display = createLiveDisplay(process.stdout);
  try {
    for await (const event of client.value.events(`/api/campaigns/${id}/events`, context.signal) as AsyncGenerator<CampaignEvent>) {
      if (event.kind === 'progress') {
        if (event.progress.note !== null) display.note(`  ${event.progress.note}`);
        display.show(progressLines(event.progress));
        continue;
      }
      display.end();
      if (!event.outcome.ok) return fail(context, event.outcome);
      context.print(`${event.outcome.value.message} Next: ofa-fleet report --state ${options.state}`);
      return event.outcome.value.reason === 'left' ? EXIT.failed : EXIT.done;
    }
  } catch (error) {
    if (!context.signal.aborted) context.complain(`The controller is gone (${String(error)}): start it again and the campaign goes on.`);
  } finally {
    display.end();
  }
  if (context.signal.aborted) {
    const stopped = await client.value.post(`/api/campaigns/${id}/stop`, {}, AbortSignal.timeout(4000));
    if (!stopped.ok && stopped.reason !== 'NOT_FOUND') {
      context.complain(`Campaign ${id} may still run: ${stopped.message} Try \`ofa-fleet search --stop --state ${options.state}\`.`);
      return EXIT.failed;
    }
    context.print(`Stopped; what was measured is kept: ofa-fleet report --state ${options.state}`);
    return 130;
  }
  return EXIT.failed;
}
