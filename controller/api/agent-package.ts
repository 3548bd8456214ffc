// Hands out the agent to machines that want to join, packed from this checkout when first asked for.
import { spawn } from 'node:child_process';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { FastifyInstance } from 'fastify';
import { failed, ok, type Outcome } from '@ofa-fleet/shared/outcome.ts';
import { sendFailure } from './http.ts';

const ROOT = fileURLToPath(new URL('../../', import.meta.url));

/** `GET /ofa-agent.tgz` asks for no token: it holds public code and no secret. */
export function agentPackageRoute(app: FastifyInstance, log: (line: string) => void): void {
  let packed: Promise<Outcome<Buffer>> | null = null;
  app.get('/ofa-agent.tgz', async (_, reply) => {
    packed ??= packAgent(log);
    const bytes = await packed;
    if (!bytes.ok) {
      packed = null;
      return sendFailure(reply, bytes);
    }
    return reply.type('application/gzip').send(bytes.value);
  });
}

async function packAgent(log: (line: string) => void): Promise<Outcome<Buffer>> {
  const child = spawn(process.execPath, [join(ROOT, 'agent', 'pack.ts')], { cwd: ROOT, stdio: ['ignore', 'pipe', 'pipe'] });
  let said = '';
  for (const stream of [child.stdout, child.stderr]) stream.on('data', (chunk: Buffer) => (said += chunk.toString()));
  const code = await new Promise<number | null>((resolve) => {
    child.on('error', () => resolve(null));
    child.on('exit', resolve);
  });
  const dist = join(ROOT, 'dist');
  const name = code === 0 ? readdirSync(dist).filter((file) => /^ofa-agent-.*\.tgz$/.test(file)).sort().at(-1) : undefined; // prettier-ignore
  if (name !== undefined) return ok(readFileSync(join(dist, name)));
  log(`packing the agent failed: ${said.trim().split('\n').at(-1) ?? ''}`);
  return failed(
    'CRASHED',
    `The agent could not be packed (exit code ${code ?? 'none'}): run \`npm run pack:agent\` on the controller to see why.`,
  );
}
