// `ofa-fleet demo`: the whole loop on one machine, told stage by stage. A run that was cut off, even by kill -9, goes on where it was.
import { existsSync, renameSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { systemClock } from '@ofa-fleet/shared/clock.ts';
import { uuidV7 } from '@ofa-fleet/shared/ids.ts';
import { DEFAULT_PLAN } from '@ofa-fleet/shared/measurement.ts';
import { defaultHostLockPath } from '@ofa-fleet/shared/node/host-lock.ts';
import { failed, ok, type Outcome } from '@ofa-fleet/shared/outcome.ts';
import { measureFrontEnergy } from '../api/front-energy.ts';
import { runCampaign } from '../campaign.ts';
import type { FleetDevice } from '../fleet/fleet.ts';
import { openController, type Controller } from '../main.ts';
import { budgetOf, subnetsToTest } from '../report/comparison.ts';
import { loadReportData, type ReportData } from '../report/data.ts';
import { milliseconds, percent, threeDigits } from '../report/format.ts';
import { summaryLines } from '../report/summary.ts';
import { writeReport } from '../report/write-report.ts';
import { chooseWithinBudget } from '../search/choose.ts';
import { createCampaign, endCampaign, listCampaigns, loadCampaign } from '../store/campaigns.ts';
import { readCheckpoint } from '../supernet/checkpoint.ts';
import { EXIT, fail, type Context } from './context.ts';
import { startDemoAgents, type DemoAgent } from './demo-agents.ts';
import { measureRandomBaseline } from './demo-baseline.ts';
import { createLiveDisplay, type LiveDisplay } from './live-display.ts';
import { checkpointLines, machineLines } from './machine.ts';
import { progressLines } from './progress-lines.ts';
import { checkServed, LEAST_AGREEMENT } from './served-check.ts';

export interface DemoOptions {
  readonly subnets: number;
  /** Seconds from the start of the demo to the end of its search. */
  readonly cap: number;
  readonly budget?: number;
  readonly seed: number;
  readonly out: string;
  readonly checkpoint: string;
  readonly data?: string;
  readonly threads: number;
}

const AGENTS: readonly DemoAgent[] = [
  { name: 'native', runtime: 'onnxruntime-node' },
  { name: 'wasm', runtime: 'onnxruntime-web' },
];
/** A demo that was cut off may be taken up again so much later. */
const TOKEN_LIFETIME_MS = 30 * 86_400_000;
const JOIN_LIMIT_MS = 30_000;
const DEPLOY_LIMIT_MS = 30_000;
/** Enough to rank subnets that differ by two points; more would take the time of measurements. */
const VALIDATION_IMAGES = 1000;
const SERVED_IMAGES = 500;
/** Written last: a folder that holds it is that of a demo which came to its end. */
const END_MARK = 'summary.txt';

interface Demo {
  readonly options: DemoOptions;
  readonly context: Context;
  readonly controller: Controller;
  readonly display: LiveDisplay;
  readonly out: string;
  readonly capAt: number;
}

export async function demo(options: DemoOptions, context: Context): Promise<number> {
  const capAt = performance.now() + options.cap * 1000;
  const out = resolve(options.out);
  const { print, signal } = context;
  stage(context, 1, 'This machine, and the supernet');
  const checkpoint = readCheckpoint(options.checkpoint);
  if (!checkpoint.ok) return fail(context, checkpoint);
  for (const line of [...(await machineLines(signal)), ...checkpointLines(checkpoint.value, statSync(options.checkpoint).size)])
    print(`  ${line}`);

  stage(context, 2, 'A controller with its MQTT broker, and two agents');
  if (existsSync(join(out, END_MARK))) {
    rmSync(`${out}.previous`, { recursive: true, force: true });
    renameSync(out, `${out}.previous`);
    print(`  The last demo's results are moved to ${options.out}.previous.`);
  }
  const display = createLiveDisplay(process.stdout);
  const opened = await openController({
    stateDir: out,
    checkpointPath: options.checkpoint,
    dataDir: options.data ?? null,
    validationImages: VALIDATION_IMAGES,
    host: '127.0.0.1',
    mqttPort: 0,
    hostLockPath: defaultHostLockPath(),
    threads: options.threads,
    log: (line) => display.note(`  ${line}`),
  });
  if (!opened.ok) return fail(context, opened);
  const controller = opened.value;
  const { fleet } = controller;
  const agents = await startDemoAgents({
    agents: AGENTS,
    brokerUrl: fleet.brokerUrl,
    createToken: (name) => fleet.createToken({ name, lifetimeMs: TOKEN_LIFETIME_MS }),
    directory: join(out, 'agents'),
    notice: (line) => display.note(`  ${line}`),
  });
  try {
    const result = await stages({ options, context, controller, display, out, capAt });
    if (signal.aborted) {
      context.complain(`Stopped. What was measured is kept in ${options.out}: the same command goes on from there.`);
      return 130;
    }
    return result.ok ? result.value : fail(context, result);
  } finally {
    display.end();
    await agents.stop();
    await controller.close();
  }
}

async function stages(run: Demo): Promise<Outcome<number>> {
  const { context, controller, options, out } = run;
  const { print, signal } = context;
  const joined = await waitForAgents(controller, signal);
  if (!joined.ok) return failed(joined.reason, `${joined.message} See the logs in ${join(options.out, 'agents')}.`);
  print(`  Broker at ${controller.fleet.brokerUrl}, on this machine alone.`);
  for (const { name, info } of joined.value)
    print(`  Agent ${name} has joined: ${info?.runtime.name ?? ''} ${info?.runtime.version ?? ''}, a process of its own.`);
  print('  They share this machine, so they measure in turns, and the controller evaluates in its own turn.');

  stage(context, 3, 'The search');
  const campaignId = await search(run);
  if (!campaignId.ok) return campaignId;

  stage(context, 4, 'One subnet for each device, deployed and asked');
  const agreed = await deployAndCheck(run, campaignId.value, joined.value);
  if (!agreed.ok) return agreed;

  stage(context, 5, 'What came of it');
  const data = await loadReportData(controller.db, campaignId.value);
  if (!data.ok) return data;
  const written = writeReport(data.value, out);
  if (!written.ok) return written;
  const lines = summaryLines(data.value);
  for (const line of lines) print(line);
  print('');
  print(
    `Everything is in ${options.out}/: report.html (every number leads to its raw data), front.svg, trials.csv, trials.json, samples/, and the campaign itself in fleet.sqlite.`,
  );
  writeFileSync(join(out, END_MARK), `${lines.join('\n')}\n`);
  return ok(agreed.value ? EXIT.done : EXIT.failed);
}

function stage({ print }: Context, number: number, title: string): void {
  print(`${number === 1 ? '' : '\n'}${number}/5 ${title}`);
}

async function waitForAgents({ fleet }: Controller, signal: AbortSignal): Promise<Outcome<readonly FleetDevice[]>> {
  const limit = AbortSignal.any([signal, AbortSignal.timeout(JOIN_LIMIT_MS)]);
  for (;;) {
    const changed = new Promise<void>((resolve) => {
      const stopListening = fleet.onDevices(done);
      limit.addEventListener('abort', done, { once: true });
      function done(): void {
        stopListening();
        limit.removeEventListener('abort', done);
        resolve();
      }
    });
    const devices = (await fleet.devices()).filter(
      ({ presence, name, info }) => presence === 'online' && info !== null && AGENTS.some((agent) => agent.name === name),
    );
    const newest = [...new Map(devices.map((device) => [device.name, device])).values()];
    if (newest.length === AGENTS.length) return ok(newest);
    if (limit.aborted) return failed('UNREACHABLE', `${newest.length} of ${AGENTS.length} agents joined within ${JOIN_LIMIT_MS / 1000} s.`);
    await changed;
  }
}

/** The id of the campaign, at its end. */
async function search({ options, context, controller, display, capAt }: Demo): Promise<Outcome<string>> {
  const { db, fleet } = controller;
  const campaign = await campaignToRun(controller, options, context);
  if (!campaign.ok) return campaign;
  if (campaign.value.ended) return ok(campaign.value.id);
  const end = new AbortController();
  const timer = setTimeout(() => end.abort('cap'), Math.max(0, capAt - performance.now()));
  try {
    const outcome = await runCampaign(
      {
        db,
        fleet,
        prepare: (subnet, signal) => controller.prepare(subnet, signal),
        clock: systemClock,
        onProgress: (progress) => {
          if (progress.note !== null) display.note(`  ${progress.note}`);
          display.show([...progressLines(progress), `  at most ${Math.max(0, Math.round((capAt - performance.now()) / 1000))} s more`]);
        },
      },
      campaign.value.id,
      { end: end.signal, leave: context.signal },
    );
    display.end();
    if (!outcome.ok) return outcome;
    context.print(`  ${outcome.value.message}`);
    if (outcome.value.reason === 'failed') return failed('LOW_DISK', 'The search could not go on.');
    await measureFrontEnergy(controller, campaign.value.id, AbortSignal.any([context.signal, end.signal]));
    return ok(campaign.value.id);
  } finally {
    clearTimeout(timer);
  }
}

/** The campaign of an earlier run with the same wishes and the same supernet, or a new one. */
async function campaignToRun(
  controller: Controller,
  options: DemoOptions,
  { print }: Context,
): Promise<Outcome<{ readonly id: string; readonly ended: boolean }>> {
  const { db, weightsHash, splits, checkpoint } = controller;
  const budgetMs = options.budget ?? null;
  const earlier = (await listCampaigns(db))[0];
  if (earlier !== undefined) {
    const loaded = await loadCampaign(db, earlier.id);
    const settings = loaded.ok ? loaded.value.settings : null;
    const same =
      settings?.subnets === options.subnets &&
      settings.seed === options.seed &&
      settings.budgetMs === budgetMs &&
      settings.validationSplit === splits.validation;
    // one that ended with nothing measured has nothing to go on with
    const useful = earlier.endedReason === null || (loaded.ok && loaded.value.tells.some(({ outcome }) => outcome.ok));
    if (loaded.ok && same && useful && loaded.value.weightsHash === weightsHash) {
      print(`  Going on with the demo that was cut off: ${earlier.asks} subnets asked, ${earlier.tells} results so far.`);
      return ok({ id: earlier.id, ended: earlier.endedReason !== null });
    }
    await endCampaign(db, earlier.id, 'stopped');
    print('  An earlier demo with other wishes, another supernet or no result is left as it is; this one starts anew.');
  }
  const id = uuidV7(Date.now());
  const settings = { subnets: options.subnets, seed: options.seed, algorithm: 'nsga2' as const, deviceClasses: AGENTS.map(({ name }) => name), plan: DEFAULT_PLAN, budgetMs, validationSplit: splits.validation, testSplit: splits.test, space: checkpoint.space }; // prettier-ignore
  await createCampaign(db, { id, at: Date.now(), settings, weightsHash });
  return ok({ id, ended: false });
}

/** True where every deployed model answers as the controller's own runtime does. */
async function deployAndCheck(
  { context, controller, display, options }: Demo,
  campaignId: string,
  devices: readonly FleetDevice[],
): Promise<Outcome<boolean>> {
  const { print, signal } = context;
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
    if (!tested.ok) return tested;
  }
  let agreed = true;
  let deployed = 0;
  for (const device of devices) {
    const choice = choiceFor(data.value, device.deviceClass);
    if (!choice.ok) {
      display.note(`  ${choice.message}`);
      continue;
    }
    const { trial, manifestSha256, budgetMs } = choice.value;
    const answer = await controller.fleet.deploy(
      device.deviceId,
      manifestSha256,
      AbortSignal.any([signal, AbortSignal.timeout(DEPLOY_LIMIT_MS)]),
    );
    if (!answer.ok) return failed(answer.reason, `Agent ${device.name} did not take its model: ${answer.message}`);
    deployed++;
    print(
      `  ${device.name} serves ${trial.subnetId.slice(0, 8)}: the least error within ${threeDigits(budgetMs)} ms, measured at ${milliseconds(trial.latencyMs[device.deviceClass] ?? { value: NaN, ci: null })}.`,
    );
    const now = (await controller.fleet.devices()).find(({ deviceId }) => deviceId === device.deviceId) ?? device;
    const checks = await checkServed(
      controller,
      { campaignId, device: now, subnetId: trial.subnetId, subnet: trial.subnet, images: SERVED_IMAGES },
      signal,
    );
    if (!checks.ok) return checks;
    for (const { carrier, agreeing, images } of checks.value) {
      const enough = agreeing >= LEAST_AGREEMENT * images;
      print(
        `  ${device.name} by ${carrier.toUpperCase()}: ${agreeing} of ${images} test images answered as the controller's own runtime does (${percent(agreeing / images)}).`,
      );
      if (!enough) {
        agreed = false;
        context.complain(
          `${device.name} answers otherwise than the model it was given: at least ${percent(LEAST_AGREEMENT)} must agree. Look at ${options.out}/report.html, and do not trust this deployment.`,
        );
      }
    }
  }
  if (deployed === 0)
    return failed(
      'INFEASIBLE',
      `Nothing was deployed: no measured subnet keeps the budget on any device. Allow more with --budget, or leave it out.`,
    );
  return ok(agreed);
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
