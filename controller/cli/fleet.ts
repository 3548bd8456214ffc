// `ofa-fleet fleet`: who is there; and a token for one more.
import { z } from 'zod';
import type { FleetDevice } from '../fleet/fleet.ts';
import { EXIT, fail, type Context } from './context.ts';
import { connectToServe } from './serve-client.ts';
import { joinLines } from './serve.ts';

export interface FleetOptions {
  readonly state: string;
  /** `true`: a token without a name. */
  readonly token?: string | true;
  readonly json: boolean;
}

export async function fleet(options: FleetOptions, context: Context): Promise<number> {
  const client = connectToServe(options.state);
  if (!client.ok) return fail(context, client);
  if (options.token !== undefined) {
    const made = await client.value.post('/api/tokens', { name: options.token === true ? null : options.token }, context.signal);
    if (!made.ok) return fail(context, made);
    const { token, brokerUrl } = z.object({ token: z.string(), brokerUrl: z.string() }).parse(made.value);
    const { hostname } = new URL(brokerUrl);
    for (const line of joinLines(hostname, brokerUrl, client.value.url, token)) context.print(line);
    return EXIT.done;
  }
  const answer = await client.value.get('/api/devices', context.signal);
  if (!answer.ok) return fail(context, answer);
  const devices = answer.value as readonly FleetDevice[];
  if (options.json) {
    context.print(JSON.stringify(devices, null, 1));
    return EXIT.done;
  }
  if (devices.length === 0) {
    context.print('No device has joined yet. `ofa-fleet fleet --token` prints the line with which one does.');
    return EXIT.done;
  }
  const rows = devices.map((device) => [
    device.name,
    device.quarantine === null ? device.presence : `${device.presence}, in quarantine`,
    device.deviceClass,
    device.info === null ? '' : `${device.info.runtime.name} on ${device.info.cpuModel}, ${device.info.cores} cores`,
    device.info === null || device.info.sensors.length === 0 ? 'no energy sensor' : device.info.sensors.join(', '),
    device.activeManifestSha256 === null
      ? 'serves nothing'
      : `serves ${device.activeManifestSha256.slice(0, 12)} at ${device.serveUrl ?? 'no HTTP address'}`,
  ]);
  for (const line of table(['name', 'presence', 'class', 'runs', 'energy', 'model'], rows)) context.print(line);
  for (const { name, quarantine } of devices) if (quarantine !== null) context.print(`${name} is in quarantine: ${quarantine}`);
  return EXIT.done;
}

function table(head: readonly string[], rows: readonly (readonly string[])[]): readonly string[] {
  const widths = head.map((title, column) => Math.max(title.length, ...rows.map((row) => row[column]?.length ?? 0)));
  return [head, ...rows].map((row) => row.map((cell, column) => cell.padEnd(widths[column] ?? 0)).join('  ').trimEnd()); // prettier-ignore
}
