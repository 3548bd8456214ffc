// `ofa-fleet deploy`: the right subnet for a device's latency budget becomes what it serves.
import { failed } from '@ofa-fleet/shared/outcome.ts';
import type { Deployed, DeploymentRequest } from '../api/deployments.ts';
import { milliseconds, threeDigits } from '../report/format.ts';
import { EXIT, fail, type Context } from './context.ts';
import { connectToServe } from './serve-client.ts';

export interface DeployOptions {
  readonly state: string;
  readonly budget?: number;
  readonly subnet?: string;
  readonly campaign?: string;
}

export async function deploy(device: string, options: DeployOptions, context: Context): Promise<number> {
  if (options.budget !== undefined && options.subnet !== undefined) {
    context.complain(
      failed('INVALID_INPUT', 'Give --budget or --subnet, not both: a named subnet needs no budget to be chosen by.').message,
    );
    return EXIT.usage;
  }
  const client = connectToServe(options.state);
  if (!client.ok) return fail(context, client);
  const request: DeploymentRequest = {
    device,
    campaignId: options.campaign ?? null,
    budgetMs: options.budget ?? null,
    subnetId: options.subnet ?? null,
  };
  const answer = await client.value.post('/api/deployments', request, context.signal);
  if (!answer.ok) return fail(context, answer);
  const deployed = answer.value as Deployed;
  const why = deployed.budgetMs === null ? 'as named' : `the least error within ${threeDigits(deployed.budgetMs)} ms`;
  const promise = deployed.promised === null ? '' : `, measured at ${milliseconds(deployed.promised)}`;
  context.print(
    `${deployed.deviceName} serves subnet ${deployed.subnetId} (${why}${promise}) as deployment ${deployed.rev}${deployed.serveUrl === null ? '' : ` at ${deployed.serveUrl}`}.`,
  );
  return EXIT.done;
}
