// `ofa-fleet demo`: the whole loop on one machine, told stage by stage. A run that was cut off, even by kill -9, goes on where it was.
import { statSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { defaultHostLockPath } from '@ofa-fleet/shared/node/host-lock.ts';
import { failed, ok, type Outcome } from '@ofa-fleet/shared/outcome.ts';
import type { FleetDevice } from '../fleet/fleet.ts';
import { openController, type Controller } from '../main.ts';
import { loadReportData } from '../report/data.ts';
import { summaryLines } from '../report/summary.ts';
import { writeReport } from '../report/write-report.ts';
import { readCheckpoint } from '../supernet/checkpoint.ts';
import { EXIT, fail, type Context } from './context.ts';
import { startDemoAgents } from './demo-agents.ts';
import { compareWithOthers, deployAndCheck } from './demo-deploy.ts';
import { END_MARK, setAsidePrevious } from './demo-folder.ts';
import { AGENTS, type DemoOptions, type DemoRun } from './demo-run.ts';
import { searchAll } from './demo-search.ts';
import { createLiveDisplay } from './live-display.ts';
import { checkpointLines, machineLines } from './machine.ts';

/** A demo that was cut off may be taken up again so much later. */
const TOKEN_LIFETIME_MS = 30 * 86_400_000;
/** From the end of the search until what only the comparison needs must be over; deployments and their checks are part of it. */
const COMPARISON_MS = 33_000;
const JOIN_LIMIT_MS = 30_000;
/** Enough to rank subnets that differ by two points; more would take the time of measurements. */
const VALIDATION_IMAGES = 500;

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
  const setAside = setAsidePrevious(out);
  if (!setAside.ok) return fail(context, setAside);
  if (setAside.value) print(`  The last demo's results are moved to ${options.out}.previous.`);
  const display = createLiveDisplay(process.stdout);
  let closing = false; // what breaks from then on is meant to
  const opened = await openController({
    stateDir: out,
    checkpointPath: options.checkpoint,
    dataDir: options.data ?? null,
    validationImages: VALIDATION_IMAGES,
    host: '127.0.0.1',
    mqttPort: 0,
    hostLockPath: defaultHostLockPath(),
    threads: options.threads,
    log: (line) => (closing ? undefined : display.note(`  ${line}`)),
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
    signal,
  });
  try {
    const run = { options, context, controller, display, out, capAt, comparisonEndsAt: capAt + COMPARISON_MS };
    const result = await stages(run);
    if (signal.aborted) {
      context.complain(`Stopped. What was measured is kept in ${options.out}: the same command goes on from there.`);
      return 130;
    }
    return result.ok ? result.value : fail(context, result);
  } finally {
    closing = true;
    display.end();
    await agents.stop();
    await controller.close();
  }
}

async function stages(run: DemoRun): Promise<Outcome<number>> {
  const { context, controller, options, out } = run;
  const { print, signal } = context;
  const joined = await waitForAgents(controller, signal);
  if (!joined.ok) return failed(joined.reason, `${joined.message} See the logs in ${join(options.out, 'agents')}.`);
  print(`  Broker at ${controller.fleet.brokerUrl}, on this machine alone.`);
  for (const { name, info } of joined.value)
    print(`  Agent ${name} has joined: ${info?.runtime.name ?? ''} ${info?.runtime.version ?? ''}, a process of its own.`);
  print('  They share this machine, so they measure in turns, and the controller evaluates in its own turn.');

  stage(context, 3, 'The search');
  const campaignId = await searchAll(run);
  if (!campaignId.ok) return campaignId;
  if (signal.aborted) return ok(EXIT.failed);

  stage(context, 4, 'One subnet for each device, deployed and asked');
  const agreed = await deployAndCheck(run, campaignId.value, joined.value);
  if (!agreed.ok) return agreed;
  const compared = await compareWithOthers(run, campaignId.value);
  if (!compared.ok) return compared;
  if (signal.aborted) return ok(EXIT.failed);

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
