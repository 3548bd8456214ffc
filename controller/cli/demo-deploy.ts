// The demo's deployments, checked by the same test images through each; and the rest of the comparison, as far as time allows.
import { failed, ok, type Outcome } from '@ofa-fleet/shared/outcome.ts';
import { afterSearch } from '../campaigns/after-search.ts';
import { measureRepeats } from '../campaigns/repeats.ts';
import type { FleetDevice } from '../fleet/fleet.ts';
import { budgetOf, subnetsToTest } from '../report/comparison.ts';
import { loadReportData, type ReportData } from '../report/data.ts';
import { milliseconds, percent, threeDigits } from '../report/format.ts';
import { LEAST_PAIRS } from '../report/process-spread.ts';
import { chooseWithinBudget } from '../search/choose.ts';
import { measureRandomBaseline } from './demo-baseline.ts';
import { AGENTS, type DemoRun } from './demo-run.ts';
import { checkServed, LEAST_AGREEMENT } from './served-check.ts';

const DEPLOY_LIMIT_MS = 30_000;
const SERVED_IMAGES = 500;

/** True where every deployed model answers as the controller's own runtime does. INFEASIBLE where nothing keeps any budget. */
export async function deployAndCheck(run: DemoRun, campaignId: string, devices: readonly FleetDevice[]): Promise<Outcome<boolean>> {
  const { display, controller } = run;
  const data = await loadReportData(controller.db, campaignId);
  if (!data.ok) return data;
  let agreed = true;
  let deployed = 0;
  for (const device of devices) {
    const choice = choiceFor(data.value, device.deviceClass);
    if (!choice.ok) {
      display.note(`  ${choice.message}`);
      continue;
    }
    const checked = await deployOne(run, campaignId, device, choice.value);
    if (!checked.ok) return checked;
    deployed++;
    agreed &&= checked.value;
  }
  if (deployed === 0) {
    return failed(
      'INFEASIBLE',
      'Nothing was deployed: no measured subnet keeps the budget on any device. Allow more with --budget or --cap.',
    );
  }
  return ok(agreed);
}

async function deployOne(
  { context, controller, options }: DemoRun,
  campaignId: string,
  device: FleetDevice,
  { trial, manifestSha256, budgetMs }: Choice,
): Promise<Outcome<boolean>> {
  const { print, signal } = context;
  const answer = await controller.fleet.deploy(
    device.deviceId,
    manifestSha256,
    AbortSignal.any([signal, AbortSignal.timeout(DEPLOY_LIMIT_MS)]),
  );
  if (!answer.ok) return failed(answer.reason, `Agent ${device.name} did not take its model: ${answer.message}`);
  const promised = trial.latencyMs[device.deviceClass];
  print(
    `  ${device.name} serves ${trial.subnetId.slice(0, 8)}: the least error within ${threeDigits(budgetMs)} ms${promised === undefined ? '' : `, measured at ${milliseconds(promised)}`}.`,
  );
  const now = (await controller.fleet.devices()).find(({ deviceId }) => deviceId === device.deviceId) ?? device;
  const request = { campaignId, device: now, subnetId: trial.subnetId, subnet: trial.subnet, images: SERVED_IMAGES };
  const checks = await checkServed(controller, request, signal);
  if (!checks.ok) return checks;
  for (const { carrier, agreeing, images } of checks.value) {
    print(
      `  ${device.name} by ${carrier.toUpperCase()}: ${agreeing} of ${images} test images answered as the controller's own runtime does (${percent(agreeing / images)}).`,
    );
  }
  if (checks.value.every(({ agreeing, images }) => agreeing >= LEAST_AGREEMENT * images)) return ok(true);
  context.complain(
    `${device.name} answers otherwise than the model it was given: at least ${percent(LEAST_AGREEMENT)} must agree. Look at ${options.out}/report.html, and do not trust this deployment.`,
  );
  return ok(false);
}

/** Random baselines and test errors. What is not there when the time is over is missing from the summary, and said to be. */
export async function compareWithOthers({ context, controller, comparisonEndsAt }: DemoRun, campaignId: string): Promise<Outcome<null>> {
  const { print } = context;
  const signal = AbortSignal.any([context.signal, AbortSignal.timeout(Math.max(1, Math.round(comparisonEndsAt - performance.now())))]);
  // the least that tells processes apart comes first; the rest where time is left
  await measureRepeats(controller, campaignId, signal, LEAST_PAIRS);
  const before = await loadReportData(controller.db, campaignId);
  if (!before.ok) return before;
  const baselines = await Promise.all(
    AGENTS.map(async ({ name }) => ({ name, why: await measureRandomBaseline(controller, before.value, name, signal) })),
  );
  for (const { name, why } of baselines)
    if (why !== null && !signal.aborted) print(`  No random subnet to compare with on ${name}: ${why}`);
  const data = await loadReportData(controller.db, campaignId);
  if (!data.ok) return data;
  for (const trial of subnetsToTest(data.value)) {
    const tested = await controller.testAccuracy(trial.subnet, signal);
    if (!tested.ok && tested.reason !== 'CANCELED') return tested;
  }
  await afterSearch(controller, campaignId, signal); // what the search had no time for
  if (signal.aborted && !context.signal.aborted) print('  Time is over: what could not be compared any more is left out below.');
  return ok(null);
}

interface Choice {
  readonly trial: ReportData['trials'][number];
  readonly manifestSha256: string;
  readonly budgetMs: number;
}

function choiceFor(
  data: ReportData,
  deviceClass: string,
): Outcome<{ trial: ReportData['trials'][number]; manifestSha256: string; budgetMs: number }> {
  const budget = budgetOf(data, deviceClass);
  if (budget === null)
    return failed(
      'NOT_FOUND',
      `Nothing was measured on ${deviceClass}, so nothing can be chosen for it: give the search more time with --cap.`,
    );
  const trial = chooseWithinBudget(data.trials, deviceClass, budget);
  if (!trial.ok) return trial;
  const manifestSha256 = data.artifacts.get(trial.value.subnetId)?.manifestSha256;
  if (manifestSha256 === undefined) throw new Error(`subnet ${trial.value.subnetId} was measured without an artifact`);
  return ok({ trial: trial.value, manifestSha256, budgetMs: budget.latencyMs });
}
