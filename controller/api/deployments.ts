// Deployments: the subnet that a campaign chose for a device's class becomes what that device serves.
import type { FastifyInstance } from 'fastify';
import { z } from 'zod';
import { failed, ok, type Outcome } from '@ofa-fleet/shared/outcome.ts';
import type { Controller } from '../main.ts';
import { budgetOf } from '../report/comparison.ts';
import { loadReportData } from '../report/data.ts';
import { chooseWithinBudget } from '../search/choose.ts';
import type { LatencyEstimate } from '../search/trial.ts';
import { listCampaigns } from '../store/campaigns.ts';
import { parseBody, sendFailure } from './http.ts';

const DEPLOY_LIMIT_MS = 120_000;

const deploymentRequestSchema = z.object({
  /** Id or name. */
  device: z.string().min(1).max(64),
  /** null: the newest. */
  campaignId: z.string().max(64).nullable(),
  /** null: the campaign's own, by default the median of what the class measured. */
  budgetMs: z.number().positive().nullable(),
  /** A measured subnet, instead of a choice by budget. */
  subnetId: z.string().max(64).nullable(),
});
export type DeploymentRequest = z.infer<typeof deploymentRequestSchema>;

export interface Deployed {
  readonly deviceId: string;
  readonly deviceName: string;
  readonly deviceClass: string;
  readonly subnetId: string;
  readonly rev: number;
  readonly budgetMs: number | null;
  readonly promised: LatencyEstimate | null;
  readonly serveUrl: string | null;
}

export function deploymentRoutes(app: FastifyInstance, controller: Controller, closing: AbortSignal): void {
  app.post('/api/deployments', async (request, reply) => {
    const body = parseBody(deploymentRequestSchema, request.body);
    if (!body.ok) return sendFailure(reply, body);
    const deployed = await deployChoice(controller, body.value, AbortSignal.any([closing, AbortSignal.timeout(DEPLOY_LIMIT_MS)]));
    return deployed.ok ? deployed.value : sendFailure(reply, deployed);
  });
}

/** Chooses, deploys, and waits until the device answers with the new model. */
async function deployChoice(
  { db, fleet }: Controller,
  { device: wanted, campaignId, budgetMs, subnetId }: DeploymentRequest,
  signal: AbortSignal,
): Promise<Outcome<Deployed>> {
  const devices = await fleet.devices();
  const device = devices.find(({ deviceId, name }) => deviceId === wanted || name === wanted);
  if (device === undefined) {
    const names = devices.map(({ name }) => name).join(', ');
    return failed(
      'NOT_FOUND',
      `There is no device "${wanted}"; the fleet has ${names === '' ? 'none: join one with `ofa-fleet fleet --token`' : names}.`,
    );
  }
  const newest = campaignId ?? (await listCampaigns(db))[0]?.id;
  if (newest === undefined)
    return failed('NOT_FOUND', 'Nothing has been searched yet, so there is nothing to deploy: run `ofa-fleet search` first.');
  const loaded = await loadReportData(db, newest);
  if (!loaded.ok) return loaded;
  const { trials, artifacts } = loaded.value;
  const { deviceClass } = device;
  const limitMs = budgetMs ?? budgetOf(loaded.value, deviceClass)?.latencyMs ?? null;
  const trial =
    subnetId === null
      ? chooseWithinBudget(trials, deviceClass, { latencyMs: limitMs ?? Infinity })
      : named(trials.find((one) => one.subnetId === subnetId), subnetId, newest); // prettier-ignore
  if (!trial.ok) return trial;
  const manifestSha256 = artifacts.get(trial.value.subnetId)?.manifestSha256;
  if (manifestSha256 === undefined) return failed('NOT_FOUND', `Subnet ${trial.value.subnetId} has no artifact any more; search again.`);
  const deployed = await fleet.deploy(device.deviceId, manifestSha256, signal);
  if (!deployed.ok) return deployed;
  const now = (await fleet.devices()).find(({ deviceId }) => deviceId === device.deviceId);
  return ok({
    deviceId: device.deviceId,
    deviceName: device.name,
    deviceClass,
    subnetId: trial.value.subnetId,
    rev: deployed.value.rev,
    budgetMs: subnetId === null ? limitMs : null,
    promised: trial.value.latencyMs[deviceClass] ?? null,
    serveUrl: now?.serveUrl ?? null,
  });
}

function named<T>(trial: T | undefined, subnetId: string, campaignId: string): Outcome<T> {
  return trial === undefined
    ? failed('NOT_FOUND', `Campaign ${campaignId} has not measured a subnet ${subnetId}; \`ofa-fleet report\` lists those it has.`)
    : ok(trial);
}
