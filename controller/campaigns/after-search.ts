// What belongs to a campaign once its subnets are measured: how far its numbers can be trusted, and joules where there is a sensor.
import type { Controller } from '../main.ts';
import { measureFrontEnergy } from './front-energy.ts';
import { measureRepeats } from './repeats.ts';

/** Until the signal aborts. Called again it goes on where it was: each measurement has a name, and one that exists is not made again. */
export async function afterSearch(controller: Pick<Controller, 'db' | 'fleet'>, campaignId: string, signal: AbortSignal): Promise<void> {
  await measureRepeats(controller, campaignId, signal);
  await measureFrontEnergy(controller, campaignId, signal);
}
