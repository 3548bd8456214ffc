// `ofa-fleet serve`: the controller with its broker, until it is stopped.
import { randomBytes } from 'node:crypto';
import { networkInterfaces } from 'node:os';
import { resolve } from 'node:path';
import { uuidV7 } from '@ofa-fleet/shared/ids.ts';
import { defaultHostLockPath } from '@ofa-fleet/shared/node/host-lock.ts';
import { failed } from '@ofa-fleet/shared/outcome.ts';
import { createCampaignRunner } from '../campaigns/campaign-runner.ts';
import { startApi } from '../api/server.ts';
import { openController } from '../main.ts';
import { EXIT, fail, type Context } from './context.ts';

export interface ServeOptions {
  readonly state: string;
  readonly checkpoint: string;
  readonly data?: string;
  readonly validationImages?: number;
  readonly threads: number;
  readonly host: string;
  readonly mqttPort: number;
  readonly httpPort: number;
  readonly insecure: boolean;
}

const TOKEN_LIFETIME_MS = 86_400_000;

export async function serve(options: ServeOptions, context: Context): Promise<number> {
  if (!isLoopback(options.host) && !options.insecure) {
    return fail(
      context,
      failed('NOT_AUTHORISED', `${options.host} is reachable by other machines and nothing is encrypted yet: add --insecure where you trust the network, or stay on 127.0.0.1.`),
    ); // prettier-ignore
  }
  const stateDir = resolve(options.state);
  const log = (line: string) => (context.signal.aborted ? undefined : context.complain(line)); // what breaks at the end is meant to
  const opened = await openController({
    stateDir,
    checkpointPath: options.checkpoint,
    dataDir: options.data ?? null,
    validationImages: options.validationImages ?? null,
    host: options.host,
    mqttPort: options.mqttPort,
    hostLockPath: defaultHostLockPath(),
    threads: options.threads,
    log,
  });
  if (!opened.ok) return fail(context, opened);
  const controller = opened.value;
  const runner = await createCampaignRunner(controller, () => uuidV7(Date.now()), log);
  const token = randomBytes(32).toString('base64url');
  const api = await startApi({ controller, runner, stateDir, host: options.host, port: options.httpPort, token, log });
  try {
    if (!api.ok) return fail(context, api);
    const joining = await controller.fleet.createToken({ name: null, lifetimeMs: TOKEN_LIFETIME_MS });
    context.print(
      `Broker ${controller.fleet.brokerUrl}, HTTP ${api.value.url}, supernet ${controller.checkpoint.space.name}, state in ${stateDir}`,
    );
    for (const line of joinLines(options.host, controller.fleet.brokerUrl, api.value.url, joining)) context.print(line);
    context.print('Then, in another terminal: ofa-fleet search. Ctrl-C ends this controller; a search goes on when it is started again.');
    if (!context.signal.aborted) {
      await new Promise<void>((done) => context.signal.addEventListener('abort', () => done(), { once: true }));
    }
    context.print('Stopping.');
    return EXIT.done;
  } finally {
    if (api.ok) await api.value.close();
    await runner.close();
    await controller.close();
  }
}

/** The one line with which a device joins, from an empty machine with Node and npm. */
export function joinLines(host: string, brokerUrl: string, httpUrl: string, token: string): readonly string[] {
  const outer = host === '0.0.0.0' || host === '::' ? (firstAddress() ?? host) : host;
  const named = (url: string) => Object.assign(new URL(url), { hostname: outer });
  const http = named(httpUrl);
  const line = `npm exec --yes --ignore-scripts --package=${http.origin}/ofa-agent.tgz -- ofa-agent join mqtt://${named(brokerUrl).host} ${token}`;
  const note = isLoopback(host)
    ? 'Only this machine reaches it; for others start it with --host ADDRESS --insecure (on a network you trust).'
    : 'The token serves one machine, for a day; `ofa-fleet fleet --token` gives another.';
  return ['A device joins with this one line:', `  ${line}`, note];
}

function isLoopback(host: string): boolean {
  return host === 'localhost' || host === '::1' || /^127\.\d+\.\d+\.\d+$/.test(host);
}

function firstAddress(): string | null {
  const all = Object.values(networkInterfaces()).flatMap((addresses) => addresses ?? []);
  return all.find((address) => !address.internal && address.family === 'IPv4')?.address ?? null;
}
