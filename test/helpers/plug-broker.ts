// A real broker (the one that the controller embeds) with a smart plug's side of the talk: what the plug would publish, the test publishes.
import { once } from 'node:events';
import { createServer, type AddressInfo, type Socket } from 'node:net';
import { Aedes } from 'aedes';

export interface PlugBroker {
  readonly port: number;
  readonly url: string;
  /** Retained: the broker gives it to whoever subscribes later. */
  publish(topic: string, payload: unknown, retain?: boolean): void;
  /** Calls `answer` with each message that a client publishes. */
  onMessage(answer: (topic: string, payload: string) => void): void;
  /** Resolves once a client has subscribed to this filter. */
  subscribed(filter: string): Promise<void>;
  close(): Promise<void>;
}

export async function startPlugBroker(
  credentials: { readonly user: string; readonly password: string } | null = null,
): Promise<PlugBroker> {
  const aedes = await Aedes.createBroker({
    authenticate: (_client, user, password, done) =>
      done(null, credentials === null || (user === credentials.user && password?.toString() === credentials.password)),
  });
  aedes.on('clientError', () => undefined);
  aedes.on('connectionError', () => undefined);
  const filters = new Set<string>();
  aedes.on('subscribe', (subscriptions) => {
    for (const { topic } of subscriptions) filters.add(topic);
    aedes.emit('filters');
  });
  const sockets = new Set<Socket>();
  const server = createServer({ noDelay: true }, (socket) => {
    sockets.add(socket);
    aedes.handle(socket);
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  return {
    port,
    url: `mqtt://127.0.0.1:${port}`,
    publish(topic, payload, retain = false) {
      const text = typeof payload === 'string' ? payload : JSON.stringify(payload);
      aedes.publish({ cmd: 'publish', topic, payload: Buffer.from(text), qos: 0, retain, dup: false }, () => undefined);
    },
    onMessage(answer) {
      aedes.on('publish', (packet, client) => {
        if (client !== null) answer(packet.topic, packet.payload.toString());
      });
    },
    async subscribed(filter) {
      while (!filters.has(filter)) await once(aedes, 'filters');
    },
    async close() {
      await new Promise<void>((resolve) => aedes.close(resolve));
      const closed = new Promise<void>((resolve) => server.close(() => resolve()));
      for (const socket of sockets) socket.destroy();
      await closed;
    },
  };
}
