// The controller's HTTP side, for its own command line and for machines that fetch the agent. Loopback and a bearer token.
import { chmodSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fastify } from 'fastify';
import { failed, ok, type Outcome } from '@ofa-fleet/shared/outcome.ts';
import type { Controller } from '../main.ts';
import { agentPackageRoute } from './agent-package.ts';
import type { CampaignRunner } from '../campaigns/campaign-runner.ts';
import { campaignRoutes } from './campaigns.ts';
import { deploymentRoutes } from './deployments.ts';
import { deviceRoutes } from './devices.ts';
import { carriesToken, sendFailure } from './http.ts';

export interface ApiSettings {
  readonly controller: Controller;
  readonly runner: CampaignRunner;
  /** The address and token are left here for the command line, readable by this user alone. */
  readonly stateDir: string;
  readonly host: string;
  /** 0: any free one. */
  readonly port: number;
  readonly token: string;
  readonly log: (line: string) => void;
}

export interface Api {
  readonly url: string;
  close(): Promise<void>;
}

/** Where a running `serve` says how to reach it. */
export function addressFile(stateDir: string): string {
  return join(stateDir, 'api.json');
}

/** PORT_IN_USE where another program listens there. */
export async function startApi(settings: ApiSettings): Promise<Outcome<Api>> {
  const { controller, runner, host, port, token, log } = settings;
  const closing = new AbortController();
  const app = fastify({ forceCloseConnections: true, bodyLimit: 1024 * 1024 });
  app.setErrorHandler((error: Error & { statusCode?: number }, _, reply) => {
    const status = error.statusCode ?? 500;
    if (status < 500) return sendFailure(reply, failed('INVALID_INPUT', `${error.message}.`));
    log(`a request failed: ${error.stack ?? error.message}`);
    return sendFailure(reply, failed('CRASHED', `The controller could not answer: ${error.message}.`));
  });
  app.addHook('onRequest', async (request, reply) => {
    if (request.url.split('?')[0] === '/ofa-agent.tgz' || carriesToken(request, token)) return;
    await sendFailure(
      reply,
      failed('NOT_AUTHORISED', 'The bearer token is missing or wrong; the one that is right lies in api.json of the state folder.'),
    );
  });
  deviceRoutes(app, controller.fleet);
  campaignRoutes(app, controller.db, runner);
  deploymentRoutes(app, controller, closing.signal);
  agentPackageRoute(app, log);
  try {
    await app.listen({ host, port });
  } catch (error) {
    await app.close();
    return listenFailure(error, host, port);
  }
  const address = app.server.address();
  const bound = typeof address === 'object' && address !== null ? address.port : port;
  const url = `http://${host.includes(':') ? `[${host}]` : host === '0.0.0.0' ? '127.0.0.1' : host}:${bound}`;
  const file = addressFile(settings.stateDir);
  writeFileSync(file, `${JSON.stringify({ url, token, pid: process.pid })}\n`, { mode: 0o600 });
  chmodSync(file, 0o600);
  return ok({
    url,
    async close() {
      closing.abort();
      rmSync(file, { force: true });
      await app.close();
    },
  });
}

function listenFailure(error: unknown, host: string, port: number): Outcome<never> {
  const { code, message } = error as NodeJS.ErrnoException;
  if (code === 'EADDRINUSE') return failed('PORT_IN_USE', `Port ${port} on ${host} is taken by another program: give another one with --http-port, or 0 for any free one.`); // prettier-ignore
  if (code === 'EACCES')
    return failed('INVALID_INPUT', `Port ${port} needs rights that this user lacks: give one from 1024 up with --http-port.`);
  if (code === 'EADDRNOTAVAIL') return failed('INVALID_INPUT', `${host} is no address of this machine: give one that is with --host.`);
  return failed('INVALID_INPUT', `Cannot listen on ${host}:${port}: ${message}. Give another address with --host and --http-port.`);
}
