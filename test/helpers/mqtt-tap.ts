// A TCP proxy in front of a broker that reads along: every PUBLISH of either direction, as the bytes on the wire say it. Changes nothing.
import { once } from 'node:events';
import { connect, createServer, type AddressInfo, type Socket } from 'node:net';
import mqttPacket from 'mqtt-packet';

interface Tapped {
  readonly direction: 'to-broker' | 'to-client';
  readonly topic: string;
  readonly payload: Buffer;
}

export interface Tap {
  readonly url: string;
  readonly seen: readonly Tapped[];
  /** Breaks every connection that stands now. */
  cut(): void;
  close(): Promise<void>;
}

export async function startTap(brokerPort: number): Promise<Tap> {
  const seen: Tapped[] = [];
  const sockets = new Set<Socket>();
  const server = createServer({ noDelay: true }, (client) => {
    const broker = connect({ port: brokerPort, host: '127.0.0.1', noDelay: true });
    for (const [from, to, direction] of [
      [client, broker, 'to-broker'],
      [broker, client, 'to-client'],
    ] as const) {
      const parser = mqttPacket.parser();
      parser.on('packet', (packet) => {
        if (packet.cmd === 'publish') seen.push({ direction, topic: packet.topic, payload: Buffer.from(packet.payload) });
      });
      sockets.add(from);
      from.on('data', (chunk: Buffer) => {
        parser.parse(chunk);
        to.write(chunk);
      });
      from.on('error', () => to.destroy());
      from.on('close', () => {
        sockets.delete(from);
        to.destroy();
      });
    }
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const cut = () => {
    for (const socket of sockets) socket.destroy();
  };
  return {
    url: `mqtt://127.0.0.1:${(server.address() as AddressInfo).port}`,
    seen,
    cut,
    async close() {
      cut();
      server.close();
      await once(server, 'close');
    },
  };
}
